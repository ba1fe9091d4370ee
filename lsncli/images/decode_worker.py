"""The program of the worker processes that ``images.decode_process`` starts."""

import os
import resource
import signal
import sys
from contextlib import suppress
from typing import IO

from PIL import Image

from lsncli.images.decode import decode_here
from lsncli.images.decode_process import REQUEST, RESPONSE
from lsncli.images.read import Undecodable

GRACE = 5.0
"""Seconds beyond the time limit after which a worker ends itself, because its parent was killed."""


def serve() -> None:
    """Write a response to standard output for each image on standard input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C, and ends this process
    requests = sys.stdin.buffer
    # A library that prints must not print into a response.
    responses = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    pixels = os.fdopen(int(sys.argv[1]), "r+b")
    responses.write(b"!")
    responses.flush()
    used = _address_space()
    with suppress(BrokenPipeError):
        while len(header := requests.read(REQUEST.size)) == REQUEST.size:
            seconds, memory, size = REQUEST.unpack(header)
            signal.setitimer(signal.ITIMER_REAL, seconds + GRACE)
            _limit(used + memory + 2 * size if used else 0)
            _respond(responses, pixels, requests.read(size), memory)
            responses.flush()
            signal.setitimer(signal.ITIMER_REAL, 0)


def _respond(responses: IO[bytes], pixels: IO[bytes], data: bytes, memory: int) -> None:
    try:
        result: Image.Image | str = decode_here(data)
    except Undecodable as error:
        out_of_memory = isinstance(error.__cause__, MemoryError)
        result = _describe_memory_limit(memory) if out_of_memory else error.message
    except MemoryError:
        result = _describe_memory_limit(memory)
    if isinstance(result, str):
        reason = result.encode("utf-8", "backslashreplace")
        responses.write(RESPONSE.pack(False, len(reason), 0) + reason)
        return
    pixels.seek(0)
    result.save(pixels, "PPM")  # which Pillow writes and reads row by row, with no copy of all pixels
    pixels.flush()
    responses.write(RESPONSE.pack(True, *result.size))


def _describe_memory_limit(memory: int) -> str:
    return f"too large: decoding it takes more than {memory / 2**30:.3g} GiB of memory"


def _address_space() -> int:
    """Return the bytes of mapped memory; 0 where the kernel does not report them (then there is no limit)."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    except (OSError, ValueError):
        return 0


def _limit(size: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    if size and (hard == resource.RLIM_INFINITY or size < hard):
        resource.setrlimit(resource.RLIMIT_AS, (size, hard))
