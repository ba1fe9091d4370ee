"""Two commands at once on one workspace, every pair of them: each ends well or with one sentence.

Afterwards the store verifies, every file of the workspace can be read, and nothing temporary is left.
Commands run in forked children of this process, which has imported everything and computed nothing.
"""

import argparse
import importlib
import os
import pkgutil
import random
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain, combinations_with_replacement
from pathlib import Path

import numpy as np
from PIL import Image

import lsncli
from lsncli.artefacts.detector import load_detector
from lsncli.artefacts.prompts import load_prompts
from lsncli.cli.app import main
from tests.fixtures.bench_samples import suite_text

MODEL = ("--model", "mini", "--device", "cpu")
LEARN = ("--epochs", "2", "--context-length", "4", "--device", "cpu", "--kernel", "torch")
PARTS = ("--batch-size", "4", "--part-rows", "4")
SUITE = suite_text(coop_epochs=1, shots=2, ood=["far"], rows=["MCM", "CoOp"])
COMMANDS: dict[str, tuple[str, ...]] = {
    "extract": ("extract", "data/far", "--split", "new", *MODEL),
    "overwrite": ("extract", "data/in-train", "--split", "train", "--overwrite", *MODEL, *PARTS),
    "train-pos": ("train-pos", *LEARN),
    "train-neg": ("train-neg", *LEARN),
    "score": ("score", "data/far", "--device", "cpu"),
    "calibrate": ("calibrate", "--method", "mcm"),
    "eval": ("eval", "--method", "mcm", "--method", "lsn", "--device", "cpu"),
    "bench": ("bench", "--suite", "noise.toml", "--table", "mine", "--data", "data", "--device", "cpu"),
    "verify": ("store", "verify"),
    "merge": ("store", "merge", "--split", "parts"),
    "export": ("store", "export", "out.npz", "--split", "train"),
    "report": ("report", "data/far", "--output", "report.html", "--device", "cpu"),
}
WITHOUT_PROMPTS = set(COMMANDS) - {"train-neg", "eval"}
ERROR = re.compile(r"Error: ")
BUG = re.compile(r"Traceback|bug in lsn|Unexpected|Exception|\x1b")


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it said on stderr."""

    name: str
    code: int
    said: str

    @property
    def wrong(self) -> str:
        """What is wrong with that; empty if it ended well or with one sentence."""
        errors = len(ERROR.findall(self.said))
        fine = errors == (1 if self.code else 0) and self.code in range(6) and not BUG.search(self.said)
        return "" if fine else f"{self.name} ended with {self.code}: {self.said}"


def import_everything() -> None:
    """Every module of lsn, so that a forked command begins at once."""
    for module in pkgutil.walk_packages(lsncli.__path__, "lsncli."):
        with suppress(ImportError):  # an extra that is not installed
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)


def template(place: Path, learned: bool) -> None:
    """A workspace with everything the commands need, prompts only if ``learned``, in ``place``/work; images
    beside it."""
    numbers = np.random.default_rng(7)
    sets = {"in-train/cat": 12, "in-train/dog": 12, "in-test/cat": 4, "in-test/dog": 4, "far": 12}
    for folder, count in sets.items():
        (place / "data" / folder).mkdir(parents=True)
        for number in range(count):
            pixels = numbers.integers(0, 256, (40, 40, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(place / "data" / folder / f"{number}.png")
    (place / "noise.toml").write_text(SUITE)
    for words in (
        ("extract", "data/in-train", "--split", "train", *MODEL, *PARTS),
        ("extract", "data/in-train", "--split", "test", *MODEL),
        ("extract", "data/far", "--split", "far", *MODEL),
        ("extract", "data/far", "--split", "parts", "--no-merge", *MODEL, *PARTS),
        COMMANDS["calibrate"],
        *((COMMANDS["train-pos"], COMMANDS["train-neg"]) if learned else ()),
    ):
        ended = wait(start("setup", words, place, 0.0), place)
        assert ended.code == 0, ended.said


def start(name: str, words: Sequence[str], place: Path, delay: float) -> tuple[str, int, Path]:
    """Run a command in a child that begins after ``delay`` seconds: its name, pid and log."""
    log = place / f"log-{random.getrandbits(64):x}"
    pid = os.fork()
    if pid:
        return name, pid, log
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT), 2)
        os.chdir(place)
        time.sleep(delay)
        main([*words, "--work", "work", *(() if words[0] == "store" else ("--quiet",))])
    except SystemExit as stop:
        sys.stderr.flush()
        os._exit(int(stop.code or 0))
    except BaseException as error:
        os.write(2, f"Traceback: {error!r}".encode())
    os._exit(99)


def wait(running: tuple[str, int, Path], place: Path) -> Ended:
    """The end of a command that was started."""
    name, pid, log = running
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    said = log.read_text()
    log.unlink()
    return Ended(name, code, said)


def after(place: Path) -> list[str]:
    """What is wrong with the workspace that two commands left."""
    work = place / "work"
    wrong = [wait(start("verify afterwards", ("store", "verify"), place, 0.0), place)]
    found = [one.wrong or one.said for one in wrong if one.code]
    found.append(problem(lambda: load_detector(work / "detector.safetensors")))
    for kind in ("positive", "negative"):  # negative ones go when positive ones are learned anew
        if (path := work / f"{kind}.safetensors").exists():
            found.append(problem(partial(load_prompts, path, kind)))
    left = [path for path in work.rglob("*") if path.name.endswith((".tmp", ".lock"))]
    return [text for text in found if text] + [f"{path} is left" for path in left]


def problem(read: Callable[[], object]) -> str:
    """Why a file cannot be read; empty if it can."""
    try:
        read()
    except Exception as error:
        return repr(error)
    return ""


def run(pairs: Sequence[tuple[str, str]], seed: int) -> int:
    """How many pairs went wrong; says a line of each."""
    import_everything()
    moments, failed, refused = random.Random(seed), 0, 0
    with tempfile.TemporaryDirectory(prefix="lsn-pairs-") as made:
        place = Path(made)
        template(place, learned=not WITHOUT_PROMPTS.issuperset(chain(*pairs)))
        shutil.copytree(place / "work", place / "kept")
        for first, second in pairs:
            shutil.rmtree(place / "work")
            shutil.copytree(place / "kept", place / "work")
            both = [start(name, COMMANDS[name], place, moments.uniform(0, 0.3)) for name in (first, second)]
            ended = [wait(one, place) for one in both]
            wrong = [one.wrong for one in ended if one.wrong] or after(place)
            failed += bool(wrong)
            refused += sum(one.code != 0 for one in ended)
            ends = " ".join(one.said.partition("\n")[0] or "well" for one in ended)
            print(f"{first} + {second}: {'WRONG: ' + ' '.join(wrong) if wrong else ends}", flush=True)
    print(f"{len(pairs)} pairs: {failed} wrong; {refused} commands ended with one sentence.")
    return failed


def chosen(words: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs such as ``extract+score``; all of them for none."""
    if not words:
        return list(combinations_with_replacement(COMMANDS, 2))
    return [(first, second) for first, _, second in (word.partition("+") for word in words)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pairs", nargs="*", help="such as extract+score; all if left out")
    parser.add_argument("--seed", type=int, default=0, help="of the moments at which commands begin")
    given = parser.parse_args()
    sys.exit(min(1, run(chosen(given.pairs), given.seed)))
