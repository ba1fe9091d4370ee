"""Images that would take minutes, or gigabytes, in full size: what becomes of each, in what time and memory.

    python -m tests.robustness.hostile_images [--only NAME] [--record]

Each is made and decoded in a process of its own; memory is the peak of that process, and of those that it
starts.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

from benchmarks.records import record
from lsncli.images.decode import decode
from lsncli.images.read import Undecodable
from tests.fixtures.slow_images import (
    UPSIDE_DOWN,
    blocks,
    chunk,
    chunks,
    encoded,
    plain_webp,
    run_lengths,
    segments,
    strips,
)

MIB = 1 << 20
FILES: dict[str, Callable[[], bytes]] = {
    "JPEG, 800 EXIF segments": lambda: segments(800, body=UPSIDE_DOWN.ljust(65_533, b"\0")),
    "JPEG, 3,150 EXIF segments": lambda: segments(3150, body=UPSIDE_DOWN.ljust(65_533, b"\0")),
    "JPEG, 5 million segments": lambda: segments(5_000_000, 0xEF, b""),
    "JPEG, 100 MB of filling bytes": lambda: b"\xff\xd8" + b"\xff" * 100_000_000 + encoded("JPEG")[2:],
    "PNG, 3 million chunks": lambda: chunks(3_000_000, chunk(b"teSt")),
    "PNG, 250,000 chunks": lambda: chunks(250_000, chunk(b"tEXt", b"k\0v")),
    "GIF, comments of 50 MB": lambda: blocks(25_000_000),
    "GIF, 250,000 blocks of comments": lambda: blocks(200_000, 50_000),
    "TIFF, 4.4 million strips": lambda: strips(4_400_000),
    "TIFF, 500,000 strips": lambda: strips(500_000),
    "BMP, run lengths without pixels": lambda: run_lengths(9000, b"\0\2\0\0" * 25_000_000),
    "PPM, 300 MB of spaces": lambda: b"P6" + b" " * 300_000_000 + b"4 4 255\n" + bytes(48),
    "PPM, 500,000 comments": lambda: b"P3 1000 1000 255 1 1 " + b"#\n" * 500_000 + b"1 " * 3_000_000,
    "WebP, 16383 x 5461": lambda: plain_webp(16383, 5461),
    "WebP, 6688 x 6688": lambda: plain_webp(6688, 6688),
}
REASONS = ("too many parts", "too large", "takes more than", "damaged")
"""What a reason begins with."""


def attempt(name: str) -> dict[str, object]:
    """What one file gives, here and now."""
    data = FILES[name]()
    before, began = _peak(resource.RUSAGE_SELF), time.perf_counter()
    try:
        outcome = f"{decode(data).size}"
    except Undecodable as error:
        outcome = error.message
    from lsncli.images.decode_process import end_all

    seconds = time.perf_counter() - began
    end_all()  # only then its memory is known
    more = _peak(resource.RUSAGE_SELF) - before
    return {
        "name": name,
        "mb": round(len(data) / 1e6, 1),
        "seconds": round(seconds, 2),
        "here_mib": round(more),
        "there_mib": round(_peak(resource.RUSAGE_CHILDREN)),
        "outcome": outcome,
    }


def _peak(whose: int) -> float:
    return resource.getrusage(whose).ru_maxrss / 1024  # KiB on Linux


def apart(name: str) -> dict[str, object]:
    """``attempt`` in a process of its own."""
    command = [sys.executable, "-m", "tests.robustness.hostile_images", "--attempt", name]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    done: dict[str, object] = json.loads(found.stdout)
    return done


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", choices=FILES, help="this file alone")
    parser.add_argument("--attempt", choices=FILES, help=argparse.SUPPRESS)
    parser.add_argument("--record", action="store_true", help="keep the figures in benchmarks/results")
    options = parser.parse_args()
    if options.attempt:
        print(json.dumps(attempt(options.attempt)))
        return
    rows = []
    for name in [options.only] if options.only else FILES:
        rows.append(apart(name))
        form = "{name:34} {mb:6} MB {seconds:6} s {here_mib:5} + {there_mib:5} MiB  {outcome}"
        print(form.format(**rows[-1]), flush=True)
    if options.record:
        record("slow-images", "hostile images: seconds and memory of each, and what was said", files=rows)


if __name__ == "__main__":
    main()
