"""``lsn report``: images, splits, known sets, refusals; the page is written whole or not at all."""

import json
import re
from pathlib import Path

import pytest
from cli_runner import exit_code
from photo_samples import photos


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_model) -> Path:
    """A folder with photos, some of them broken, and a workspace with splits and an MCM detector."""
    root = tmp_path_factory.mktemp("report-command")
    photos(root / "photos", 10)
    photos(root / "images", 4, broken=1)
    photos(root / "foreign", 3)
    for words in (
        ["extract", root / "photos", "--model", tiny_model],
        ["extract", root / "foreign", "--split", "foreign"],
        ["extract", root / "photos", "--split", "test"],
        ["calibrate", "--method", "mcm"],
    ):
        assert exit_code(*words, "--work", str(root / "work"), "--device", "cpu", "--quiet") == 0
    return root


def data_of(path: Path) -> dict:
    return json.loads(re.search(r'id="data">(.*?)</script>', path.read_text("utf-8"), re.DOTALL)[1])


def sets_of(path: Path) -> list[tuple[str, str, int]]:
    return [(one["name"], one["kind"], one["count"]) for one in data_of(path)["sets"]]


def test_images_become_a_page(lsn, place, tmp_path) -> None:
    words = ("report", place / "images", "--work", place / "work", "--device", "cpu")
    done = lsn(*words, "--max-failure-rate", "0.5")
    assert (done.code, done.out) == (0, "")
    assert "9 images scored, 3 unreadable, 9 with a picture" in done.err
    page = tmp_path / "lsn-report.html"
    assert sets_of(page) == [("images", "input", 9)]
    assert data_of(page)["failed"] == 3
    assert list(tmp_path.iterdir()) == [page]
    done = lsn(*words, "--output", "sub/other.html", "--pictures", "4", "--quiet")
    assert done.code == 3  # a quarter is unreadable
    assert "The page lists them, and shows all others." in done.err
    assert len(data_of(tmp_path / "sub" / "other.html")["pictures"]) == 4


def test_without_images_the_splits_are_compared(lsn, place, tmp_path) -> None:
    done = lsn("report", "--work", place / "work", "--device", "cpu")
    assert done.code == 0, done.err
    page = tmp_path / "lsn-report.html"
    assert sets_of(page) == [("test", "id", 30), ("foreign", "ood", 9)]
    data = data_of(page)
    assert [one["set"] for one in data["curves"]] == [1]
    assert len(data["pictures"]) == 39
    table = lsn("eval", "--method", "mcm", "--work", place / "work", "--format", "json")
    (row,) = json.loads(table.out)
    assert (data["curves"][0]["auroc"], data["curves"][0]["fpr95"]) == (row["auroc"], row["fpr95"])


def test_known_sets_are_splits_or_folders(lsn, place, tmp_path) -> None:
    words = ["--id", f"mine={place / 'photos'}", "--ood", "foreign", "--ood", f"far={place / 'foreign'}"]
    done = lsn("report", place / "images", *words, "--work", place / "work", "--max-failure-rate", "1")
    assert done.code == 0, done.err
    expected = [("images", "input", 9), ("mine", "id", 30), ("foreign", "ood", 9), ("far", "ood", 9)]
    assert sets_of(tmp_path / "lsn-report.html") == expected


def test_class_names_alone_are_enough_and_said_to_be_uncalibrated(lsn, place, tmp_path, tiny_model) -> None:
    words = ("--classes", "left,right", "--model", tiny_model, "--work", tmp_path / "none", "--device", "cpu")
    done = lsn("report", place / "images", *words, "--max-failure-rate", "1")
    assert done.code == 0, done.err
    data = data_of(tmp_path / "lsn-report.html")
    assert data["classes"] == ["left", "right"]
    assert data["calibration"] is None
    assert data["heldOut"] == 0
    assert len(data["notes"]) == 1


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["absent"], 2, "There is no 'absent'"),
        (["images", "--ood", "=x"], 2, "--ood: expected a split or NAME=PATH"),
        (["images", "--ood", "absent"], 1, "no split 'absent'"),
        (["--id", "absent"], 1, "no split 'absent'"),
        (["images", "--train", "absent"], 1, "no split 'absent'"),
        (["images", "--images", "test=photos"], 2, "no split of this report"),
        (["--images", "test=foreign"], 1, "are not in"),
        (["images", "--output", "photos/left/0.png/x.html"], 1, "cannot be written"),
        (["images", "--output", "photos"], 1, "cannot be written"),
    ],
)
def test_what_cannot_be_meant_is_refused(lsn, place, monkeypatch, words, code, message) -> None:
    monkeypatch.chdir(place)
    before = sorted(place.iterdir())
    done = lsn("report", *words, "--work", "work", "--device", "cpu")
    assert (done.code, done.out) == (code, ""), done.err
    assert message in " ".join(done.err.split())
    assert sorted(place.iterdir()) == before


def test_another_rule_can_decide(lsn, place, tmp_path) -> None:
    usual = ("--work", place / "work", "--device", "cpu")
    words = ("report", place / "images", *usual, "--max-failure-rate", "0.5")
    scored = ("score", place / "images", *usual, "--max-failure-rate", "0.5", "--format", "json")
    page = tmp_path / "lsn-report.html"
    for option in (("--target-tpr", "0.6"), ("--false-alarms", "0.4")):
        assert lsn(*words, *option).code == 0
        data = data_of(page)
        table = [row for row in json.loads(lsn(*scored, *option).out) if row["error"] is None]
        if option[0] == "--target-tpr":
            assert {row["threshold"] for row in table} == {data["gamma"]}
            assert data["target"] == 0.6
        else:
            assert "Benjamini-Hochberg: at most 40%" in dict(data["facts"])["Threshold γ"]
            assert any("Benjamini-Hochberg" in note for note in data["notes"])
            assert data["sameRows"] is False
    alone = lsn("report", *usual, "--false-alarms", "0.1")
    assert alone.code == 2
    assert "--false-alarms is about images of unknown truth" in alone.err
    both = lsn(*words, "--false-alarms", "0.1", "--target-tpr", "0.9")
    assert "two rules for one verdict" in " ".join(both.err.split())
