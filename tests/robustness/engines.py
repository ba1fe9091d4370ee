"""Every engine makes the same store, also when a worker is killed and when a part is lost.

    LSN_IMAGES=FOLDER python -m tests.robustness.engines [--images 3000] [--only ENGINE ...] [--record]

``lsn extract`` with the mini model on real images of tars: by one process, and then by each engine with two
processes. Each does it three times: undisturbed; with one of the two killed (SIGKILL) amid its work; and with
a finished part deleted and another one cut short. Always the same command runs again until it succeeds, and
the store is compared with that of the one process, byte by byte. Some 7 minutes on two idle cores; Linux.
Ends with 1 if a store differs; --record writes results/engines.json.
"""

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.records import record
from lsncli.images.item import is_image
from tests.robustness.processes import run_and_kill

TARS = ("imagenette-train", "textures-dtd10", "places-natural13", "plants-flowers", "imagenette-val")
BATCH, PROCESSES = 16, 2
LSN = [sys.executable, "-m", "lsncli"]
LAUNCH = {
    "local": [*LSN, "extract", "--engine", "local", "--processes", str(PROCESSES)],
    "torchrun": [
        *[sys.executable, "-m", "torch.distributed.run", "--standalone"],
        *["--nproc-per-node", str(PROCESSES), "-m", "lsncli", "extract", "--engine", "torchrun"],
    ],
    "ray": [*LSN, "extract", "--engine", "ray", "--processes", str(PROCESSES)],
}


@dataclass
class Outcome:
    """What became of one engine. ``identical`` counts stores that are as they must be, of ``stores``."""

    seconds: float
    images_per_second: float
    stores: int = 0
    identical: int = 0
    killed_code: int = 0
    """How the run ended of which a worker was killed: 0 if the engine made up for it by itself."""
    kept: int = 0
    """Images that were done already when the same command ran again after that."""
    lost_images: int = 0
    """Images of the lost parts, which were encoded again."""
    parts_lost: int = 0
    harm: list[str] = field(default_factory=list)


class Bench:
    """Extractions of one folder of images in workspaces of ``place``."""

    def __init__(self, place: Path, images: Path, count: int) -> None:
        self.place, self.images, self.count = place, images, count
        self.part_rows = max(BATCH, count // 12 // BATCH * BATCH)
        self.expected = b""

    def command(self, launch: list[str], work: Path) -> list[str]:
        options = [
            "--model",
            "mini",
            "--device",
            "cpu",
            "--batch-size",
            str(BATCH),
            "--workers",
            "1",
            "--quiet",
        ]
        parts = ["--part-rows", str(self.part_rows), "--format", "json", "--work", str(work)]
        return [*launch, str(self.images), *options, *parts]

    def run(self, launch: list[str], work: Path, *more: str) -> tuple[list[dict[str, Any]], float]:
        """The rows that a run printed, and its seconds; leaves the program if it does not end well.

        Where processes were started together, each prints its own row or none.
        """
        began = time.perf_counter()
        done = subprocess.run(
            [*self.command(launch, work), *more], capture_output=True, text=True, timeout=900, check=False
        )
        if done.returncode:
            sys.exit(f"{' '.join(done.args)} ended with {done.returncode}: {done.stderr[-1000:]}")
        return rows_in(done.stdout), time.perf_counter() - began

    def pieces(self, work: Path) -> list[Path]:
        return sorted((work / "features.h5.parts" / "train").glob("rows-*.h5"))

    def compare(self, work: Path, when: str, outcome: Outcome) -> None:
        outcome.stores += 1
        store = work / "features.h5"
        if store.is_file() and store.read_bytes() == self.expected:
            outcome.identical += 1
        else:
            outcome.harm.append(f"the store differs {when}")


def rows_in(text: str) -> list[dict[str, Any]]:
    """Every row of every JSON list that several processes may have printed one behind the other."""
    decoder, rows, at = json.JSONDecoder(), [], text.find("[")
    while at >= 0:
        found, end = decoder.raw_decode(text, at)
        rows += found
        at = text.find("[", end)
    return rows


def measure(bench: Bench, engine: str) -> Outcome:
    """Undisturbed, with a worker killed, with parts lost."""
    launch = LAUNCH[engine]
    _, seconds = bench.run(launch, bench.place / engine)
    outcome = Outcome(round(seconds, 1), round(bench.count / seconds, 1))
    bench.compare(bench.place / engine, "undisturbed", outcome)

    work = bench.place / f"{engine}-killed"
    command = [*bench.command(launch, work), "--no-merge"]
    log = bench.place / f"{engine}.log"
    outcome.killed_code, killed = run_and_kill(command, engine, lambda: len(bench.pieces(work)) > 2, log)
    if not killed:
        outcome.harm.append(f"there was no worker to kill: {log.read_text(errors='replace')[-500:]}")
    outcome.kept = sum(items_of(path) for path in bench.pieces(work))
    bench.run(launch, work, "--no-merge")

    parts = bench.pieces(work)
    outcome.parts_lost = 2
    outcome.lost_images = sum(items_of(path) for path in (parts[1], parts[-1]))
    parts[1].unlink()
    parts[-1].write_bytes(parts[-1].read_bytes()[:-100])
    bench.run(launch, work)
    bench.compare(work, "after a kill and lost parts", outcome)
    return outcome


def items_of(piece: Path) -> int:
    """How many items a piece is of, as its name says."""
    _, start, stop = piece.stem.split("-")
    return int(stop) - int(start)


def unpack(folder: Path, count: int) -> Path:
    """``count`` images of the tars in LSN_IMAGES, a folder for each tar."""
    left = count
    for name in TARS:
        with tarfile.open(Path(os.environ["LSN_IMAGES"]) / f"{name}.tar") as tar:
            members = [one for one in tar if one.isfile() and is_image(one.name)]
            for member in members[:left]:
                member.name = f"{name}/{member.name.replace('/', '-')}"
                tar.extract(member, folder, filter="data")
            left -= min(left, len(members))
    if left:
        sys.exit(f"LSN_IMAGES has {count - left} images in {', '.join(TARS)}; --images {count} wants more.")
    return folder


def rows_of(outcomes: dict[str, Outcome]) -> list[str]:
    """The table."""
    columns: dict[str, Callable[[Outcome], object]] = {
        "seconds": lambda one: one.seconds,
        "images/s": lambda one: one.images_per_second,
        "exit after kill": lambda one: one.killed_code,
        "then kept": lambda one: one.kept,
        "parts lost": lambda one: one.parts_lost,
        "their images": lambda one: one.lost_images,
        "identical": lambda one: f"{one.identical}/{one.stores}",
    }
    lines = [f"{'engine':<12}" + "".join(f"{name:>17}" for name in columns)]
    for name, one in outcomes.items():
        lines.append(f"{name:<12}" + "".join(f"{show(one)!s:>17}" for show in columns.values()))
        lines += [f"  {sentence}" for sentence in one.harm]
    return lines


def main() -> None:
    """Run all, print the table, record on demand."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--only", action="append", choices=list(LAUNCH), help="an engine; repeatable")
    parser.add_argument("--record", action="store_true", help="write results/engines.json")
    given = parser.parse_args()
    if "LSN_IMAGES" not in os.environ:
        sys.exit("LSN_IMAGES must name the folder of the image tars.")
    if find_spec("ray") is None and "ray" in (given.only or LAUNCH):
        sys.exit("Ray is not installed: pip install 'lsncli[ray]', or leave it out with --only.")
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        bench = Bench(place, unpack(place / "images", given.images), given.images)
        alone, seconds = bench.run([*LSN, "extract"], place / "one")
        bench.expected = (place / "one" / "features.h5").read_bytes()
        print(f"{given.images} images, parts of {bench.part_rows}; one process: {seconds:.1f} s", flush=True)
        outcomes = {engine: measure(bench, engine) for engine in given.only or LAUNCH}
    print("\n".join(rows_of(outcomes)))
    if given.record:
        record(
            "engines",
            f"{given.images} real images, mini model: one process and every engine with {PROCESSES}",
            one_process={"seconds": round(seconds, 1), "rows": alone[0]["rows"]},
            engines={engine: asdict(one) for engine, one in outcomes.items()},
        )
    if any(one.harm for one in outcomes.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
