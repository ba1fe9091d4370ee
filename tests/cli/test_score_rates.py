"""``lsn score --false-alarms`` and ``--target-tpr``: another rule decides, and nothing is written."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from cli_samples import imported_workspace

from lsncli.artefacts.detector import load_detector, save_detector
from lsncli.threshold import largest_flagged


@pytest.fixture
def score(lsn, tmp_path):
    """``lsn score`` in a workspace whose detector 40 rows have set."""
    imported_workspace(tmp_path / "lsn-work")
    assert lsn("calibrate", "--method", "mcm").code == 0
    return lambda *words: lsn("score", *words)


def rows(done):
    assert done.code == 0, done.err
    return [json.loads(line) for line in done.out.splitlines()]


def test_false_alarms_flag_by_the_p_values_of_the_run(score, tmp_path) -> None:
    before = (tmp_path / "lsn-work" / "detector.safetensors").read_bytes()
    done = score("--split", "far", "--false-alarms", "0.3", "--format", "jsonl")
    found = rows(done)
    values = np.array([row["p_value"] for row in found])
    cutoff = largest_flagged(values, 0.3)
    assert 0 < sum(values <= cutoff) < len(found)
    assert [row["is_ood"] for row in found] == (values <= cutoff).tolist()
    assert all(row["is_ood"] == (row["score"] < row["threshold"]) for row in found)
    assert {row["rule"] for row in found} == {"false-alarms 0.3"}
    plain = rows(score("--split", "far", "--format", "jsonl"))
    assert [row["p_value"] for row in plain] == values.tolist()
    assert [row["is_ood"] for row in plain] != [row["is_ood"] for row in found]
    assert "rule" not in plain[0]
    assert "OOD by Benjamini-Hochberg: at most 30% of these are expected to be ID)" in done.err
    assert f"{sum(values <= cutoff)} OOD" in done.err
    assert (tmp_path / "lsn-work" / "detector.safetensors").read_bytes() == before


def test_only_and_exit_codes_follow_the_rule(score) -> None:
    few = ("--false-alarms", "0.01", "--format", "csv")
    done = score("--split", "far", *few, "--only", "ood", "--fail-on-ood")
    assert (done.code, len(done.out.splitlines())) == (0, 1)
    done = score(
        "--split", "far", "--false-alarms", "0.3", "--format", "csv", "--only", "ood", "--fail-on-ood"
    )
    assert done.code == 6
    table = list(csv.DictReader(io.StringIO(done.out)))
    assert {row["is_ood"] for row in table} == {"True"}


def test_too_few_held_out_images_are_said(score) -> None:
    done = score("--split", "far", "--false-alarms", "0.01", "--format", "jsonl")
    assert not any(row["is_ood"] for row in rows(done))
    assert {row["threshold"] for row in rows(done)} == {None}
    said = " ".join(done.err.split())
    assert "With 40 held-out images no p-value is below 1/41, so nothing can be flagged at 0.01" in said
    assert "takes 99 held-out images or more, and to flag a single one of 30 images 2,999." in said
    assert "Calibrate on more ID images of your own: lsn calibrate ./good-images" in said


def test_another_target_judges_as_a_new_calibration_would(score, lsn, tmp_path) -> None:
    before = (tmp_path / "lsn-work" / "detector.safetensors").read_bytes()
    done = score("--split", "test", "--target-tpr", "0.8", "--format", "jsonl")
    found = rows(done)
    assert {row["rule"] for row in found} == {"target-tpr 0.8"}
    assert "for a TPR of 80%" in done.err
    assert (tmp_path / "lsn-work" / "detector.safetensors").read_bytes() == before
    assert lsn("calibrate", "--method", "mcm", "--target-tpr", "0.8").code == 0
    again = rows(score("--split", "test", "--format", "jsonl"))
    assert [row["is_ood"] for row in found] == [row["is_ood"] for row in again]
    assert found[0]["threshold"] == pytest.approx(again[0]["threshold"], rel=1e-12)


def test_the_table_for_people_names_the_rule_only_with_details(score) -> None:
    assert "Rule" not in score("--split", "far", "--target-tpr", "0.8").out
    assert "target-tpr 0.8" in score("--split", "far", "--target-tpr", "0.8", "--wide").out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--false-alarms", "0.05", "--target-tpr", "0.9"), "two rules for one verdict"),
        (("--false-alarms", "1"), "--false-alarms: expected a fraction above 0 and below 1, found 1.0"),
        (("--target-tpr", "95"), "--target-tpr: expected a fraction above 0 and below 1, found 95.0"),
        (
            ("--false-alarms", "0.05", "--classes", "cat,dog"),
            "--false-alarms compares with held-out ID images",
        ),
        (("--target-tpr", "0.9", "--classes", "cat,dog"), "--target-tpr compares with held-out ID images"),
    ],
)
def test_what_does_not_go_together_is_refused(score, words, said) -> None:
    done = score("--split", "far", *words)
    assert done.code == 2
    assert said in " ".join(done.err.split())


@pytest.mark.parametrize("rate", ["--false-alarms", "--target-tpr"])
def test_a_detector_of_an_older_lsn_is_refused(score, tmp_path, rate) -> None:
    path = tmp_path / "lsn-work" / "detector.safetensors"
    save_detector(path, replace(load_detector(path), held_out=None))
    done = score("--split", "far", rate, "0.1")
    assert done.code == 2
    assert "an older lsn, which kept no scores of them" in " ".join(done.err.split())
    assert "lsn calibrate" in done.err


def test_a_rate_that_drift_breaks_is_said(score, lsn) -> None:
    assert lsn("calibrate", "--method", "knn").code == 0
    usual = score("--split", "test", "--false-alarms", "0.1")
    assert "rate that was asked for" not in " ".join(usual.err.split())
    done = score("--split", "far", "--false-alarms", "0.1")
    words = " ".join(done.err.split())
    assert "are below the detector's threshold, 5% at calibration" in words
    assert "The rate that was asked for holds only if the ID images among these are like those" in words
    assert "rate that was asked for" not in " ".join(score("--split", "far").err.split())
