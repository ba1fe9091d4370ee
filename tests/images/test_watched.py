"""Decoding in another process: the same pixels, an end for what takes too long, and nothing left behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from math import isqrt
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from slow_images import DECODER, PICTURE, SLEEPS, STRIPPED, WATCHED, encoded, plain_webp
from waiting import wait_until

from lsncli.errors import UsageError
from lsncli.images import decode_process
from lsncli.images.budget import IMAGE_SECONDS
from lsncli.images.decode import decode, decode_here
from lsncli.images.listing import list_images
from lsncli.images.loader import load_batches
from lsncli.images.read import Undecodable
from lsncli.images.structure import MAX_WEBP
from tests.robustness.mutations import samples

LARGE = {"RLE of a BMP", "a PPM of ten bits", "plain PPM"}
LINUX = sys.platform.startswith("linux")


@pytest.fixture(autouse=True)
def _processes_of_this_test_alone() -> Iterator[None]:
    decode_process.end_all()
    yield
    decode_process.end_all()


@pytest.fixture
def decoding(monkeypatch: pytest.MonkeyPatch):
    """Let the processes do something else than decode; ``start()`` gives them back their work."""

    def do(what: str = "worker.serve()") -> None:
        monkeypatch.setattr(decode_process, "RUN", DECODER + what)

    return do


def processes() -> set[int]:
    return {worker._process.pid for worker in decode_process._all}


def is_there(pid: int) -> bool:
    """Whether a process runs; one that ended, and that nobody waited for, does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def outcome(decode, data: bytes) -> tuple[str, bytes]:
    """The reason why there is no image, and the pixels of one."""
    try:
        image = decode(data)
    except Undecodable as error:
        return error.message, b""
    assert image.mode == "RGB"
    return str(image.size), image.tobytes()


def test_every_image_has_the_pixels_that_it_has_in_a_thread() -> None:
    sklearn = pytest.importorskip("sklearn")
    photo = Image.open(Path(sklearn.__file__).parent / "datasets/images/flower.jpg")
    images = samples(photo) | {name: make() for name, make in WATCHED.items() if name not in LARGE}
    images |= {name: make() for name, (make, _) in STRIPPED.items()}
    images |= {"cut short": encoded("JPEG")[:-200], "no image": b"hello"}
    for name, data in images.items():
        assert outcome(decode_process.decode, data) == outcome(decode_here, data), name
    assert len(processes()) == 1  # one served them all


def test_pixels_of_one_image_are_never_those_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    for kept in (decode_process.MAX_REUSED_BYTES, 0):
        monkeypatch.setattr(decode_process, "MAX_REUSED_BYTES", kept)
        for size in ((64, 48), (3, 500), (1, 1), (200, 300)):
            data = encoded("PNG", PICTURE.resize(size))
            assert outcome(decode_process.decode, data) == outcome(decode_here, data)
    assert len(processes()) == 1


def test_a_decoder_that_takes_too_long_is_ended(decoding, monkeypatch: pytest.MonkeyPatch) -> None:
    decoding(SLEEPS)
    monkeypatch.setenv(IMAGE_SECONDS, "0.2")
    with pytest.raises(Undecodable) as caught:
        decode_process.decode(encoded("PNG"))
    assert caught.value.message == "takes more than 0.2 s to decode; --image-timeout allows more"
    assert processes() == set()
    monkeypatch.setenv(IMAGE_SECONDS, "600")
    decoding()
    assert decode_process.decode(encoded("PNG")).size == (64, 48)


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", r"damaged: its decoder crashed \(SIGSEGV\)"),
        ("os._exit(3)", "damaged: its decoder ended with exit status 3"),
    ],
)
def test_a_decoder_that_dies_is_a_failure_of_that_image_alone(decoding, what: str, reason: str) -> None:
    decoding(f"worker.decode_here = lambda data: {what}; worker.serve()")
    with pytest.raises(Undecodable, match=reason):
        decode_process.decode(encoded("PNG"))
    decoding()
    assert decode_process.decode(encoded("PNG")).size == (64, 48)


@pytest.mark.parametrize("width", [64, 1 << 31])
def test_a_response_without_pixels_is_a_failure(decoding, width: int) -> None:
    respond = f"lambda responses, *rest: responses.write(worker.RESPONSE.pack(True, {width}, 48))"
    decoding(f"worker._respond = {respond}; worker.serve()")
    with pytest.raises(Undecodable, match="damaged: its decoder crashed"):
        decode_process.decode(encoded("PNG"))
    assert processes() == set()


def test_a_process_that_does_not_start_has_a_reason(decoding, monkeypatch: pytest.MonkeyPatch) -> None:
    decoding("sys.exit(4)")
    with pytest.raises(Undecodable, match=r"did not start \(exit status 4\)"):
        decode_process.decode(encoded("PNG"))
    monkeypatch.setattr(decode_process, "START_SECONDS", 0.2)
    decoding("time.sleep(3600)")
    with pytest.raises(Undecodable, match=r"did not start within 0\.2 s"):
        decode_process.decode(encoded("PNG"))
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(Undecodable, match="no process could be started for it: No such file"):
        decode_process.decode(encoded("PNG"))
    assert processes() == set()


def test_a_process_that_ended_meanwhile_is_replaced() -> None:
    decode_process.decode(encoded("PNG"))
    (before,) = processes()
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: not is_there(before), "the end of the process")
    assert decode_process.decode(encoded("PNG")).size == (64, 48)
    assert before not in processes()


@pytest.mark.skipif(not LINUX, reason="only Linux limits the memory of a process")
def test_an_image_that_takes_too_much_memory_is_refused_and_the_process_goes_on(decoding) -> None:
    decoding(
        "real = worker.decode_here; "
        "worker.decode_here = lambda data: real(data) if data[:1] == b'\\x89' else bytearray(2 << 30); "
        "worker.serve()"
    )
    with pytest.raises(Undecodable, match=r"too large: decoding it takes more than 1\.25 GiB of memory"):
        decode_process.decode(b"large")
    before = processes()
    assert decode_process.decode(encoded("PNG")).size == (64, 48)
    assert processes() == before


@pytest.mark.skipif(not LINUX, reason="only Linux limits the memory of a process")
def test_the_largest_webp_needs_less_memory_than_is_allowed() -> None:
    side = isqrt(MAX_WEBP)
    found = decode_process.decode(plain_webp(side, side))
    assert found.size == (side, side)
    assert found.getpixel((0, 0)) == (194, 194, 194)  # 99 on white


def test_a_limit_that_is_no_number_is_said_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(IMAGE_SECONDS, "soon")
    with pytest.raises(UsageError, match="LSN_IMAGE_TIMEOUT: expected seconds above 0"):
        load_batches([], lambda data: torch.zeros(3, 1, 1), batch_size=1, workers=1)


def test_images_of_a_run_that_ends_are_given_up(decoding, monkeypatch: pytest.MonkeyPatch) -> None:
    decoding(SLEEPS)
    monkeypatch.setenv(IMAGE_SECONDS, "3600")
    with decode_process.threads(2, "test") as pool:
        work = [pool.submit(decode_process.decode, encoded("PNG")) for _ in range(5)]
        wait_until(lambda: len(processes()) == 2, "two processes")
    assert all(one.cancelled() or isinstance(one.exception(), decode_process.GivenUp) for one in work)
    assert processes() == set()


def test_closing_batches_ends_what_is_being_decoded(
    decoding, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoding(SLEEPS)
    monkeypatch.setenv(IMAGE_SECONDS, "3600")
    for number in range(4):
        data = encoded("PNG") if number < 2 else WATCHED["AVIF"]()
        (tmp_path / f"{number}.png").write_bytes(data)

    def pixels(data: bytes) -> torch.Tensor:
        return torch.tensor(np.asarray(decode(data))).permute(2, 0, 1)

    batches = load_batches(list_images([tmp_path]).items, pixels, batch_size=2, workers=2)
    assert next(batches).keys == ("0.png", "1.png")
    wait_until(lambda: bool(processes()), "a process for an image of the next batch")
    batches.close()
    assert processes() == set()


def test_a_forked_process_leaves_those_of_its_parent_alone(decoding) -> None:
    decode_process.decode(encoded("PNG"))
    before = processes()
    child = os.fork()
    if child == 0:
        sound = decode_process._all == set() and decode_process._idle == []
        os._exit(0 if sound else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert decode_process.decode(encoded("PNG")).size == (64, 48)
    assert processes() == before


PARENT = """
import os, signal, sys
from lsncli.images import decode_process as watched
watched.RUN = sys.argv[2]
if sys.argv[1] == "idle":
    watched.decode(open(sys.argv[3], "rb").read())
    print(*[one._process.pid for one in watched._all], flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
watched.decode(open(sys.argv[3], "rb").read())
"""


@pytest.mark.skipif(not LINUX, reason="processes are looked for in /proc")
@pytest.mark.parametrize("state", ["idle", "busy"])
def test_a_killed_parent_leaves_no_process_behind(state: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded("PNG"))
    # The busy one says who it is, and kills its parent; its own clock ends it.
    busy = (
        "worker.GRACE = 0; worker.decode_here = lambda data: ("
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())), "
        "os.kill(os.getppid(), signal.SIGKILL), time.sleep(3600)); worker.serve()"
    )
    run = DECODER + (busy if state == "busy" else "worker.serve()")
    done = subprocess.run(
        [sys.executable, "-c", PARENT, state, run, str(tmp_path / "a.png")],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {IMAGE_SECONDS: "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    pid = int(done.stdout if state == "idle" else (tmp_path / "pid").read_text())
    wait_until(lambda: not is_there(pid), "the end of the process")


def test_nothing_is_loaded_from_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PIL", "lsncli", "numpy"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit(9)")
    for name in ("signal", "struct"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])  # as in a console
    assert decode_process.decode(encoded("PNG")).size == (64, 48)
