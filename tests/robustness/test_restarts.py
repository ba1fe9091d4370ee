"""One process of a launch of torchrun is killed at some moment: one restart later the split is whole.

The quick form is in tests/extraction/test_engines.py.
"""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.robustness.processes import workers_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds a rank by /proc"),
]

IMAGES, PART = 400, 8
OWN = IMAGES // PART // 2
"""Parts of each process."""
STANDALONE = ("--standalone",)
STATIC = ("--rdzv-backend", "static", "--master-addr", "127.0.0.1", "--master-port")
"""As on several hosts that know the first one: two launches by hand have one name."""


def extract(place: Path, work: str, *more: str) -> list[str]:
    options = ["--model", "mini", "--device", "cpu", "--batch-size", "4", "--part-rows", str(PART)]
    options += ["--workers", "1", "--work", str(place / work), *more]
    return ["-m", "lsncli", "extract", str(place / "photos"), *options]


def launcher(*how: str) -> list[str]:
    """torchrun of two processes, on a free port where it wants one."""
    if how[-1] == "--master-port":
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            how = (*how, str(probe.getsockname()[1]))
    return [sys.executable, "-m", "torch.distributed.run", *how, "--nproc-per-node", "2"]


def rank(pid: int) -> str:
    """The RANK of a process, or nothing for one that has ended."""
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return ""
    return next((one[5:].decode() for one in environment if one.startswith(b"RANK=")), "")


def made(folder: Path, victim: str) -> int:
    """How many of its parts a process has made: part k is of process k modulo 2."""
    starts = [int(path.name.split("-")[1]) for path in folder.glob("rows-*.h5")]
    return sum(start // PART % 2 == int(victim) for start in starts)


def run_and_kill(command: list[str], folder: Path, victim: str, parts: int, log: Path) -> int:
    """Run, and kill the process of rank ``victim`` once it has made ``parts`` of its parts: the exit code."""
    with open(log, "wb") as output:
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=output)
    try:
        victims: list[int] = []
        while made(folder, victim) < parts:  # pytest's timeout ends a run that hangs
            victims = victims or [pid for pid in workers_of(running.pid, "torchrun") if rank(pid) == victim]
            assert running.poll() is None, log.read_text()
        victims = victims or [pid for pid in workers_of(running.pid, "torchrun") if rank(pid) == victim]
        os.kill(victims[0], signal.SIGKILL)
        return running.wait()
    finally:
        running.kill()
        running.wait()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of noise, and the store that one process makes of them in ``one``."""
    place, random = tmp_path_factory.mktemp("restarts"), np.random.default_rng(3)
    for number in range(IMAGES):
        path = place / "photos" / f"class {number % 2}" / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (40, 48, 3)).astype(np.uint8)).save(path)
    subprocess.run([sys.executable, *extract(place, "one", "--quiet")], check=True, stdout=subprocess.DEVNULL)
    return place


@pytest.mark.parametrize("how", [STANDALONE, STATIC], ids=["standalone", "static"])
@pytest.mark.parametrize("more", [(), ("--overwrite",)], ids=["resume", "overwrite"])
@pytest.mark.parametrize("parts", [1, OWN - 3], ids=["early", "late"])
@pytest.mark.parametrize("victim", ["0", "1"])
def test_one_kill_costs_one_restart(
    place: Path, tmp_path: Path, victim: str, parts: int, more: tuple[str, ...], how: tuple[str, ...]
) -> None:
    folder = tmp_path / "features.h5.parts" / "train"
    command = [*launcher("--max-restarts", "1", *how), *extract(place, str(tmp_path), "--engine", "torchrun")]
    code = run_and_kill([*command, *more], folder, victim, parts, tmp_path / "log")
    assert code == 0, (tmp_path / "log").read_text()
    assert (tmp_path / "features.h5").read_bytes() == (place / "one" / "features.h5").read_bytes()
    assert not folder.parent.exists()


@pytest.mark.parametrize("how", [STANDALONE, STATIC], ids=["standalone", "static"])
def test_the_same_launch_by_hand_goes_on_and_with_overwrite_starts_again(
    place: Path, tmp_path: Path, how: tuple[str, ...]
) -> None:
    folder = tmp_path / "features.h5.parts" / "train"
    command = [*launcher(*how), *extract(place, str(tmp_path), "--engine", "torchrun", "--overwrite")]
    assert run_and_kill(command, folder, "0", OWN // 2, tmp_path / "log") != 0
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "features.h5").read_bytes() == (place / "one" / "features.h5").read_bytes()
        assert not folder.parent.exists()
