"""``lsn calibrate PATH``: gamma of the detector there is, or of class names alone, from one's own images."""

import json
from pathlib import Path

import pytest
from cli_runner import exit_code
from photo_samples import photos

from lsncli.artefacts.detector import load_detector


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return photos(tmp_path_factory.mktemp("photos") / "all", 20, broken=3)


@pytest.fixture(scope="module")
def made(folder, tiny_model, tmp_path_factory) -> Path:
    work = tmp_path_factory.mktemp("made")
    for argv in (
        ["extract", str(folder), "--model", tiny_model, "--max-failure-rate", "1"],
        ["calibrate", "--method", "knn,k=3"],
    ):
        assert exit_code(*argv, "--work", str(work), "-q") == 0
    return work


@pytest.fixture
def work(made, tmp_path) -> Path:
    target = tmp_path / "lsn-work"
    target.mkdir()
    (target / "detector.safetensors").write_bytes((made / "detector.safetensors").read_bytes())
    return target


def test_the_detector_keeps_its_method_and_needs_no_store(lsn, work, folder) -> None:
    before = load_detector(work / "detector.safetensors")
    done = lsn("calibrate", folder, "--target-tpr", "0.8", "--format", "json", "--max-failure-rate", "0.2")
    assert done.code == 0, done.err
    (row,) = json.loads(done.out)
    after = load_detector(work / "detector.safetensors")
    assert (after.method, after.settings, after.label) == (before.method, before.settings, before.label)
    assert (row["held_out"], row["target_tpr"], row["gamma"]) == (57, 0.8, after.threshold.gamma)
    assert after.seen.images == len(after.held_out) == 57
    assert f"Before: gamma = {before.threshold.gamma:.6f} (for a TPR of 95%), which keeps " in done.err
    assert done.err.count("Not used: ") == 3
    assert "3.png: truncated" in done.err or "3.png: damaged" in done.err


def test_too_many_unreadable_images_leave_the_detector_as_it_was(lsn, work, folder) -> None:
    before = (work / "detector.safetensors").read_bytes()
    done = lsn("calibrate", folder, "--max-failure-rate", "0.01")
    assert done.code == 3
    assert "3 of 60 images failed" in done.err
    assert "The detector is as it was" in done.err
    assert (work / "detector.safetensors").read_bytes() == before


def test_few_images_of_one_class_are_doubted(lsn, work, folder) -> None:
    done = lsn("calibrate", folder / "left" / "0.png")
    assert "Warning: 1 held-out image cannot resolve a TPR of 95%" in done.err
    assert "Warning: 2 of 3 classes, such as " in done.err
    assert lsn("calibrate", folder / "left" / "0.png", "-q").err == ""


def test_class_names_and_good_images_make_a_calibrated_detector(lsn, folder, tiny_model, tmp_path) -> None:
    words = ("--classes", "left, middle, right", "--model", tiny_model, "--max-failure-rate", "1")
    done = lsn("calibrate", folder, *words)
    assert done.code == 0, done.err
    assert "(uncalibrated), which keeps" in done.err
    found = load_detector(tmp_path / "lsn-work" / "detector.safetensors")
    assert (found.method, found.head.classes) == ("neglabel", ("left", "middle", "right"))
    assert found.threshold.n == 57
    done = lsn("score", folder, "--max-failure-rate", "1")
    assert "for a TPR of 95%" in done.err
    assert "uncalibrated" not in done.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--method", "mcm"], "--method and --split cannot be combined"),
        (["--split", "train"], "--method and --split cannot be combined"),
        (["--model", "mini"], "--model goes with --classes"),
        (["--classes", "a,,b", "--model", "TINY"], "A class has an empty name"),
    ],
)
def test_options_that_do_not_go_together_are_refused(lsn, work, folder, tiny_model, words, message) -> None:
    done = lsn("calibrate", folder, *[tiny_model if word == "TINY" else word for word in words])
    assert done.code == 2
    assert message in done.err


def test_class_names_without_images_are_refused(lsn, work) -> None:
    done = lsn("calibrate", "--classes", "a,b")
    assert done.code == 2
    assert "lsn score PATH --classes" in done.err


def test_without_a_detector_the_error_says_how_to_make_one(lsn, folder) -> None:
    done = lsn("calibrate", folder)
    assert done.code == 1
    assert "There is no detector" in done.err
    assert 'lsn calibrate FOLDER --classes "cat,dog"' in done.err


def test_a_target_of_99_9_percent_is_not_said_to_be_100(lsn, work, folder) -> None:
    done = lsn("calibrate", folder, "--work", work, "--target-tpr", "0.999")
    assert "set it for a TPR of 99.9%;" in done.err
    assert "100%" not in done.err


def test_class_names_are_checked_before_a_model_is_looked_for(lsn, folder) -> None:
    done = lsn("calibrate", folder, "--classes", "cat,,dog", "--model", "there-is-none")
    assert done.code == 2
    assert "A class has an empty name" in done.err


def test_the_model_that_the_environment_names_for_other_commands_is_no_reason_to_refuse(
    lsn, work, folder, monkeypatch
) -> None:
    monkeypatch.setenv("LSN_MODEL", "mini")
    done = lsn("calibrate", folder, "--max-failure-rate", "1")
    assert done.code == 0, done.err
