"""Images that take minutes, in full size, and signals that come while one is decoded."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from slow_images import DECODER, WATCHED
from waiting import wait_until

from tests.robustness.hostile_images import FILES, REASONS, apart

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")]


@pytest.mark.parametrize("name", FILES)
def test_it_is_decoded_or_refused_within_the_memory_that_is_promised(name: str) -> None:
    found = apart(name)
    outcome = str(found["outcome"])
    assert outcome.startswith(("(", *REASONS)), found
    # The copies of the file that are made for one that is watched, 1.25 GiB, and what Python takes.
    assert found["here_mib"] + found["there_mib"] < 3 * found["mb"] + 1280 + 100, found


COMMAND = """
import sys
from lsncli.cli.app import main
from lsncli.images import decode_process as watched
watched.RUN = sys.argv.pop(1)
main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("command", ["extract", "watch"])
def test_a_command_that_is_ended_ends_what_it_decodes(
    command: str, number: signal.Signals, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.avif").write_bytes(WATCHED["AVIF"]())
    note = tmp_path / "pid"
    sleeps = f"(open({str(note)!r}, 'w').write(str(os.getpid())), time.sleep(3600))"
    run = f"{DECODER}worker.decode_here = lambda data: {sleeps}; worker.serve()"
    words = ["extract", folder, "--model", "mini"]
    if command == "watch":
        words = ["watch", folder, "--interval", "0.1"]
        _detector(tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, run, *map(str, words), "--device", "cpu", "--image-timeout", "3600"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: note.exists() and note.read_text() != "", "an image that is being decoded")
    process.send_signal(number)
    process.wait(120)
    wait_until(lambda: not Path(f"/proc/{note.read_text()}").exists(), "the end of the process")


def _detector(folder: Path) -> None:
    """A workspace with a detector, made from names alone."""
    from lsncli import Detector

    (folder / "lsn-work").mkdir()
    detector = Detector.zero_shot(["cat", "dog"], model="mini", device="cpu")
    detector.save(folder / "lsn-work" / "detector.safetensors")
