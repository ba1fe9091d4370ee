"""The benchmark of all methods runs, names what it leaves out, goes on after a failure."""

import numpy as np
import pytest

from benchmarks.speed import methods
from benchmarks.speed.methods import FORMS, case, synthetic
from lsncli.scores import SCORES, load_score

STORED = [name for name in SCORES if not methods.LEFT_OUT & load_score(name).NEEDS]


@pytest.fixture
def records(monkeypatch):
    """What would be written."""
    written = []
    monkeypatch.setattr(methods, "own", lambda name: None)
    monkeypatch.setattr(methods, "record", lambda *arguments, **parts: written.append((arguments, parts)))
    return written


def test_the_tiny_form_measures_in_processes_of_their_own_and_writes_nothing(capsys, records) -> None:
    methods.main(["--tiny", "--method", "mcm", "--method", "knn"])
    out = capsys.readouterr().out
    assert out.startswith("Synthetic features: 5 classes, 16 dimensions, 320 training rows")
    assert "Reduced (tiny)" in out
    lines = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.startswith("  ")}
    assert lines.keys() == {"method", "mcm", "knn"}
    fit, score, peak, process, auroc = map(float, lines["knn"])
    assert 0 <= fit < 60
    assert 0 <= score < 60
    assert peak < process < 2000
    assert 50 < auroc <= 100
    assert "MiB, within 24 GiB." in out
    assert not records


@pytest.mark.parametrize("name", STORED)
def test_every_method_of_a_store_can_be_measured(name) -> None:
    row = case(name, "tiny")()
    assert row.keys() == {"fit_s", "score_s", "learned_mib", "auroc"}
    assert 0 <= row["auroc"] <= 1


def test_the_full_form_measures_all_leaves_out_what_needs_more_and_is_written(
    capsys, monkeypatch, records
) -> None:
    row = {"fit_s": 1.0, "score_s": 2.0, "peak_mib": 10.0, "process_mib": 300.0, "auroc": 0.9}

    def peak_in_new_process(function, name, form):
        assert (function, form) == ("benchmarks.speed.methods:case", "full")
        if name == "msp":
            raise RuntimeError("Traceback\nValueError: no luck")
        return row | ({"score_s": 7.0} if name == "knn" else {"process_mib": 3e4} if name == "energy" else {})

    monkeypatch.setattr(methods, "peak_in_new_process", peak_in_new_process)
    with pytest.raises(SystemExit) as stop:
        methods.main([])
    assert stop.value.code == 1
    out = capsys.readouterr().out
    assert "128,000 training rows, 50,000 ID and 10,000 OOD" in out
    assert "Reduced" not in out
    assert "msp            failed: ValueError: no luck" in out
    assert "Slowest: knn, 8 s." in out
    assert "Largest: energy, 30000 MiB, ABOVE 24 GiB." in out
    [((name, what), parts)] = records
    assert (name, "synthetic" in what) == ("methods", True)
    assert parts["rows"].keys() == set(STORED) - {"msp"}
    assert parts["failed"] == {"msp": "ValueError: no luck"}
    assert parts["left_out"].keys() == set(SCORES) - set(STORED)
    for left in parts["left_out"]:
        assert f"Left out: {left}, which needs" in out


def test_a_run_of_some_methods_leaves_the_rows_of_others(monkeypatch, records) -> None:
    row = {"fit_s": 1.0, "score_s": 2.0, "peak_mib": 10.0, "process_mib": 300.0, "auroc": 0.9}
    monkeypatch.setattr(methods, "own", {"methods": {"rows": {"mcm": row, "vos": row}}}.get)
    monkeypatch.setattr(methods, "peak_in_new_process", lambda *_: row | {"score_s": 5.0})
    methods.main(["--method", "vos"])
    [(_, parts)] = records
    assert parts["rows"] == {"mcm": row, "vos": row | {"score_s": 5.0}}
    assert parts["left_out"].keys() == set(SCORES) - set(STORED)


def test_synthetic_features_are_of_a_stores_kind_and_the_same_every_time() -> None:
    first, second = synthetic(FORMS["tiny"]), synthetic(FORMS["tiny"])
    assert first.train.features.dtype == first.inside.dtype == first.outside.dtype == np.float16
    assert first.head.negative.shape == (methods.SETS, 5, 16)
    assert np.bincount(first.train.labels).tolist() == [64] * 5
    assert (first.train.features < 0).any()
    for name in ("inside", "outside"):
        assert np.array_equal(getattr(first, name), getattr(second, name))
