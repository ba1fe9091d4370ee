"""``lsn explain``: pictures, numbers and refusals."""

import json

import numpy as np
import pytest
from PIL import Image
from training_samples import QUICK, features_of

from lsncli.cli.app import main


@pytest.fixture(scope="module")
def work(tmp_path_factory, tiny_backbone):
    """A workspace with learned prompts, positive and negative."""
    folder = features_of(tiny_backbone.fingerprint, tmp_path_factory.mktemp("explain"))
    for command in ("train-pos", "train-neg"):
        with pytest.raises(SystemExit) as stop:
            main([command, "--work", str(folder), *QUICK, "--quiet"])
        assert stop.value.code == 0
    pixels = np.random.default_rng(4).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "an image.png")
    return folder


def test_the_predicted_class_gets_a_sheet_pictures_and_numbers(lsn, work, tmp_path) -> None:
    words = ("explain", work / "an image.png", "--work", work, "--device", "cpu", "--to", "out")
    done = lsn(*words, "--format", "json")
    assert done.code == 0, done.err
    rows = json.loads(done.out)
    assert [row["prompt"] for row in rows] == ["positive", "negative 1", "negative 2", "negative 3"]
    assert len({row["class"] for row in rows}) == 1
    numbers = json.loads((tmp_path / "out" / "an image.explain.json").read_text())
    assert numbers["predicted"] == rows[0]["class"]
    assert [one["cosine"] for one in numbers["maps"]] == [row["cosine"] for row in rows]
    for row in rows:
        with Image.open(tmp_path / row["file"]) as picture:
            assert picture.size == (336, 336)
    with Image.open(tmp_path / "out" / "an image.explain.png") as sheet:
        assert sheet.width > 5 * 336
    again = lsn(*words, "--format", "json")
    assert again.out == done.out


def test_another_class_is_shown_beside_the_predicted_one(lsn, work, tmp_path) -> None:
    words = ("explain", work / "an image.png", "--work", work, "--device", "cpu", "--format", "json")
    for name in ("cat", "dog", "small red bird"):
        words = (*words, "--class", name)
    rows = json.loads(lsn(*words).out)
    assert {row["class"] for row in rows} == {"cat", "dog", "small red bird"}
    assert len(rows) == 12
    assert len({row["file"] for row in rows}) == 12


def test_hand_written_prompts_need_no_learning(lsn, tiny_backbone, work, tmp_path) -> None:
    folder = features_of(tiny_backbone.fingerprint, tmp_path / "untrained")
    done = lsn("explain", work / "an image.png", "--work", folder, "--device", "cpu")
    assert done.code == 0, done.err
    assert "No negative prompts" in done.err
    assert "positive" in done.out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["an image.png", "--class", "hen"], 2, "found 'hen'"),
        (["an image.png", "--head", "linear"], 2, "--head: expected one of"),
        (["an image.png", "--head", "hand", "--train", "absent"], 1, "no split 'absent'"),
        (["absent.png"], 2, "There is no"),
        (["an image.png", "--to", "an image.png"], 1, "cannot be written"),
    ],
)
def test_what_cannot_be_meant_is_refused(lsn, work, monkeypatch, words, code, message) -> None:
    monkeypatch.chdir(work)
    done = lsn("explain", *words, "--work", work, "--device", "cpu")
    assert (done.code, done.out) == (code, "")
    assert message in done.err
