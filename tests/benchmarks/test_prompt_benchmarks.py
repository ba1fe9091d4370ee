"""The benchmarks of prompt learning run, print what they should, and measure what they claim."""

import copy
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks.speed import gpu, text_tower, timing, training
from benchmarks.speed.models import class_names, images, text_model
from benchmarks.speed.on_device import at_most
from benchmarks.speed.peak import peak_in_new_process, peak_of
from benchmarks.speed.timing import interleaved


@pytest.fixture(autouse=True)
def nothing_is_written(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The reduced forms leave the recorded results and the number of threads alone."""
    before = torch.get_num_threads()
    for script in (text_tower, training, gpu):
        monkeypatch.setattr(script, "record", lambda *_, **__: pytest.fail("a reduced form wrote a record"))
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
def test_text_tower_runs_in_its_tiny_form(capsys) -> None:
    text_tower.main(["--tiny"])
    out = capsys.readouterr().out
    assert out.startswith("Reduced: 5 classes, model tiny; nothing is written.")
    for kernel in text_tower.kernels():
        assert f"{kernel:<12} differs by" in out
    assert "5 classes, class-specific context of 4" in out
    assert "C = 5, shared, torch " in out


def test_training_runs_in_its_tiny_form(capsys) -> None:
    training.main(["--tiny"])
    out = capsys.readouterr().out
    for title in training.LEARNERS:
        assert f"{title}, 5 classes" in out
    assert out.count("largest difference from the plain loop") == len(training.LEARNERS)
    assert "EXTRAPOLATED" in out


@pytest.mark.slow
def test_the_gpu_script_runs_in_its_tiny_form_on_a_cpu(capsys) -> None:
    gpu.main(["--device", "cpu", "--tiny"])
    out = capsys.readouterr().out
    parts = (
        *("Deviation from fp32", "Image tower", "Pixels of 4 images", "Extraction of 4"),
        "torch.compile of a CoOp text pass",
    )
    for title in (*gpu.LEARNERS, *parts):
        assert title in out
    if tuple(map(int, torch.__version__.split(".")[:2])) >= (
        2,
        6,
    ):  # older compilers have no bmm into an `out`
        assert "does not compile" not in out


def test_the_gpu_script_records_every_part_before_the_next(monkeypatch, tmp_path, capsys) -> None:
    kept: list[dict[str, object]] = []

    def growing() -> Iterator[dict[str, dict[str, float]]]:
        rows: dict[str, dict[str, float]] = {"one": {"ms": 1.5}}
        yield rows
        rows["two"] = {"ms": 2.5}
        yield rows

    def broken() -> list[dict[str, dict[str, float]]]:
        raise RuntimeError("no kernel image is available")

    def interrupted() -> list[dict[str, dict[str, float]]]:
        raise KeyboardInterrupt

    parts = {
        "first": growing,
        "broken": broken,
        "second": lambda: [{"three": {"ms": 3.5}}],
        "last": interrupted,
    }
    monkeypatch.setattr(gpu, "parts_of", lambda form, device: parts.items())
    monkeypatch.setattr(gpu, "record", lambda *_, folder, **parts: kept.append(copy.deepcopy(parts)))
    with pytest.raises(KeyboardInterrupt):
        gpu.main(["--device", "cpu", "--output", str(tmp_path)])
    one, two, three = {"one": {"ms": 1.5}}, {"two": {"ms": 2.5}}, {"three": {"ms": 3.5}}
    assert kept == [{"first": one}, {"first": one | two}, {"first": one | two, "second": three}]
    printed = capsys.readouterr()
    assert printed.out.count("one ") == 1
    assert "broken failed:" in printed.err
    assert "no kernel image is available" in printed.err
    del parts["last"]
    with pytest.raises(SystemExit, match="1 parts failed: broken"):
        gpu.main(["--device", "cpu", "--output", str(tmp_path)])


@pytest.mark.slow
def test_the_gpu_script_names_what_a_bare_machine_needs() -> None:
    """Imports of the whole script are torch's, or named at its beginning, or what the hub requires."""
    script = (
        "import json, sys\n"
        "from importlib.metadata import packages_distributions\n"
        "from benchmarks.speed import gpu\n"
        "gpu.main(['--device', 'cpu', '--tiny'])\n"
        "known = packages_distributions()\n"
        "names = {name.partition('.')[0] for name in sys.modules}\n"
        "print(json.dumps(sorted({each for name in names for each in known.get(name, ())})))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=True
    )
    named = {plain(word) for word in re.findall(r"[A-Za-z][\w.-]*", gpu.__doc__.replace(",", " "))}
    allowed = named | needs("torch") | needs("huggingface_hub") | {"lsncli", "pip"}
    # openvino is a runtime on a CPU; where it is installed, the program tries it.
    used = {plain(name) for name in json.loads(done.stdout.splitlines()[-1])}
    assert used - allowed - {"openvino", "openvino-telemetry"} == set()


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def needs(name: str) -> set[str]:
    """A distribution that is installed, and what it requires."""
    found, todo = set(), [name]
    while todo:
        one = todo.pop()
        if plain(one) in found:
            continue
        try:
            lines = metadata.requires(one) or []
        except metadata.PackageNotFoundError:
            continue
        found.add(plain(one))
        todo += [re.match(r"[\w.-]+", line)[0] for line in lines if "extra ==" not in line]
    return found


def test_a_limit_of_time_ends_what_takes_longer() -> None:
    with pytest.raises(TimeoutError, match=r"^longer than 0 s$"), at_most(0.01):
        signal.pause()
    with at_most(60):
        pass
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_the_gpu_script_without_a_gpu_says_so_and_ends_with_5(capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        gpu.main([])
    assert stop.value.code == 5
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert "'cuda' is not available" in captured.err


def test_estimates_multiply_the_measured_step() -> None:
    row = {"cpu_s": 3.6}
    measured = {title: {"plain loop": row} for title in training.LEARNERS}
    hours = training.estimates(measured, 100)
    assert hours["CoOp, 50 epochs of batches of 8"]["plain loop"] == pytest.approx(50 * 1600 / 1000)
    assert hours["negative, 3 sets in turns, 100 epochs"]["plain loop"] == pytest.approx(
        3 * 100 * 1600 / 1000
    )
    assert hours["CoCoOp, 10 epochs of single images"]["plain loop"] == pytest.approx(128)
    assert hours["CoCoOp test, 5,000 images"]["plain loop"] == pytest.approx(5)


def test_turns_alternate_and_ratios_are_of_the_chosen_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    wall = cpu = 0.0

    def passing(name: str, wall_seconds: float, cpu_seconds: float) -> Callable[[], None]:
        def run() -> None:
            nonlocal wall, cpu
            order.append(name)
            wall, cpu = wall + wall_seconds, cpu + cpu_seconds

        return run

    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: wall))
    monkeypatch.setattr(timing, "cpu_seconds", lambda: cpu)
    variants = {"work": passing("work", 2.0, 2.0), "sleep": passing("sleep", 8.0, 0.5)}
    on_cpu = interleaved(variants, 2, clock="cpu", warm=False)
    assert order == ["work", "sleep", "sleep", "work"]
    on_wall = interleaved(variants, 2)
    assert len(order) == 4 + 2 * 3
    ratios = ("ratio", "lowest", "highest")
    assert [on_cpu["sleep"][name] for name in ratios] == [4.0] * 3  # asleep, it costs little
    assert [on_wall["sleep"][name] for name in ratios] == [0.25] * 3
    assert (on_cpu["sleep"]["wall_s"], on_cpu["sleep"]["cpu_s"]) == (8.0, 0.5)
    assert on_cpu["work"]["ratio"] == 1


@pytest.mark.parametrize(("budget", "rounds"), [(None, 5), (100.0, 5), (30.0, 2), (1.0, 1)])
def test_a_budget_ends_rounds_before_they_exceed_it(
    monkeypatch: pytest.MonkeyPatch, budget: float | None, rounds: int
) -> None:
    now = 0.0

    def work() -> None:
        nonlocal now
        now += 5.0

    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: now))
    monkeypatch.setattr(timing, "cpu_seconds", lambda: now)
    rows = interleaved({"first": work, "second": work}, 5, budget=budget)
    assert rows["second"]["rounds"] == rounds
    assert now == 10 * (rounds + 1)  # one round does not count


def test_cpu_seconds_count_work_here_and_in_children_that_ended() -> None:
    before = timing.cpu_seconds()
    subprocess.run([sys.executable, "-c", "sum(range(10**6))"], check=True)
    between = timing.cpu_seconds()
    sum(range(10**6))
    assert before < between < timing.cpu_seconds()


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="Linux alone counts the CPU time of all")
def test_own_work_is_not_that_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    own = 3.0
    monkeypatch.setattr(timing, "cpu_seconds", lambda: own)
    text = "cpu  1000 200 300 99999 88888 40 50 60 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n"
    monkeypatch.setattr(Path, "read_text", lambda self, **_: text)
    assert timing.others_seconds() == 1650 / os.sysconf("SC_CLK_TCK") - own


def test_the_peak_is_what_was_needed_at_once() -> None:
    def work() -> None:
        for _ in range(3):
            block = bytearray(200 * 2**20)
            del block

    assert peak_of(work)["peak_mib"] == pytest.approx(200, abs=25)


def test_a_case_that_fails_in_its_process_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="no_such_case"):
        peak_in_new_process("benchmarks.speed.peak:no_such_case")


def test_models_and_names_are_the_same_every_time() -> None:
    first, second = (text_model("tiny").clip.state_dict() for _ in range(2))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    names = class_names(100)
    assert len(set(names)) == 100
    assert names == class_names(1000)[::10]
    torch.testing.assert_close(images(3, 5).norm(dim=-1), torch.ones(3))
