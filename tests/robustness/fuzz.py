"""Mutated images (truncated, bits flipped, wrong extension, huge headers) against the decoder.

    python -m tests.robustness.fuzz [--count 10000] [--seconds 10] [--images DIR] [--save DIR]

Every image is read and decoded in a child process, as ``lsn`` does it, and must give pixels or a reason.
Counts crashes of the process, hangs (more than --seconds for one image), exceptions that are no reason, and
the most memory that one image took; 10,000 and more write results/fuzz.json. DIR (or LSN_IMAGES) holds
photos-original.tar; without it a sample photo of an installed package is used. --save keeps what failed.
What libtiff says of damaged files goes to stderr.
"""

import argparse
import multiprocessing
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from PIL import Image

from benchmarks.records import record
from lsncli.images.decode import decode
from lsncli.images.item import EXTENSIONS, ImageItem
from lsncli.images.listing import list_images
from lsncli.images.read import Undecodable, read_bytes
from lsncli.methods.prepared import ResourceUse, metered
from tests.robustness.mutations import case, samples, wrong_extension


@dataclass
class Outcome:
    """What became of the images so far."""

    decoded: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    crashes: list[str] = field(default_factory=list)
    hangs: list[str] = field(default_factory=list)
    escaped: list[str] = field(default_factory=list)
    """Exceptions that are no reason."""
    slowest: tuple[float, str] = (0.0, "")
    largest: tuple[float, str] = (0.0, "")

    @property
    def failed(self) -> bool:
        return bool(self.crashes or self.hangs or self.escaped)


def load_photo(images: str | None) -> Image.Image:
    """The photo that all cases are made of."""
    from lsncli.evaluation.demo import sample_photos  # imports torch, which the children do without

    sources = [Path(images) / "photos-original.tar"] if images else sample_photos()[:1]
    return decode(read_bytes(list_images(sources).items[0]))


def attempt(item: ImageItem) -> str:
    """Read, decode and shrink one image, as a model wants it: "" or the reason. Anything else escapes."""
    try:
        decode(read_bytes(item)).resize((224, 224), Image.Resampling.BICUBIC)
    except Undecodable as error:
        return error.message
    return ""


def child(link: Connection, images: dict[str, bytes], start: int, count: int, seed: int) -> None:
    """Cases ``start`` to ``count``, one after the other, saying before each that it begins."""
    extensions = sorted(EXTENSIONS)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(start, count):
            mutated = case(number, images, seed)
            path = Path(folder) / f"case.{wrong_extension(number, extensions)}"
            path.write_bytes(mutated.data)
            link.send(str(mutated))
            cost = ResourceUse()
            try:
                with metered(cost):
                    reason, escaped = attempt(ImageItem(path.name, str(path))), ""
            except Exception as error:
                reason, escaped = "", f"{type(error).__name__}: {error}"
            path.unlink()
            link.send((reason, escaped, cost.seconds, cost.peak_mib or 0.0))


def run(
    images: dict[str, bytes],
    count: int,
    seconds: float,
    seed: int,
    save: Path | None,
    work: Callable[[Connection, dict[str, bytes], int, int, int], None] = child,
) -> Outcome:
    """All cases; a child that crashes or hangs is replaced, and its case counted."""
    context = multiprocessing.get_context("spawn")
    outcome, number = Outcome(), 0
    while number < count:
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs, images, number, count, seed))
        process.start()
        theirs.close()
        name = ""
        try:
            while number < count:
                name = f"case {number}, {ours.recv()}"
                if not ours.poll(seconds):
                    outcome.hangs.append(name)
                    _keep(save, number, images, seed)
                    number += 1
                    break
                _count(outcome, name, *ours.recv())
                if outcome.escaped and outcome.escaped[-1].startswith(name):
                    _keep(save, number, images, seed)
                number += 1
        except EOFError:
            process.join()
            outcome.crashes.append(f"{name} (exit code {process.exitcode})")
            _keep(save, number, images, seed)
            number += 1
        if process.is_alive():
            process.kill() if number < count or outcome.hangs else process.join(10)
        process.join()
        ours.close()
    return outcome


def _count(outcome: Outcome, name: str, reason: str, escaped: str, seconds: float, peak: float) -> None:
    if escaped:
        outcome.escaped.append(f"{name}: {escaped}")
    elif reason:
        outcome.reasons[" ".join(reason.split()[:5])] += 1
    else:
        outcome.decoded += 1
    outcome.slowest = max(outcome.slowest, (seconds, name))
    outcome.largest = max(outcome.largest, (peak, name))


def _keep(folder: Path | None, number: int, images: dict[str, bytes], seed: int) -> None:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"case-{seed}-{number}.bin").write_bytes(case(number, images, seed).data)


def main() -> None:
    """Run all cases, print and record what became of them; exit with 1 if any failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=10.0, help="more for one image is a hang")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", default=os.environ.get("LSN_IMAGES"))
    parser.add_argument("--save", type=Path)
    arguments = parser.parse_args()
    images = samples(load_photo(arguments.images))
    began = time.perf_counter()
    outcome = run(images, arguments.count, arguments.seconds, arguments.seed, arguments.save)
    print(f"{arguments.count} mutated images of {len(images)} formats in {time.perf_counter() - began:.0f} s")
    print(f"  decoded {outcome.decoded}, refused with a reason {outcome.reasons.total()}")
    for reason, times in outcome.reasons.most_common(12):
        print(f"    {times:6d}  {reason}")
    for what in ("crashes", "hangs", "escaped"):
        found = getattr(outcome, what)
        print(f"  {what}: {len(found)}", *found[:20], sep="\n    ")
    print(f"  slowest image: {outcome.slowest[0]:.2f} s ({outcome.slowest[1]})")
    print(f"  most memory for one image: {outcome.largest[0]:.0f} MiB ({outcome.largest[1]})")
    if arguments.count >= 10_000:
        record("fuzz", f"{arguments.count} mutated images of {len(images)} formats", **vars(outcome))
    raise SystemExit(1 if outcome.failed else 0)


if __name__ == "__main__":
    main()
