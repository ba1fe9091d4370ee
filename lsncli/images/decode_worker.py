"""The process that ``images.watched`` starts: it decodes one image after another, until its input ends."""

import os
import resource
import signal
import sys
from contextlib import suppress
from typing import IO

from PIL import Image

from lsncli.images.decode import decode_here
from lsncli.images.decode_process import ANSWERED, ASKED
from lsncli.images.read import Undecodable

GRACE = 5.0
"""Seconds beyond its own after which a process ends that nobody has ended: its parent was killed."""


def serve() -> None:
    """Answer on standard output for each image on standard input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for the parent, which ends this process
    asked = sys.stdin.buffer
    # A library that prints must not print into an answer.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    pixels = os.fdopen(int(sys.argv[1]), "r+b")
    answers.write(b"!")
    answers.flush()
    used = _address_space()
    with suppress(BrokenPipeError):
        while len(head := asked.read(ASKED.size)) == ASKED.size:
            seconds, memory, size = ASKED.unpack(head)
            signal.setitimer(signal.ITIMER_REAL, seconds + GRACE)
            _limit(used + memory + 2 * size if used else 0)
            _answer(answers, pixels, asked.read(size), memory)
            answers.flush()
            signal.setitimer(signal.ITIMER_REAL, 0)


def _answer(answers: IO[bytes], pixels: IO[bytes], data: bytes, memory: int) -> None:
    try:
        found: Image.Image | str = decode_here(data)
    except Undecodable as error:
        out_of_memory = isinstance(error.__cause__, MemoryError)
        found = _too_much(memory) if out_of_memory else error.message
    except MemoryError:
        found = _too_much(memory)
    if isinstance(found, str):
        reason = found.encode("utf-8", "backslashreplace")
        answers.write(ANSWERED.pack(False, len(reason), 0) + reason)
        return
    pixels.seek(0)
    found.save(pixels, "PPM")  # which Pillow writes and reads row by row, with no copy of all pixels
    pixels.flush()
    answers.write(ANSWERED.pack(True, *found.size))


def _too_much(memory: int) -> str:
    return f"too large: decoding it takes more than {memory / 2**30:.3g} GiB of memory"


def _address_space() -> int:
    """Bytes that are mapped now; 0 where the kernel does not say, and memory is not limited."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    except (OSError, ValueError):
        return 0


def _limit(size: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    if size and (hard == resource.RLIM_INFINITY or size < hard):
        resource.setrlimit(resource.RLIMIT_AS, (size, hard))
