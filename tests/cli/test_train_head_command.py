"""``lsn train-head``: a head from the store, or a tuned tower, a model of its own, and all that follows."""

import json
import shlex
from pathlib import Path

import pytest
from photo_samples import photos

from lsncli.artefacts.heads import load_head
from lsncli.cli import train_head
from lsncli.cli.train_head import HeadOptions

QUICK = ["--tune", "last-blocks", "--epochs", "2", "--batch-size", "8", "--rate", "1e-3", "--device", "cpu"]


def test_a_linear_head_is_one_row_of_data_and_a_remark(lsn, work: Path) -> None:
    done = lsn("train-head", "--format", "json", "--device", "cpu")
    assert done.code == 0, done.err
    (row,) = json.loads(done.out)
    about = {"head": "linear", "tuned": None, "classes": 3, "rows": 24, "held_out": 6, "accuracy": 1.0}
    assert about.items() <= row.items()
    assert row["c"] == load_head(work / "linear.head.safetensors", "linear").settings["c"]
    assert row["seconds"] > 0
    assert "Next: lsn calibrate --method msp:linear" in done.err
    assert lsn("calibrate", "--method", "msp:linear").code == 0


def test_the_strength_given_is_the_strength_taken(lsn, work: Path) -> None:
    (row,) = json.loads(lsn("train-head", "--c", "3.5", "--format", "json").out)
    assert row["c"] == 3.5
    assert lsn("train-head", "--c", "0").code == 2


def test_quiet_says_nothing(lsn, work: Path, tmp_path: Path, tiny_model: str) -> None:
    tuning = [photos(tmp_path / "photos", 4), *QUICK, "--model", tiny_model, "--work", "tuned"]
    for words in ([], tuning):
        done = lsn("train-head", *words, "--quiet")
        assert (done.code, done.err) == (0, "")
        assert done.out


def test_a_tuned_tower_goes_all_the_way_to_eval_by_the_commands_it_names(lsn, tmp_path, tiny_model) -> None:
    images = sorted(photos(tmp_path / "my photos").rglob("*.*g"))
    rows = "".join(f"{one.relative_to(tmp_path)},{one.parent.name},x\n" for one in images)
    (tmp_path / "my list.csv").write_text(f"photo,side,label\n{rows}")
    names = tmp_path / "names.txt"
    names.write_text("left\tport\nmiddle\tcentre\nright\tstarboard\n")
    columns = ["--path-column", "photo", "--label-column", "side"]
    words = ["my list.csv", *columns, *QUICK, "--model", tiny_model, "--classes", names, "--work", "tuned"]
    done = lsn("train-head", *words, "--format", "json")
    assert done.code == 0, done.err
    (row,) = json.loads(done.out)
    assert {"head": "linear", "tuned": "last-blocks", "rows": 24, "held_out": 6}.items() <= row.items()
    assert row["last_loss"] < row["first_loss"]
    following = [shlex.split(line) for line in done.err.splitlines() if line.startswith("  lsn ")]
    assert [words[1] for words in following] == ["extract", "calibrate"]
    for _, *command in following:
        assert lsn(*command).code == 0
    for folder, split in (("test", "test"), ("foreign", "foreign")):
        assert (
            lsn(
                "extract",
                photos(tmp_path / folder, 3),
                "--split",
                split,
                "--classes",
                names,
                "--work",
                "tuned",
            ).code
            == 0
        )
    done = lsn("eval", "--method", "msp:linear", "--work", "tuned", "--format", "json")
    assert done.code == 0, done.err
    assert [found["head"] for found in json.loads(done.out)] == ["linear"]
    assert lsn("score", "test", "--work", "tuned").code == 0
    again = lsn("train-head", *words)
    assert again.code == 1
    assert "holds features of" in again.err


def test_broken_images_are_counted_and_named(lsn, tmp_path: Path, tiny_model: str) -> None:
    photos(tmp_path / "photos", 4, broken=0)
    words = ["photos", *QUICK, "--model", tiny_model, "--work", "tuned"]
    done = lsn("train-head", *words)
    assert done.code == 3
    assert not (tmp_path / "tuned" / "tower.safetensors").exists()
    done = lsn("train-head", *words, "--max-failure-rate", "0.5")
    assert done.code == 0
    assert "3 images failed, such as left/0.png" in done.err


def test_ctrl_c_says_how_to_go_on(lsn, tmp_path: Path, tiny_model: str, monkeypatch) -> None:
    photos(tmp_path / "photos", 4)

    def interrupted(*args, **given):
        raise KeyboardInterrupt

    monkeypatch.setattr("lsncli.training.finetune.fine_tune", interrupted)
    done = lsn("train-head", "photos", *QUICK, "--model", tiny_model, "--work", "tuned")
    assert done.code == 130
    assert "Interrupted. No epoch was kept yet; run the same command again." in done.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--kind", "round"], "--kind: expected one of linear"),
        (["photos"], "A linear head is trained on stored features: 'photos' is for fine-tuning"),
        (["--batch-size", "3"], "stored features: --batch-size is for fine-tuning"),
        (["--tune", "all"], "--tune needs images"),
        (["photos", "--tune", "all", "--epochs", "0"], "--epochs: expected a number above zero"),
        (["photos", "--tune", "all"], "features of local-dir"),
    ],
)
def test_what_cannot_be_meant_is_refused(lsn, work: Path, words: list[str], message: str) -> None:
    done = lsn("train-head", *words)
    assert done.code in (1, 2)
    assert message in done.err


def test_a_kind_is_added_by_a_row(lsn, work: Path, monkeypatch) -> None:
    asked: list[HeadOptions] = []
    monkeypatch.setitem(train_head.KINDS, "round", asked.append)
    assert lsn("train-head", "--kind", "round", "--epochs", "7").code == 0
    assert (asked[0].settings["epochs"], asked[0].split) == (7, "train")
