"""Decode images that may take long in worker processes, with limits on time and memory.

A thread cannot be ended, nor survive a decoder that crashes. The worker processes (``images.decode_worker``)
import little more than Pillow. They start on demand, decode one image after another, and end with this
process.
"""

import atexit
import os
import signal
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from PIL import Image

from lsncli.images.budget import allowed_image_seconds
from lsncli.images.read import Undecodable

MEMORY = 5 << 28
"""Bytes that decoding an image may allocate, beyond twice its file: 1.25 GiB. Enforced on Linux only."""
START_SECONDS = 120.0
"""Time limit for a process to start, on a busy machine."""
REQUEST = struct.Struct("<dQQ")
"""Header of a request: the limits in seconds and bytes of memory, and the length of the image file."""
RESPONSE = struct.Struct("<?II")
"""Header of a response: whether there are pixels, which are in the shared file as PPM; then width and height,
or the length of the reason that follows, and 0."""
MAX_REUSED_BYTES = 1 << 26
"""Pixel memory that stays allocated for the next image, which is then decoded sooner."""
RUN = "import sys; sys.path[:] = sys.argv[2:]; from lsncli.images.decode_worker import serve; serve()"
"""The program of a worker process; its arguments are the file for pixels and the entries of sys.path."""

_lock = threading.Lock()
_idle: list["_Worker"] = []
_all: set["_Worker"] = set()
_thread = threading.local()


class GivenUp(BaseException):
    """Raised for an image whose result is no longer needed. It is not a failure of the image."""


class Together:
    """Decoding threads that are cancelled together, when their results are no longer needed."""

    def __init__(self) -> None:
        self._busy: set[_Worker] = set()
        self._lock = threading.Lock()
        self._ended = False

    def join(self) -> None:
        """Add the calling thread."""
        _thread.together = self

    def end(self) -> None:
        """Cancel the images being decoded, and refuse all others."""
        with self._lock:
            self._ended = True
            for worker in self._busy:
                worker.kill()

    @contextmanager
    def working(self, worker: "_Worker") -> Iterator[None]:
        """Register ``worker`` while it decodes for these threads. Raises GivenUp after ``end``."""
        with self._lock:
            if self._ended:
                raise GivenUp
            self._busy.add(worker)
        try:
            yield
        except Undecodable:
            if self._ended:
                raise GivenUp from None
            raise
        finally:
            with self._lock:
                self._busy.discard(worker)


def decode(data: bytes) -> Image.Image:
    """Decode an image in another process, as ``images.decode.decode_here`` does.

    Raises Undecodable, also if decoding exceeds the limits on time and memory or crashes; UsageError for an
    invalid time limit.
    """
    seconds = allowed_image_seconds()
    worker = _take_worker()
    try:
        with getattr(_thread, "together", _ALONE).working(worker):
            result = worker.request(data, seconds)
    except MemoryError as error:
        worker.end()
        raise Undecodable("there is no memory to decode it") from error
    except BaseException:  # also Ctrl-C: its response would be read as that of the next image
        worker.end()
        raise
    if worker.late:
        worker.end()
    else:
        with _lock:
            _idle.append(worker)
    if isinstance(result, str):
        raise Undecodable(result)
    return result


_ALONE = Together()
"""The group of threads that have joined no other."""


@contextmanager
def threads(count: int, name: str, together: Together | None = None) -> Iterator[ThreadPoolExecutor]:
    """Yield a pool of decoding threads; leaving the block, or ``together.end()``, cancels their work."""
    together = together or Together()
    pool = ThreadPoolExecutor(count, thread_name_prefix=name, initializer=together.join)
    try:
        yield pool
    finally:
        together.end()
        pool.shutdown(wait=True, cancel_futures=True)


def end_all() -> None:
    """End every worker process."""
    with _lock:
        workers = list(_all)
    for worker in workers:
        worker.end()


def _take_worker() -> "_Worker":
    """Take an idle worker, or start one."""
    while True:
        with _lock:
            worker = _idle.pop() if _idle else None
        if worker is None:
            return _Worker()
        if worker.alive:
            return worker
        worker.end()


class _Worker:
    """A process that decodes one image at a time. Raises Undecodable if it cannot be started."""

    def __init__(self) -> None:
        self.late = False
        """Whether it was ended by the time limit."""
        root = str(Path(__file__).parents[2])
        paths = [path for path in sys.path if path]  # not the working folder, which may hold any module
        # Without -P that folder would come first.
        paths += [] if root in paths else [root]
        self._pixels = _shared_file()
        descriptor = self._pixels.fileno()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", RUN, str(descriptor), *paths],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                pass_fds=(descriptor,),
            )
        except OSError as error:
            self._pixels.close()
            raise Undecodable(f"no process could be started for it: {error.strerror or error}") from error
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to: IO[bytes] = self._process.stdin
        self._from: IO[bytes] = self._process.stdout
        self._ready = False
        with _lock:
            _all.add(self)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def request(self, data: bytes, seconds: float) -> Image.Image | str:
        """Return the image, or the reason why there is none. Raises Undecodable if the process ends."""
        try:
            if not self._ready:
                with self._limited(START_SECONDS):
                    self._read(1)
                self._ready = True
            with self._limited(seconds):
                self._to.write(REQUEST.pack(seconds, MEMORY, len(data)))
                self._to.write(data)
                self._to.flush()
                return self._response()
        except (EOFError, OSError):
            raise Undecodable(self._end_reason(seconds)) from None

    def _response(self) -> Image.Image | str:
        is_image, width, height = RESPONSE.unpack(self._read(RESPONSE.size))
        if not is_image:
            return self._read(width).decode("utf-8", "replace")
        self._pixels.seek(0)
        with Image.open(self._pixels, formats=("PPM",)) as image:
            if (image.mode, image.size) != ("RGB", (width, height)):
                raise EOFError
            image.load()
        if 3 * width * height > MAX_REUSED_BYTES:
            self._pixels.truncate(0)
        return image

    def _read(self, size: int) -> bytes:
        data = self._from.read(size)
        if len(data) < size:
            raise EOFError
        return data

    @contextmanager
    def _limited(self, seconds: float) -> Iterator[None]:
        timer = threading.Timer(seconds, self._too_late)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()  # a late timer would kill the process during its next image

    def _too_late(self) -> None:
        self.late = True
        self.kill()

    def _end_reason(self, seconds: float) -> str:
        self.kill()  # it may have sent an invalid response instead of ending
        code = self._process.wait()
        if self.late and not self._ready:
            return f"the process that decodes did not start within {START_SECONDS:g} s"
        if self.late or code == -getattr(signal, "SIGALRM", 0):
            return f"takes more than {seconds:g} s to decode; --image-timeout allows more"
        if not self._ready:
            return f"the process that decodes did not start (exit status {code})"
        with suppress(ValueError):
            return f"damaged: its decoder crashed ({signal.Signals(-code).name})"
        return f"damaged: its decoder ended with exit status {code}"

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> None:
        """End the process, and wait until it has ended."""
        self.kill()
        self._process.wait()
        self.forget()
        with _lock:
            _all.discard(self)

    def forget(self) -> None:
        """Close the pipes and the file shared with the process."""
        for file in (self._to, self._from, self._pixels):
            with suppress(OSError):
                file.close()


def _shared_file() -> IO[bytes]:
    """Open a file without a name, in memory where the system supports it."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("lsn-pixels"), "w+b")
    return tempfile.TemporaryFile()


def _forget_all() -> None:
    """Drop all workers in a forked process: they belong to the process that started them."""
    global _lock
    _lock = threading.Lock()
    for worker in _all:
        worker.forget()
    _all.clear()
    _idle.clear()


atexit.register(end_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
