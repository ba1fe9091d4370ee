"""The driver that puts faults into the code: what counts as one, and what is counted."""

from pathlib import Path

import pytest

from benchmarks.records import read
from tests.robustness.mutants import EQUIVALENT, ROOT, TESTS, Mutant, key, meaning, mutants, totals


def test_annotations_docstrings_and_layout_mean_nothing() -> None:
    code = 'def f(a: int | None = 1) -> int:\n    """Text."""\n    b: int = a + 1\n    return b\n'
    same = "def f(a: str = 1):\n    'Other.'\n    b: float = (a+1)\n    return b\n"
    assert meaning(code) == meaning(same) != meaning(code.replace("a + 1", "a - 1"))
    assert meaning("def f(:") == ""


def test_every_module_and_its_tests_exist() -> None:
    for module, tests in TESTS.items():
        assert (ROOT / "lsncli" / f"{module}.py").is_file()
        assert all((ROOT / one).exists() for one in tests), module


def test_what_became_of_faults_is_counted() -> None:
    results = ["failed", "failed", "broken", "endless", "survived", "equivalent"]
    found = totals([Mutant("m", 1, "a", "b", "Not", 0, result) for result in results])
    assert found == {"made": 6, "killed": 4, "survived": 1, "equivalent": 1, "endless": 1, "broken": 1}


def test_the_record_is_of_the_modules_and_gives_reasons() -> None:
    content, _ = read("mutants")
    if content is None:
        pytest.skip("nothing is recorded")
    done = [Mutant(**one) for one in content["mutants"]]
    assert totals(done) == content["totals"]
    assert {one.module for one in done} == TESTS.keys()
    assert len({key(one) for one in done}) == len(done)
    unnoticed = {(one.module, one.after) for one in done if one.result == "equivalent"}
    assert unnoticed == EQUIVALENT.keys()


def test_the_sample_is_the_same_each_time_and_a_place_is_changed_once() -> None:
    pytest.importorskip("cosmic_ray", reason="cosmic-ray makes the faults: pip install cosmic-ray")
    first, again = list(mutants("threshold", 3)), list(mutants("threshold", 3))
    assert first == again != list(mutants("threshold", 4))
    lines = Path(ROOT / "lsncli/threshold.py").read_text(encoding="utf-8").splitlines()
    assert all(lines[one.line - 1].strip() == one.before != one.after for one in first)
    assert len(first) > 20
