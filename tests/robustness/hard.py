"""The whole suite where tests that depend on the machine fail: `make test-hard`.

    python -m tests.robustness.hard [--only NAME] [--seed N] [ARGUMENT ...]

Four runs, one after another: beside two busy loops, on one core, with the instructions of an older processor,
and in random order. Each prints one line with its outcome, and the tests that failed. Arguments go on to
pytest, such as a folder of tests. Exits with 1 if a run failed. What this machine cannot do is skipped, and
the line says why.
"""

import argparse
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SUITE = ("-m", "pytest", "-W", "error", "-n", "2", "--dist", "worksteal")

OLDER = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_CBWR": "AVX2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
}
"""Instructions for each library that computes: sums come in another order, and so do last bits."""

# Ends with this program, however that ends.
BUSY = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    sum(range(10_000))\n"


@dataclass(frozen=True)
class Run:
    """One run of the suite: how it differs from `make test`, and why this machine cannot do it, if so."""

    title: str
    loops: int = 0
    cores: int = 0
    """On how many cores; 0 for all."""
    environment: Mapping[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    obstacle: Callable[[], str] = lambda: ""


def no_one_core() -> str:
    if not hasattr(os, "sched_setaffinity"):
        return "this system binds no process to a core"
    return "" if len(os.sched_getaffinity(0)) > 1 else "this machine has one core, every run is this one"


def no_older_instructions() -> str:
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return f"the settings are for x86-64, this is {platform.machine()}"
    flags = Path("/proc/cpuinfo")
    if flags.exists() and " avx2 " not in flags.read_text():
        return "this processor has no AVX2"
    return ""


def no_random_order() -> str:
    return "" if find_spec("pytest_randomly") else "pytest-randomly is not installed"


def runs(seed: int) -> dict[str, Run]:
    """All runs by name."""
    # Random numbers keep their seeds: what a test draws is not to depend on the order, nor be made to.
    shuffled = ("-p", "randomly", "--randomly-dont-reset-seed", f"--randomly-seed={seed}")
    return {
        "busy": Run("beside two busy loops", loops=2),
        "one-core": Run("on one core", cores=1, obstacle=no_one_core),
        "avx2": Run("with AVX2 only", environment=OLDER, obstacle=no_older_instructions),
        "random": Run(f"in random order, --seed {seed}", arguments=shuffled, obstacle=no_random_order),
    }


@contextmanager
def busy(loops: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that compute without end, beside whatever the block does."""
    running = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(loops)]
    try:
        yield running
    finally:
        for loop in running:
            loop.kill()
            loop.wait()


def bound_to(cores: int) -> Callable[[], None] | None:
    """What a child does before it starts, so as to use the first ``cores`` cores alone."""
    if not cores:
        return None
    chosen = sorted(os.sched_getaffinity(0))[:cores]
    return lambda: os.sched_setaffinity(0, chosen)


def outcome(run: Run, arguments: list[str], log: Path) -> tuple[bool, str]:
    """Do it: whether it went well, and what there is to say. The output of pytest goes to ``log``."""
    if why := run.obstacle():
        return True, f"skipped: {why}"
    began = time.monotonic()
    with busy(run.loops), log.open("w", encoding="utf-8") as output:
        code = subprocess.run(
            [sys.executable, *SUITE, *run.arguments, *arguments],
            cwd=ROOT,
            env={**os.environ, **run.environment},
            preexec_fn=bound_to(run.cores),
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() or ["no output"]
    if not code:
        return True, f"passed: {lines[-1].strip('= ')}"
    failed = [line for line in lines if line.startswith(("FAILED ", "ERROR "))]
    seconds = f"after {time.monotonic() - began:.0f} s, all output in {log}"
    return False, "\n  ".join([f"FAILED (exit code {code}) {seconds}", *failed, lines[-1].strip("= ")])


def main(arguments: list[str] | None = None) -> int:
    """Do the runs; 1 if any failed."""
    seed = random.SystemRandom().randrange(2**32)
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=runs(seed), action="append", help="this run, and others so named")
    parser.add_argument("--seed", type=int, default=seed, help="of the random order")
    given, more = parser.parse_known_args(arguments)
    logs = Path(tempfile.mkdtemp(prefix="lsn-test-hard-"))
    good = True
    for name, run in runs(given.seed).items():
        if given.only and name not in given.only:
            continue
        print(f"{run.title}: ", end="", flush=True)
        passed, said = outcome(run, more, logs / f"{name}.log")
        print(said, flush=True)
        good = good and passed
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
