"""``lsn eval``: measures of predicted classes, differences from a method, means of groups of OOD splits."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cli_samples import imported_workspace

from lsncli import comparison
from lsncli.cli import evaluate_rows
from lsncli.store.format import Split
from lsncli.store.reader import read_fingerprint, read_split
from lsncli.store.writer import write_split


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return imported_workspace(tmp_path / "lsn-work")


def rows(done) -> list[dict]:
    assert done.code == 0, done.err
    return json.loads(done.out)


def test_eval_shows_measures_of_predicted_classes_to_programs_and_if_asked(lsn, work) -> None:
    named = ("AUOSCR↑", "AURC↓", "AURC+OOD↓", "ECE↓")
    usual, wide = lsn("eval", "--method", "mcm"), lsn("eval", "--method", "mcm", "--wide")
    assert all(title not in usual.out and title in wide.out for title in named)
    assert "ECE: of the predicted class." in " ".join(wide.err.split())
    (row,) = rows(lsn("eval", "--method", "mcm", "--format", "json"))
    assert 0 < row["auoscr"] <= min(row["auroc"], row["id_accuracy"])
    assert 0 <= row["aurc"] < row["aurc_ood"] < 1
    assert 0 <= row["ece"] <= 1
    assert row["n_labelled"] == row["n_id"] == 40
    (row,) = rows(lsn("eval", "--method", "energy:means", "--format", "json"))
    assert row["ece"] is None


def test_eval_says_how_many_id_images_are_labelled_if_not_all(lsn, work) -> None:
    store, test = work / "features.h5", read_split(work / "features.h5", "test")
    for labelled in (30, 0):
        labels = np.where(np.arange(40) < labelled, test.labels, -1).astype(np.int32)
        write_split(store, replace(test, labels=labels), read_fingerprint(store), replace=True)
        done = lsn("eval", "--method", "mcm", "--wide")
        assert f"of the {labelled} labelled ones among 40 ID images" in " ".join(done.err.split())
        (row,) = rows(lsn("eval", "--method", "mcm", "--format", "json"))
        assert row["n_labelled"] == labelled
        assert (row["auoscr"] is None) == (row["ece"] is None) == (labelled == 0)


@pytest.fixture
def three(work) -> Path:
    """A second and a third OOD split."""
    far = read_split(work / "features.h5", "far")
    for name, shift in (("near", 0.5), ("odd", -0.5)):
        features = (far.features + shift).astype(np.float16)
        other = Split(name, features, far.labels, far.keys, ())
        write_split(work / "features.h5", other, read_fingerprint(work / "features.h5"))
    return work


BOTH = ("eval", "--method", "mcm", "--method", "energy", "--method", "maxlogit")


def test_eval_against_a_method_shows_differences_that_fit_a_terminal(lsn, three, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    done = lsn(*BOTH, "--against", "mcm")
    lines = done.out.splitlines()
    assert "differences from MCM" in lines[0]
    assert max(map(len, lines)) <= 80
    assert lines[2].split("  ")[0] == "Measure"
    table = [line.split() for line in lines[4:]]
    assert [row[:3] for row in table if row[2] == "average"] == [
        [measure, method, "average"]
        for measure in ("FPR95", "AUROC")
        for method in dict.fromkeys(row[1] for row in table)
    ]
    assert {row[1] for row in table} == {"energy", "maxlogit"}
    text = " ".join(done.err.split())
    assert "Better than MCM: FPR95 below 0, AUROC above 0." in text
    assert "a paired bootstrap of 2,000 samples, whose least p-value is 0.001. The p-values are" in text
    assert "The p-values are adjusted by Holm's method for 2 methods" in text
    one = lsn("eval", "--method", "energy", "--against", "mcm", "--ood", "far")
    assert "The p-values are not adjusted" in " ".join(one.err.split())
    assert "average" not in one.out


def test_eval_against_gives_programs_differences_beside_all_measures(lsn, three) -> None:
    found = rows(lsn(*BOTH[:-2], "--against", "maxlogit", "--format", "json"))
    usual = rows(lsn(*BOTH, "--format", "json"))
    assert [{key: row[key] for key in usual[0]} for row in found] == usual
    base = {row["ood"]: row for row in found if row["method"] == "maxlogit"}
    assert base.keys() == {"far", "near", "odd", "average"}
    for row in found:
        for measure in ("fpr95", "auroc"):
            parts = ("difference", "difference_low", "difference_high", "p", "p_holm")
            value, low, high, p, adjusted = (row[f"{measure}_{part}"] for part in parts)
            if row["method"] == "maxlogit":
                assert value is low is high is p is adjusted is None
                continue
            assert value == pytest.approx(row[measure] - base[row["ood"]][measure], abs=1e-12)
            assert -1 <= low <= high <= 1
            assert 0 <= p <= adjusted <= min(1, 2 * p + 1e-12)


def test_eval_shows_the_mean_of_a_group_of_splits(lsn, three) -> None:
    groups = ("--group", "hard=near,odd", "--group", "easy=far")
    found = rows(lsn("eval", "--method", "mcm", *groups, "--format", "json"))
    assert [row["ood"] for row in found] == ["far", "near", "odd", "hard (mean)", "easy (mean)", "average"]
    assert found[3]["auroc"] == pytest.approx((found[1]["auroc"] + found[2]["auroc"]) / 2)
    assert found[4]["fpr95"] == found[0]["fpr95"]
    averages = rows(lsn("eval", "--method", "mcm", *groups, "--average", "--format", "json"))
    assert [row["ood"] for row in averages] == ["hard (mean)", "easy (mean)", "average"]
    compared = lsn(*BOTH, *groups, "--average", "--against", "mcm").out
    assert compared.count("hard (mean)") == compared.count("average") == 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--group", "near"), "--group: expected NAME=SPLIT,SPLIT..., found 'near'."),
        (("--group", "near=near,"), "--group: expected NAME=SPLIT,SPLIT..., found 'near=near,'."),
        (("--group", "a=near", "--group", "a=odd"), "--group a: given twice."),
        (("--group", "a=test"), "--group a: expected different OOD splits of this evaluation, found test."),
        (("--against", "nothing"), "nothing"),
    ],
)
def test_eval_refuses_groups_and_baselines_that_mean_nothing(lsn, three, words, said) -> None:
    done = lsn("eval", "--method", "mcm", *words)
    assert (done.code, done.out) == (2, "")
    assert said in " ".join(done.err.split())


def test_eval_against_itself_alone_says_what_to_add(lsn, three) -> None:
    done = lsn("eval", "--method", "mcm", "--against", "mcm")
    assert (done.code, done.out) == (1, "")
    assert "--against mcm: no other method was evaluated. Name others with --method." in " ".join(
        done.err.split()
    )


def test_eval_refuses_a_baseline_that_cannot_be_prepared_before_the_work(lsn, work, monkeypatch) -> None:
    monkeypatch.setattr("lsncli.evaluation.evaluate.evaluate", None)  # whoever calls it fails
    done = lsn("eval", "--method", "mcm", "--against", "lsn")
    assert (done.code, done.out) == (1, "")
    assert "--against lsn: it could not be evaluated." in done.err
    assert "lsn train-neg" in done.err


def test_the_measures_of_the_table_are_those_compared() -> None:
    assert tuple(evaluate_rows.MEASURES) == comparison.MEASURES
