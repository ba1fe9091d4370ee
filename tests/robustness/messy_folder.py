"""Five thousand real images in one untidy folder, fifty of them broken or hostile: how well and how fast
``lsn score`` tells what does not belong.

    python -m tests.robustness.messy_folder [--images DIR] [--record]

DIR (or LSN_IMAGES) holds one tar a set. ID are Imagenette's validation images; textures, places, flowers and
scenes are OOD. The detector learns from the bundled features of Imagenette's training images (mini model,
mode best). ``lsn score`` and ``lsn extract`` run as whole commands on the same files, there and back.
"""

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.records import record
from lsncli.bench.suite_toml import load_suite
from lsncli.methods.workspace import Workspace
from lsncli.store.reader import read_fingerprint, read_split
from lsncli.store.writer import write_split
from tests.robustness.mutations import case, samples

INSIDE = {"imagenette-val": 600}
OUTSIDE = {
    "textures-dtd10": 800,
    "places-natural13": 1300,
    "plants-flowers": 990,
    "scenes-intel6": 720,
    "places-100": 540,
}
BROKEN = 50
HOSTILE = {
    "empty.jpg": b"",
    "page.jpg": b"<!DOCTYPE html><html><body>404</body></html>",
    "text.png": b"this is not an image\n",
    "=cmd|' calc'!A0.jpg": b"\0" * 64,
    "line\nbreak.jpg": b"\xff\xd8\xff",
    "\x1b[31mred.png": b"\x89PNG\r\n\x1a\n",
    "<script>alert(1)</script>.gif": b"GIF89a",
    "bomb.png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\1\0\0\0\1\0\0\x08\x02\0\0\0" + b"\0" * 64,
}


@dataclass(frozen=True)
class Truth:
    """What was put where: paths below the folder."""

    inside: frozenset[str]
    outside: frozenset[str]
    broken: frozenset[str]


def lay_out(images: Path, folder: Path) -> Truth:
    """Write the folder: photos of all sets under names that say nothing, and files that cannot be read."""
    random = np.random.default_rng(0)
    found: dict[str, set[str]] = {"inside": set(), "outside": set(), "broken": set()}
    number = 0
    for role, sets in (("inside", INSIDE), ("outside", OUTSIDE)):
        for name, count in sets.items():
            for data in _members(images / f"{name}.tar", count):
                key = f"{random.integers(12):02}/{random.integers(3)}/{random.bytes(4).hex()}{number}.jpg"
                _write(folder / key, data)
                found[role].add(key)
                number += 1
    for key, data in _unreadable(folder, sorted(found["inside"])):
        _write(folder / key, data)
        found["broken"].add(key)
    return Truth(*(frozenset(one) for one in found.values()))


def _unreadable(folder: Path, photos: list[str]) -> Iterator[tuple[str, bytes]]:
    """Hostile names and contents, then mutations of a photo that no decoder accepts."""
    yield from ((f"odd/{name}", data) for name, data in HOSTILE.items())
    with Image.open(folder / photos[0]) as photo:
        made = samples(photo)
    left, number = BROKEN - len(HOSTILE), 0
    while left:
        data = case(number, made, seed=1).data
        number += 1
        if not _readable(data):
            left -= 1
            yield f"odd/{number}.jpg", data


def _readable(data: bytes) -> bool:
    """By lsn's own decoder: which bytes still make an image is its decision."""
    from lsncli.images.decode import decode

    try:
        decode(data)
    except Exception:  # whatever it is: the point is what `lsn score` then says of it
        return False
    return True


def _members(tar: Path, count: int) -> Iterator[bytes]:
    with tarfile.open(tar) as opened:
        names = [one for one in opened if one.isfile()]
        step = len(names) / count
        for place in range(count):
            file = opened.extractfile(names[int(place * step)])
            assert file is not None
            yield file.read()


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def prepare(work: Path) -> None:
    """A detector of ten classes from the bundled features."""
    bundle = load_suite("mini").features
    assert bundle is not None
    split = replace(read_split(bundle, "imagenette-train"), name="train")
    work.mkdir()
    write_split(Workspace(work).features, split, read_fingerprint(bundle))
    for command in ("train-pos", "train-neg"):
        lsn(command, "--mode", "best", "--work", work)


def lsn(*words: object) -> tuple[float, float, str]:
    """Run a command: wall seconds, peak MiB of the process, stderr. It must end with 0 or 3 (failures)."""
    command = [sys.executable, "-m", "lsncli", *map(str, words)]
    began = time.perf_counter()
    done = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert done.stderr is not None
    said = done.stderr.read()
    _, status, used = os.wait4(done.pid, 0)
    seconds = time.perf_counter() - began
    if os.waitstatus_to_exitcode(status) not in (0, 3):
        raise RuntimeError(f"{words}: {said}")
    return seconds, used.ru_maxrss / 1024, said


def report(truth: Truth, rows: list[dict[str, object]], folder: Path) -> dict[str, object]:
    """Precision and recall (fractions) of the OOD flag, and every broken file with its reason."""
    by_key = {os.path.relpath(str(row["path"]), folder): row for row in rows}
    flagged = {key for key, row in by_key.items() if row["is_ood"]}
    failed = {key: str(row["error"]) for key, row in by_key.items() if row["error"]}
    hits = len(flagged & truth.outside)
    return {
        "images": len(rows),
        "precision": hits / len(flagged),
        "recall": hits / len(truth.outside),
        "id_kept": 1 - len(flagged & truth.inside) / len(truth.inside),
        "broken_listed": len(failed.keys() & truth.broken),
        "good_refused": len(failed.keys() - truth.broken),
        "reasons": {key: failed[key] for key in sorted(failed)},
        "in_order": [str(row["path"]) for row in rows] == sorted(str(row["path"]) for row in rows),
    }


def main() -> None:
    """Lay out, learn, score, compare; prints one object of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--images", type=Path, default=os.environ.get("LSN_IMAGES"))
    parser.add_argument("--record", action="store_true", help="Keep the figures in benchmarks/results.")
    given = parser.parse_args()
    if given.images is None:
        parser.error("name the folder of image tars with --images or LSN_IMAGES")
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        folder, work, out = place / "images", place / "work", place / "rows.jsonl"
        truth = lay_out(Path(given.images), folder)
        prepare(work)
        few = lsn("score", folder / "00", "--work", work, "--output", out, "--format", "jsonl")
        # There and back, so that a machine that slows down or speeds up favours neither.
        extract_first, score, score_again, extract_last = (
            lsn(*words, "--max-failure-rate", 1)
            for words in (
                ("extract", folder, "--model", "mini", "--work", place / "a", "--split", "mixed"),
                ("score", folder, "--work", work, "--output", out, "--format", "jsonl"),
                ("score", folder, "--work", work, "--output", out, "--format", "jsonl"),
                ("extract", folder, "--model", "mini", "--work", place / "b", "--split", "mixed"),
            )
        )
        rows = [json.loads(line) for line in out.read_text().splitlines()]
        found = report(truth, rows, folder) | {
            "score_s": min(score[0], score_again[0]),
            "extract_s": min(extract_first[0], extract_last[0]),
            "throughput_of_extract": (extract_first[0] + extract_last[0]) / (score[0] + score_again[0]),
            "peak_mib": score[1],
            "peak_mib_of_a_twelfth": few[1],
            "said": score[2].splitlines()[-3:],
        }
    print(json.dumps(found, indent=1))
    if given.record:
        record("messy-folder", "5,000 files, fifty of them broken, through score and extract", **found)


if __name__ == "__main__":
    main()
