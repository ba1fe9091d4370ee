"""`make test-hard` makes the conditions that it names, and fails if one of its runs does."""

import json
import os
from pathlib import Path

import pytest
from waiting import wait_until

from tests.robustness import hard

SPY = """
import json, os
from pathlib import Path

def note(test):
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    seen = {"test": test, "cores": cores, "onednn": os.environ.get("ONEDNN_MAX_CPU_ISA")}
    with Path(__file__).with_name("notes").open("a") as file:
        file.write(json.dumps(seen) + "\\n")

def test_a(): note("a")
def test_b(): note("b")
def test_c(): note("c")
def test_d(): note("d")
def test_e(): note("e")
"""
QUICK = ("-n0", "-p", "no:cacheprovider", "-c", str(hard.ROOT / "pyproject.toml"))


@pytest.fixture
def spied(capsys, tmp_path: Path):
    """One run of five small tests: what was printed, and what each test saw."""
    (tmp_path / "test_spy.py").write_text(SPY)

    def run(*words: str) -> tuple[str, list[dict]]:
        (tmp_path / "notes").unlink(missing_ok=True)
        # Names from this folder on: the order depends on the seed and the names of tests.
        assert hard.main([*words, *QUICK, "--rootdir", str(tmp_path), str(tmp_path)]) == 0
        said = capsys.readouterr().out
        assert said.count("\n") == 1
        return said, [json.loads(line) for line in (tmp_path / "notes").read_text().splitlines()]

    return run


@pytest.mark.skipif(bool(hard.no_one_core()), reason="needs two cores")
def test_one_core_is_one_core(spied) -> None:
    before = os.sched_getaffinity(0)
    said, found = spied("--only", "one-core")
    assert said.startswith("on one core: passed: 5 passed in ")
    assert [one["cores"] for one in found] == [1] * 5
    assert os.sched_getaffinity(0) == before


@pytest.mark.skipif(bool(hard.no_older_instructions()), reason="needs a processor with AVX2")
def test_libraries_are_told_which_instructions_to_use(spied) -> None:
    said, found = spied("--only", "avx2")
    assert said.startswith("with AVX2 only: passed: 5 passed in ")
    assert [one["onednn"] for one in found] == ["AVX2"] * 5
    assert [one["test"] for one in found] == list("abcde")


@pytest.mark.skipif(bool(hard.no_random_order()), reason="needs pytest-randomly")
def test_the_seed_is_printed_and_sets_the_order(spied) -> None:
    orders = []
    for seed in (1, 1, 8):
        said, found = spied("--only", "random", "--seed", str(seed))
        assert said.startswith(f"in random order, --seed {seed}: passed: 5 passed in ")
        orders.append([one["test"] for one in found])
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2]) == list("abcde")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")
def test_busy_loops_compute_as_long_as_the_tests_run() -> None:
    def computed(pid: int) -> bool:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11]) > 0

    with hard.busy(2) as loops:
        wait_until(lambda: all(computed(loop.pid) for loop in loops), "time that the loops computed")
        assert [loop.poll() for loop in loops] == [None, None]
    assert all(loop.poll() is not None for loop in loops)


def test_a_run_that_fails_names_its_tests_and_ends_in_1(capsys, tmp_path: Path) -> None:
    (tmp_path / "test_bad.py").write_text("def test_good(): pass\ndef test_bad(): assert 0\n")
    assert hard.main(["--only", "busy", *QUICK, str(tmp_path)]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("beside two busy loops: FAILED (exit code 1) after ")
    assert "test_bad.py::test_bad" in said[1]
    assert said[2].strip().startswith("1 failed, 1 passed in ")
    log = Path(said[0].rpartition(" all output in ")[2])
    assert "assert 0" in log.read_text()


def test_what_this_machine_cannot_do_is_skipped_with_the_reason(capsys, monkeypatch) -> None:
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    assert hard.main(["--only", "one-core"]) == 0
    assert capsys.readouterr().out == "on one core: skipped: this system binds no process to a core\n"
