"""``lsn calibrate --per-class``: a row for each class, who borrows is said, and other commands follow it."""

import json
import re

import numpy as np
import pytest
from cli_samples import imported_workspace
from photo_samples import photos

from lsncli.artefacts.detector import load_detector
from lsncli.cli.describe_detector import NAMED, SHOWN
from lsncli.interchange.exchange import imported_fingerprint
from lsncli.store.format import Split
from lsncli.store.writer import write_split, write_text


def many_classes(folder, sizes):
    """A workspace without a model, with a fifth of ``sizes`` rows held out of each class."""
    folder.mkdir(parents=True, exist_ok=True)
    random, classes = np.random.default_rng(5), tuple(f"class {at:02}" for at in range(len(sizes)))
    text = random.normal(size=(len(sizes), 32))
    for name, counts in (("train", sizes), ("test", [10] * len(sizes))):
        labels = np.repeat(np.arange(len(sizes)), counts).astype(np.int32)
        features = (text[labels] + 0.3 * random.normal(size=(len(labels), 32))).astype(np.float16)
        keys = tuple(f"{row}.jpg" for row in range(len(labels)))
        split = Split(name=name, features=features, labels=labels, keys=keys, classes=classes)
        write_split(folder / "features.h5", split, imported_fingerprint("theirs", 32, 100.0))
    write_text(folder / "features.h5", classes, text)


def words(text):
    return " ".join(text.split())


@pytest.fixture
def calibrate(lsn, tmp_path):
    many_classes(tmp_path / "lsn-work", [150, 150, 60, 60])
    return lambda *more: lsn("calibrate", "--method", "mcm", "--per-class", *more)


def test_each_class_has_a_row_and_those_with_few_images_borrow(calibrate, tmp_path) -> None:
    done = calibrate("--format", "json")
    rows = json.loads(done.out)
    thresholds = load_detector(tmp_path / "lsn-work" / "detector.safetensors").class_thresholds
    assert [row["class"] for row in rows] == [f"class {at:02}" for at in range(4)]
    assert [row["held_out"] for row in rows] == [30, 30, 12, 12]
    assert [row["borrows"] for row in rows] == [False, False, True, True]
    assert [row["gamma"] for row in rows] == thresholds.gammas.tolist()
    assert {(row["method"], row["head"], row["target_tpr"]) for row in rows} == {("MCM", "hand", 0.95)}
    assert rows[0]["tpr_low"] < 0.95 < rows[0]["tpr_high"]
    said = words(done.err)
    assert "2 of 4 classes have 20 or more held-out images and their own gamma" in said
    assert (
        "2 classes have fewer and borrow the gamma of 24 images of these classes: 95% holds for them "
        "together. class 02, class 03." in said
    )
    assert "Warning: 24 held-out images are few for the threshold of a class" in said


def test_a_table_shows_what_people_need(calibrate) -> None:
    done = calibrate()
    header = done.out.splitlines()[0]
    assert re.findall(r"\S+(?: \S+)*", header) == [
        "Predicted",
        "Gamma",
        "Held out",
        "TPR from %",
        "to %",
        "Borrows",
    ]
    assert len(done.out.splitlines()) == 6


def test_a_class_alone_borrows_from_all(calibrate, lsn, tmp_path) -> None:
    many_classes(tmp_path / "other", [150, 150, 60])
    done = lsn("calibrate", "--method", "mcm", "--per-class", "--work", "other")
    assert (
        "1 class has fewer and borrows the gamma of 72 images of all classes: nothing is promised for them. "
        "class 02." in words(done.err)
    )


def test_many_classes_are_folded(lsn, tmp_path) -> None:
    many_classes(tmp_path / "lsn-work", [150] * 10 + [60] * 15)
    done = lsn("calibrate", "--method", "mcm", "--per-class")
    assert len(done.out.splitlines()) == SHOWN + 2
    said = words(done.err)
    assert f"Shown: {SHOWN} of 25 classes; csv and json hold all." in said
    assert f"class 17 and {15 - NAMED} more." in said
    assert len(json.loads(lsn("calibrate", "--method", "mcm", "--per-class", "--format", "json").out)) == 25


def test_without_enough_images_of_any_class_it_is_said_that_one_threshold_is_all(lsn, tmp_path) -> None:
    many_classes(tmp_path / "lsn-work", [60, 60])
    done = lsn("calibrate", "--method", "mcm", "--per-class")
    assert (
        "Warning: no predicted class has the 20 held-out images that a gamma of its own takes: all 2 "
        "share gamma = " in words(done.err)
    )


def test_scores_follow_and_a_threshold_for_all_is_said_to_replace_them(calibrate, lsn, tmp_path) -> None:
    assert calibrate().code == 0
    thresholds = load_detector(tmp_path / "lsn-work" / "detector.safetensors").class_thresholds
    done = lsn("score", "--split", "test", "--format", "jsonl")
    rows = [json.loads(line) for line in done.out.splitlines()]
    for row in rows:
        assert row["threshold"] == thresholds.gammas[int(row["predicted"].split()[1])]
        assert row["is_ood"] == (row["score"] < row["threshold"])
    assert "gamma by predicted class for a TPR of 95%" in words(done.err)
    table = lsn("score", "--split", "test")
    assert "place of the score among those of held-out ID images of the predicted class;" in words(table.err)
    plain = lsn("calibrate", "--method", "mcm")
    assert "The detector had a threshold for each class and now has one for all." in words(plain.err)
    assert load_detector(tmp_path / "lsn-work" / "detector.safetensors").by_class is None


def test_two_classes_without_a_method_are_calibrated_as_before(lsn, tmp_path) -> None:
    imported_workspace(tmp_path / "lsn-work")
    done = lsn("calibrate", "--method", "mcm", "--format", "json")
    assert len(json.loads(done.out)) == 1
    assert "class" not in json.loads(done.out)[0]


def test_images_of_ones_own_set_thresholds_that_watch_and_explain_follow(lsn, tiny_model, tmp_path) -> None:
    folder = photos(tmp_path / "photos", 40)
    usual = ("--device", "cpu")
    assert lsn("extract", "photos", "--model", tiny_model, *usual).code == 0
    assert lsn("calibrate", "--method", "mcm", *usual).code == 0
    done = lsn("calibrate", "photos", "--per-class", "--target-tpr", "0.8", "--format", "json", *usual)
    assert done.code == 0, done.err
    rows = json.loads(done.out)
    assert sum(row["held_out"] for row in rows) == 120
    gammas = {row["class"]: row["gamma"] for row in rows}
    assert len(set(gammas.values())) > 1
    assert lsn("watch", "photos", "--once", "--interval", "0.1", *usual).code == 0
    watched = [
        json.loads(line) for line in (tmp_path / "lsn-work/results/watch.jsonl").read_text().splitlines()
    ]
    assert len(watched) == 120
    for row in watched:
        assert row["threshold"] == gammas[row["predicted"]]
        assert row["is_ood"] == (row["score"] < row["threshold"])
    image = sorted(folder.rglob("*.png"))[0]
    explained = json.loads(lsn("explain", image, "--format", "json", *usual).out)
    verdict = next(row for row in explained if row["what"] == "verdict")
    seen = next(row for row in watched if row["path"] == str(image))
    assert (verdict["threshold"], verdict["p_value"]) == (seen["threshold"], seen["p_value"])
    detector = load_detector(tmp_path / "lsn-work" / "detector.safetensors")
    others = detector.held_out_of(verdict["class"])
    assert len(others) < 120
    assert (
        verdict["below"]
        == np.mean(others < verdict["score"])
        != np.mean(detector.held_out < verdict["score"])
    )
    assert lsn("score", "photos", "--move", "sorted", *usual).code == 0
