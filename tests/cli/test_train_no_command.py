"""``lsn train-no``: from pairs, from a learned encoder, from two matrices."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from training_samples import CLASSES

from lsncli.artefacts.heads import load_head
from lsncli.prompts import clipn
from lsncli.training import checkpoints as resume
from lsncli.types import unit

QUICK = ["--epochs", "2", "--batch-size", "8", "--rate", "3e-5", "--templates", "hand", "--device", "cpu"]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """20 small images with captions, and one that is not there."""
    random = np.random.default_rng(2)
    with open(tmp_path / "pairs.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "caption"])
        for number in range(20):
            colour = random.integers(0, 255, 3)
            Image.fromarray(np.full((32, 32, 3), colour, np.uint8)).save(tmp_path / f"{number}.png")
            writer.writerow([f"{number}.png", f"the colour {colour[0]} of number {number}"])
        writer.writerow(["gone.png", "nothing"])
    return tmp_path / "pairs.csv"


def test_pairs_make_an_encoder_and_a_head(lsn, work, pairs) -> None:
    done = lsn("train-no", pairs, *QUICK, "--format", "json")
    assert done.code == 0, done.err
    (row,) = json.loads(done.out)
    about = {"head": "clipn", "classes": 3, "templates": "hand", "pairs": 20, "failures": 1, "epochs": 2}
    assert about.items() <= row.items()
    assert row["last_loss"] < row["first_loss"]
    assert "Left out: gone.png: no such file." in done.err
    assert "Next: lsn eval --method clipn" in done.err
    assert {path.name for path in work.iterdir()} >= {"no-tower.safetensors", "clipn.head.safetensors"}
    head = load_head(work / "clipn.head.safetensors", "clipn")
    (work / "clipn.head.safetensors").unlink()
    done = lsn("train-no", "--tower", work / "no-tower.safetensors", *QUICK, "--quiet")
    assert (done.code, done.err) == (0, "")
    again = load_head(work / "clipn.head.safetensors", "clipn")
    assert np.array_equal(again.negative, head.negative)
    assert again.history == head.history
    assert lsn("calibrate", "--method", "clipn,form=ctw").code == 0


def test_two_matrices_make_a_head_without_a_model(lsn, work, tmp_path) -> None:
    random = np.random.default_rng(4)
    yes, no = random.normal(size=(3, 32)), random.normal(size=(2, 3, 32))
    np.save(tmp_path / "yes.npy", yes)
    np.save(tmp_path / "no.npy", no)
    done = lsn("train-no", "--yes", "yes.npy", "--no", "no.npy", "--format", "json")
    (row,) = json.loads(done.out)
    assert (row["templates"], row["pairs"], row["epochs"]) == ("imported", None, None)
    head = load_head(work / "clipn.head.safetensors", "clipn")
    np.testing.assert_allclose(head.negative, unit(no))
    assert head.classes == CLASSES
    np.save(tmp_path / "no.npy", no[:, :2])
    done = lsn("train-no", "--yes", "yes.npy", "--no", "no.npy")
    assert done.code == 1
    assert "expected 3 classes x 32 dimensions, found the shape (2, 2, 32)" in done.err


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--yes", "yes.npy"],
        ["--no", "no.npy"],
        ["pairs.csv", "--tower", "x"],
        ["pairs.csv", "--no", "no.npy"],
        ["--tower", "x", "--yes", "yes.npy", "--no", "no.npy"],
    ],
)
def test_one_of_three_ways_must_be_named(lsn, work, words) -> None:
    done = lsn("train-no", *words)
    assert done.code == 2
    assert "one of the three" in done.err


def test_too_many_broken_images_end_it_before_learning(lsn, work, pairs) -> None:
    done = lsn("train-no", pairs, *QUICK, "--max-failure-rate", "0.01")
    assert done.code == 3
    assert "1 of 21 pairs failed" in done.err
    assert not (work / "no-tower.safetensors").exists()


def test_an_interrupted_training_says_how_to_go_on(lsn, work, pairs, monkeypatch) -> None:
    monkeypatch.setattr(resume, "SAVE_SECONDS", 0.0)
    real, calls = clipn.objective, []

    def interrupted(*arguments, **options):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(clipn, "objective", interrupted)
    done = lsn("train-no", pairs, *QUICK)
    assert done.code == 130
    assert "Interrupted. The same command resumes after the last epoch." in done.err
    done = lsn("train-no", pairs, *QUICK)
    assert done.code == 0
    assert "Resuming after epoch 1 of 2" in done.err
