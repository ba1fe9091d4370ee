"""The one table of `make bench`: what is judged, what is not, and that one failure does not stop the rest."""

import json
import os
import signal
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import all as everything
from benchmarks import records
from benchmarks.all import Section, run_section
from benchmarks.goals import GOALS, Row, goal_of, ratio, summary, table
from benchmarks.machines import KINDS
from lsncli.machine import LIMITS


@pytest.fixture(autouse=True)
def sections_run_here(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Run sections in this process, where they are replaced, unless a test is about processes."""
    if "process" not in request.node.originalname:
        monkeypatch.setattr(everything, "run_in_new_process", lambda name: run_section(name, False))


def test_a_section_runs_in_a_process_of_its_own_and_a_crash_is_one_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = everything.run_in_new_process("recorded")
    assert [row.what for row in done.rows] == [row.what for row in records.rows()]
    monkeypatch.setattr(everything, "run_section", crash)
    [row] = everything.run_in_new_process("recorded").rows
    assert (row.problem, row.failed) == ("failed: its process crashed", True)


def crash(name: str, tiny: bool) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_goal_is_a_bound_from_below_or_above() -> None:
    assert Row("a", 15.0, "x", 15).met
    assert Row("a", 14.9, "x", 15).met is False
    assert Row("a", 1.5, "GiB", 1.5, "at most").met
    assert Row("a", 1.6, "GiB", 1.5, "at most").met is False
    assert Row("a", 3.0, "x").met is None
    assert Row("a", None, "x", 15).met is None
    assert Row("a", None, "x", problem="failed").met is False


def test_a_ratio_keeps_its_range() -> None:
    found = ratio("step", {"ratio": 20.0, "lowest": 18.0, "highest": 25.0}, 15)
    assert found.cells == ("step", ">= 15 x", "20 x", "18..25", "yes", "CPU time")


def test_numbers_are_short_whatever_their_size() -> None:
    measured = [Row("", value, "").cells[2].strip() for value in (0, 2e-6, 0.31, 1.8, 27.31, 1526.0)]
    assert measured == ["0", "2.0e-06", "0.31", "1.8", "27.3", "1526"]


def test_the_summary_names_what_is_missed_and_what_is_missing() -> None:
    rows = [Row("a", 2.0, "x", 1), Row("b", 0.5, "x", 1), Row("c", None, "x", 1), Row("d", 9.0, "x")]
    assert summary(rows) == "1 of 3 goals met\nnot met: b\nwithout a figure: c"
    text = table({"first": rows[:2], "second": rows[2:]})
    lines = text.splitlines()
    assert lines[0].split() == ["what", "goal", "measured", "range", "met", "of"]
    assert "first:" in lines
    assert "NO" in next(line for line in lines if line.startswith("b "))


def test_a_reason_excuses_a_goal_that_is_missed() -> None:
    missed = Row("a", 0.5, "x", 1, of="wall time", reason="slow disk")
    assert (missed.met, missed.failed, missed.cells[-2:]) == (False, False, ("no", "slow disk"))
    met = Row("a", 2.0, "x", 1, of="wall time", reason="slow disk")
    assert (met.met, met.failed, met.cells[-2:]) == (True, False, ("yes", "wall time"))
    assert Row("b", 0.5, "x", 1, of="wall time").failed
    assert Row("b", 0.5, "x", 1, of="wall time").cells[-2:] == ("NO", "wall time")
    assert Row("b", None, "x", problem="failed").failed
    text = summary([missed, met, Row("b", 0.5, "x", 1)])
    assert text == "1 of 3 goals met\nnot met: b\nnot met for a stated reason: a (slow disk)"


def test_goals_depend_on_the_kind_of_the_processor() -> None:
    assert goal_of("CoOp step, lsn onednn", "avx2") is None
    assert goal_of("CoOp step, lsn auto", "avx2") == 22
    assert goal_of("CoOp step, lsn onednn", "amx") == 25
    assert {goal_of("extraction, ViT-B-32, fp32", kind) for kind in KINDS} == {1.15}
    assert goal_of("extraction, ViT-B-32, bf16", "avx2") is None
    assert goal_of("no such row", "avx2") is None
    assert all(kinds.keys() <= set(KINDS) and kinds for kinds in GOALS.values())


@pytest.mark.parametrize(("reason", "ends"), [("", 1), ("this processor is slow", None)])
def test_the_exit_code_is_1_only_for_a_goal_missed_without_a_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], reason: str, ends: int | None
) -> None:
    rows = [Row("a ratio", 1.0, "x", 15, reason=reason), Row("without a figure", None, "x", 15)]
    monkeypatch.setattr(everything, "SECTIONS", {"one": Section(lambda tiny: rows, 90)})
    with pytest.raises(SystemExit) if ends else nullcontext() as stop:
        everything.main([])
    assert not ends or stop.value.code == ends
    out, err = capsys.readouterr()
    assert reason in out
    assert err.startswith("1 sections, about 2 minutes\none: about 90 s\none: took ")


def test_the_time_expected_is_that_recorded_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    sections = {"one": Section(lambda tiny: [], 90), "two": Section(lambda tiny: [], 30)}
    monkeypatch.setattr(everything, "SECTIONS", sections)
    monkeypatch.setattr(records, "own", lambda name: None)
    assert everything.expected_seconds() == {"one": 90, "two": 30}
    monkeypatch.setattr(records, "own", lambda name: {"seconds": {"one": 50}} if name == "all" else None)
    assert everything.expected_seconds() == {"one": 50, "two": 30}


def test_a_record_is_of_all_sections(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        everything.main(["--record", "--only", "start"])
    assert "--record is of all sections" in capsys.readouterr().err


def test_other_programs_excuse_wall_time_alone() -> None:
    wall, cpu = Row("a", 0.5, "x", 1, of="wall time"), Row("b", 0.5, "x", 1, of="CPU time")
    assert everything._excused(wall, 0.05) == wall
    assert everything._excused(cpu, 0.5) == cpu
    reason = "wall time, but other programs used 50% of the processor"
    assert everything._excused(wall, 0.5).cells[-2:] == ("no", reason)
    assert everything._excused(replace(wall, reason="slow disk"), 0.5).reason == "slow disk"


def test_the_budgets_fit_15_minutes() -> None:
    assert sum(section.seconds for section in everything.SECTIONS.values()) <= 15 * 60


def test_one_table_of_all_sections_even_where_one_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for limit in LIMITS:  # which would be part of the name of the machine
        monkeypatch.delenv(limit, raising=False)

    def broken(tiny: bool) -> list[Row]:
        raise RuntimeError("no such thing")

    good = [Row("a ratio", 20.0, "x", 15)]
    sections = {"good": Section(lambda tiny: good, 1), "broken": Section(broken, 1)}
    monkeypatch.setattr(everything, "SECTIONS", sections)
    written: dict[str, object] = {}
    monkeypatch.setattr(everything, "record", lambda name, what, **parts: written.update({name: parts}))
    with pytest.raises(SystemExit) as stop:
        everything.main(["--record"])
    assert stop.value.code == 1
    out = capsys.readouterr().out
    assert "failed: RuntimeError: no such thing" in " ".join(out.split())
    assert max(map(len, out.splitlines())) <= 100
    assert "1 of 2 goals met\nnot met: broken" in out
    assert json.dumps(written["all"]).count('"met": true') == 1


def test_the_quick_sections_run_in_their_tiny_form(capsys: pytest.CaptureFixture[str]) -> None:
    everything.main(["--tiny", "--only", "metrics", "--only", "recorded"])
    out = capsys.readouterr().out
    assert "metrics of a million tied scores" in out
    assert "preset fast" in out
    assert "goals met" not in out  # tiny models are not judged


def test_what_is_recorded_is_quoted_with_its_date(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    here = {"processor": "a CPU", "cores": 4, "date": "2026-01-02", "gpu": "a GPU"}
    kills = {"kills": 40, "finished": 40, "identical": 40, "lost": 0}
    for name, content in {
        "kills": {
            "rows": {"extract": kills, "bench": {**kills, "kills": 60, "finished": 60, "identical": 57}}
        },
        "million": {"rows": {"merge": {"bytes_a_row": 20.0}, "evaluate": {"bytes_a_row": 300.0}}},
        "gpu": {"CoOp step, 100 classes": {"plain loop": {"ratio": 1.0}, "lsn fp32": {"ratio": 9.0}}},
    }.items():
        entry = {"a CPU, 4 cores, a GPU": {"machine": here, **content}}
        (tmp_path / f"{name}.json").write_text(json.dumps(entry), encoding="utf-8")
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    rows = [*records.kills(), *records.million(), *records.gpu()]
    assert [(row.measured, row.met) for row in rows] == [(97, False), (0, True), (300, False), (9, None)]
    assert all("recorded 2026-01-02, a CPU, 4 cores, a GPU" in row.of for row in rows)


def test_a_goal_without_a_record_has_no_figure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    rows = records.rows()
    assert rows
    assert all(row.measured is None and row.met is None for row in rows)
    assert all("python -m " in row.of for row in rows)
