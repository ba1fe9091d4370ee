"""``lsn eval --plots``: a figure and its numbers a method."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cli_samples import imported_workspace

from lsncli.store.reader import read_fingerprint, read_split
from lsncli.store.writer import write_split


def test_every_method_gets_its_figure_and_numbers(lsn, tmp_path) -> None:
    pytest.importorskip("matplotlib", reason="figures need the extra 'plots'")
    work = imported_workspace(tmp_path / "work")
    done = lsn("eval", "--work", work, "--method", "mcm", "--method", "knn,k=3", "--plots", "figures")
    assert done.code == 0, done.err
    assert "Wrote 2 figures" in done.err
    ends = (".png", ".svg", "-histogram.csv", "-roc.csv", "-oscr.csv")
    wanted = {name + end for name in ("mcm", "knn-k=3") for end in ends}
    assert {path.name for path in (tmp_path / "figures").iterdir()} == wanted
    assert (tmp_path / "figures" / "mcm.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "figures" / "mcm.svg").read_text()


def area(path: Path, rate: str) -> float:
    with path.open() as file:
        rows = list(csv.DictReader(file))
    return float(np.trapezoid([float(row[rate]) for row in rows], [float(row["fpr"]) for row in rows]))


def test_the_curves_hold_the_areas_of_the_table(lsn, tmp_path) -> None:
    pytest.importorskip("matplotlib", reason="figures need the extra 'plots'")
    work = imported_workspace(tmp_path / "work")
    store, test = work / "features.h5", read_split(work / "features.h5", "test")
    for labelled in (40, 25, 0):
        labels = np.where(np.arange(40) < labelled, test.labels, -1).astype(np.int32)
        labels[:5] = np.where(labels[:5] < 0, -1, 1 - labels[:5])  # wrong
        write_split(store, replace(test, labels=labels), read_fingerprint(store), replace=True)
        folder = tmp_path / f"figures-{labelled}"
        done = lsn("eval", "--work", work, "--method", "mcm", "--plots", folder, "--format", "json")
        (row,) = json.loads(done.out)
        assert area(folder / "mcm-roc.csv", "tpr") == pytest.approx(row["auroc"], abs=1e-9)
        if labelled:
            assert 0 < row["auoscr"] < row["id_accuracy"] < 1
            assert area(folder / "mcm-oscr.csv", "ccr") == pytest.approx(row["auoscr"], abs=1e-9)
        assert ("classified right" in (folder / "mcm.svg").read_text()) == (labelled > 0)
        assert (folder / "mcm-oscr.csv").exists() == (labelled > 0)


def test_without_matplotlib_nothing_is_computed(lsn, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("lsncli.report.plots.find_spec", lambda name: None)
    work = imported_workspace(tmp_path / "work")
    done = lsn("eval", "--work", work, "--plots", "figures")
    assert (done.code, done.out) == (5, "")
    assert "pip install 'lsncli[plots]'" in done.err


def test_a_folder_that_cannot_be_made_is_an_error(lsn, tmp_path) -> None:
    pytest.importorskip("matplotlib", reason="figures need the extra 'plots'")
    (tmp_path / "file").write_text("")
    work = imported_workspace(tmp_path / "work")
    done = lsn("eval", "--work", work, "--method", "mcm", "--plots", "file/figures")
    assert done.code == 1
    assert "cannot be written" in done.err


def test_methods_on_two_ood_sets_get_a_figure_of_their_ranks_under_different_names(lsn, tmp_path) -> None:
    pytest.importorskip("matplotlib", reason="figures need the extra 'plots'")
    work = imported_workspace(tmp_path / "work")
    far = read_split(work / "features.h5", "far")
    write_split(work / "features.h5", replace(far, name="near"), read_fingerprint(work / "features.h5"))
    methods = ("mcm", "mcm:means", "knn,k=3", "knn,k=4")
    words = (*(word for name in methods for word in ("--method", name)), "--plots", "figures")
    done = lsn("eval", "--work", work, *words)
    assert done.code == 0, done.err
    assert "Wrote 5 figures" in done.err
    with (tmp_path / "figures" / "ranks.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["method"] for row in rows} == set(methods)  # the label of two is MCM
    for row in rows:
        assert row["far"] == row["near"] == row["mean_rank"]
