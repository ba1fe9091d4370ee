"""Images that may take long are decoded in other processes, which are ended when they do.

A thread cannot be ended, nor survive a decoder that crashes. These processes load Pillow and little more;
they start when the first such image comes, serve one after another, and end with this process.
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
"""Bytes that decoding an image may take, beyond twice its file: 1.25 GiB. Linux alone holds to it."""
START_SECONDS = 120.0
"""For a process to start, on a machine that is busy."""
ASKED = struct.Struct("<dQQ")
"""What precedes an image: the seconds and the memory it has, and its length."""
ANSWERED = struct.Struct("<?II")
"""An answer: whether there are pixels, which lie in the file as PPM; then width and height, or the length of
the reason that follows, and 0."""
KEPT = 1 << 26
"""Bytes of pixels that a process may keep memory for until the next image, which is then sooner."""
RUN = "import sys; sys.path[:] = sys.argv[2:]; from lsncli.images.decode_worker import serve; serve()"
"""What a process runs; its arguments are the file for pixels and the path of modules."""

_lock = threading.Lock()
_idle: list["_Worker"] = []
_all: set["_Worker"] = set()
_thread = threading.local()


class GivenUp(BaseException):
    """An image that nobody waits for any more. It is no failure of the image, and no row."""


class Together:
    """Threads whose images are given up together, when nobody waits for them any more."""

    def __init__(self) -> None:
        self._busy: set[_Worker] = set()
        self._lock = threading.Lock()
        self._ended = False

    def join(self) -> None:
        """This thread is one of them."""
        _thread.together = self

    def end(self) -> None:
        """End what is being decoded, and decode nothing else."""
        with self._lock:
            self._ended = True
            for worker in self._busy:
                worker.kill()

    @contextmanager
    def working(self, worker: "_Worker") -> Iterator[None]:
        """``worker`` decodes for them. Raises GivenUp after the end."""
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

    Raises Undecodable, also for an image that takes too long or too much memory or that crashes its decoder;
    UsageError for a time limit that is no number.
    """
    seconds = allowed_image_seconds()
    worker = _taken()
    try:
        with getattr(_thread, "together", _ALONE).working(worker):
            found = worker.ask(data, seconds)
    except MemoryError as error:
        worker.end()
        raise Undecodable("there is no memory to decode it") from error
    except BaseException:  # Ctrl-C, too: what it would answer is nobody's
        worker.end()
        raise
    if worker.late:
        worker.end()
    else:
        with _lock:
            _idle.append(worker)
    if isinstance(found, str):
        raise Undecodable(found)
    return found


_ALONE = Together()
"""Threads that joined none."""


@contextmanager
def threads(count: int, name: str, together: Together | None = None) -> Iterator[ThreadPoolExecutor]:
    """Yield threads that decode.

    What they still have to do is given up when the block is left, or ``together`` ended.
    """
    together = together or Together()
    pool = ThreadPoolExecutor(count, thread_name_prefix=name, initializer=together.join)
    try:
        yield pool
    finally:
        together.end()
        pool.shutdown(wait=True, cancel_futures=True)


def end_all() -> None:
    """End every process."""
    with _lock:
        workers = list(_all)
    for worker in workers:
        worker.end()


def _taken() -> "_Worker":
    """A process that has nothing to do."""
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
        """Whether it was ended for the time it took."""
        root = str(Path(__file__).parents[2])
        paths = [path for path in sys.path if path]  # not the working folder, where anything may lie
        # Without -P that folder would come first.
        paths += [] if root in paths else [root]
        self._pixels = _shared_file()
        place = self._pixels.fileno()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", RUN, str(place), *paths],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                pass_fds=(place,),
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

    def ask(self, data: bytes, seconds: float) -> Image.Image | str:
        """The image, or the reason why there is none. Raises Undecodable if the process ends over it."""
        try:
            if not self._ready:
                with self._limited(START_SECONDS):
                    self._read(1)
                self._ready = True
            with self._limited(seconds):
                self._to.write(ASKED.pack(seconds, MEMORY, len(data)))
                self._to.write(data)
                self._to.flush()
                return self._answer()
        except (EOFError, OSError):
            raise Undecodable(self._end_reason(seconds)) from None

    def _answer(self) -> Image.Image | str:
        is_image, width, height = ANSWERED.unpack(self._read(ANSWERED.size))
        if not is_image:
            return self._read(width).decode("utf-8", "replace")
        self._pixels.seek(0)
        with Image.open(self._pixels, formats=("PPM",)) as image:
            if (image.mode, image.size) != ("RGB", (width, height)):
                raise EOFError
            image.load()
        if 3 * width * height > KEPT:
            self._pixels.truncate(0)
        return image

    def _read(self, size: int) -> bytes:
        found = self._from.read(size)
        if len(found) < size:
            raise EOFError
        return found

    @contextmanager
    def _limited(self, seconds: float) -> Iterator[None]:
        timer = threading.Timer(seconds, self._too_late)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()  # or it would end what this process does next

    def _too_late(self) -> None:
        self.late = True
        self.kill()

    def _end_reason(self, seconds: float) -> str:
        self.kill()  # it may have answered nonsense instead of ending
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
        """Close what leads to the process."""
        for file in (self._to, self._from, self._pixels):
            with suppress(OSError):
                file.close()


def _shared_file() -> IO[bytes]:
    """A file without a name, in memory where the system has such."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("lsn-pixels"), "w+b")
    return tempfile.TemporaryFile()


def _forget_all() -> None:
    """In a process that was forked: those processes belong to the one that started them."""
    global _lock
    _lock = threading.Lock()
    for worker in _all:
        worker.forget()
    _all.clear()
    _idle.clear()


atexit.register(end_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
