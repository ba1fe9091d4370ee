"""``lsn extract --engine ray`` with real Ray: equal bytes, also when an actor is killed or a part is lost."""

import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.robustness.processes import descendants, run_and_kill

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install 'lsncli[ray]'"),
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the actors by /proc"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 images of noise, one of them broken, and the store that one process makes of them in ``one``."""
    place, random = tmp_path_factory.mktemp("ray"), np.random.default_rng(5)
    for number in range(60):
        path = place / "photos" / f"class {number % 3}" / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (40, 48, 3)).astype(np.uint8)).save(path)
    path.write_bytes(b"")
    assert subprocess.run(extract(place, "one"), cwd=place, check=False).returncode == 0
    return place


def extract(place: Path, work: str, *more: str) -> list[str]:
    """A command line; its paths are relative to ``place``."""
    options = [
        "--model",
        "mini",
        "--device",
        "cpu",
        "--batch-size",
        "4",
        "--part-rows",
        "16",
        "--workers",
        "1",
    ]
    return [sys.executable, "-m", "lsncli", "extract", "photos", *options, "--work", work, "--quiet", *more]


RAY = ("--engine", "ray", "--processes", "2")


def run(place: Path, work: str, *more: str) -> subprocess.CompletedProcess[str]:
    """A run with Ray, as somebody whose home folder is ``place``/home."""
    home = {**os.environ, "HOME": str(place / "home")}
    command = extract(place, work, *RAY, *more)
    done = subprocess.run(command, cwd=place, env=home, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


def test_two_actors_make_the_store_of_one_process_and_lost_parts_are_made_again(place: Path) -> None:
    (place / "home").mkdir()
    done = run(place, "two", "--no-merge")
    assert done.stderr == ""
    assert list((place / "home").iterdir()) == []
    parts = sorted((place / "two" / "features.h5.parts" / "train").glob("rows-*.h5"))
    assert len(parts) == 4
    parts[1].unlink()
    parts[2].write_bytes(parts[2].read_bytes()[:-50])
    run(place, "two")
    assert (place / "two" / "features.h5").read_bytes() == (place / "one" / "features.h5").read_bytes()


def test_a_killed_actor_is_replaced_and_the_run_goes_on(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    parts = place / "killed" / "features.h5.parts" / "train"
    command = extract(place, "killed", *RAY)
    code, killed = run_and_kill(command, "ray", lambda: any(parts.glob("part-*.lock")), place / "log")
    assert killed
    assert code == 0, (place / "log").read_text()
    assert (place / "killed" / "features.h5").read_bytes() == (place / "one" / "features.h5").read_bytes()


def test_when_the_only_machine_is_lost_one_sentence_is_said_and_nothing_is_left(place: Path) -> None:
    parts = place / "lost" / "features.h5.parts" / "train"
    many = place / "many"  # so many that what is under way when the machine is lost does not finish them
    many.mkdir()
    for number in range(5000):
        os.link(place / "photos" / "class 0" / f"{number % 20 * 3:02}.png", many / f"{number}.png")
    command = extract(place, "lost", *RAY)
    command.remove("--quiet")
    command[command.index("photos")] = "many"
    with open(place / "err", "wb") as err:
        running = subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, stderr=err)
        try:
            while not any(parts.glob("part-*.lock")):  # pytest's timeout ends a run that hangs
                assert running.poll() is None, (place / "err").read_text()
            below = descendants(running.pid)
            machine = next(pid for pid, line in below.items() if "raylet/raylet" in line)
            os.kill(machine, signal.SIGKILL)
            out, _ = running.communicate()
        finally:
            running.kill()
    said = (place / "err").read_text()
    assert (running.returncode, out) == (1, b"")
    assert said.splitlines() == [
        "Error: Ray failed: no machine of its cluster is alive any more.",
        "What was committed stays. Run the same command again.",
    ]
    assert not [pid for pid in below if Path(f"/proc/{pid}").exists()]
