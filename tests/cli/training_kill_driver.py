"""Run both training commands in forked children and end them early: a program for test_training_kills.py.

Each child is a whole run of the command: it loads the model, reads the store, learns, writes and calibrates.
Prints one line of JSON.
"""

import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from kill_points import ended_by_itself, fork, signal_after_files
from training_samples import features_of

from lsncli.backbones import openclip
from lsncli.cli.app import main
from lsncli.training import checkpoints as resume

COMMANDS = {
    "positive": ["train-pos", "--epochs", "15", "--context-length", "4"],
    "negative": ["train-neg", "--epochs", "10", "--context-length", "4"],
}
EPOCHS = (2, 3)
"""Epochs that a run keeps before it is killed, the second going on from the first."""
MOMENTS = 1
"""Kills at any moment, of each command; tests.robustness.kills has more."""


def start(kind: str, work: Path, log: Path, end: signal.Signals | None = None, epochs: int = 0) -> int:
    """Start the command in a child that saves every epoch, however short; return its pid.

    The child sends itself ``end`` once it has saved ``epochs`` epochs. The log is new.
    """

    def run() -> None:
        resume.SAVE_SECONDS = 0.0
        if end:
            signal_after_files(checkpoint_of(kind), epochs, end)
        # Named, because the self-test of two processes might disagree and so would their last bits.
        main([*COMMANDS[kind], "--work", str(work), "--device", "cpu", "--kernel", "torch"])

    log.unlink(missing_ok=True)
    return fork(run, log)


def checkpoint_of(kind: str) -> str:
    return f"{kind}.unfinished.safetensors"


@dataclass
class Trial:
    """One command in a workspace of its own, and what all its runs must end in."""

    kind: str
    before: Path
    folder: Path
    expected: dict[str, bytes] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def log(self) -> Path:
        return self.folder / f"{self.kind}.log"

    def fresh(self, name: str) -> Path:
        work = self.folder / f"{self.kind}-{name}"
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(self.before, work)
        return work

    def whole(self) -> Path:
        """A run that nothing happens to; it sets the bytes and the time."""
        work, began = self.fresh("whole"), time.monotonic()
        self.finish(start(self.kind, work, self.log))
        self.seconds = time.monotonic() - began
        self.expected = artefacts(work)
        return work

    def finish(self, child: int) -> None:
        """Wait for a child that must end by itself, and with 0."""
        if not ended_by_itself(child, self.log):
            sys.exit(f"{self.kind}: killed: {self.log.read_text(errors='replace')}")

    def check(self, work: Path) -> None:
        found = artefacts(work)
        if found != self.expected:
            other = [name for name in {*found, *self.expected} if found.get(name) != self.expected.get(name)]
            sys.exit(f"{self.kind}: not those of a run that nothing happened to: {sorted(other)}")

    def killed(self) -> dict[str, int]:
        """SIGKILL amid the learning and at seeded moments, each time followed by the same command."""
        moment = random.Random(self.kind)
        counts = {"kills": 0, "while_learning": 0, "resumed": 0}
        work = self.fresh("killed")
        for epochs in EPOCHS:
            _, status = os.waitpid(start(self.kind, work, self.log, signal.SIGKILL, epochs), 0)
            counts["kills"] += os.WIFSIGNALED(status)
            counts["while_learning"] += (work / checkpoint_of(self.kind)).exists()
            counts["resumed"] += self.resumed()
        for _ in range(MOMENTS):
            child = start(self.kind, work, self.log)
            time.sleep(moment.uniform(0.0, self.seconds))
            os.kill(child, signal.SIGKILL)  # a no-op on one that has ended and waits to be collected
            if ended_by_itself(child, self.log):  # it was quicker
                self.check(work)
                work = self.fresh("killed")
        self.finish(start(self.kind, work, self.log))
        self.check(work)
        return counts

    def resumed(self) -> bool:
        return "Resuming after epoch" in self.log.read_text(errors="replace")

    def interrupted(self) -> dict[str, object]:
        """Ctrl-C once an epoch is kept: the exit code, what it said, and what the next run says."""
        work = self.fresh("interrupted")
        _, status = os.waitpid(start(self.kind, work, self.log, signal.SIGINT, 1), 0)
        code, said = os.waitstatus_to_exitcode(status), self.log.read_text(errors="replace")
        kept = (work / checkpoint_of(self.kind)).exists()
        self.finish(start(self.kind, work, self.log))
        self.check(work)
        return {"code": code, "said": said, "kept": kept, "next": self.log.read_text(errors="replace")}


def artefacts(work: Path) -> dict[str, bytes]:
    """Every file but the store; a kill amid a write may leave its hidden temporary file."""
    return {
        path.name: path.read_bytes()
        for path in work.iterdir()
        if path.name != "features.h5" and not (path.name.startswith(".") and path.suffix == ".tmp")
    }


def drive(folder: Path) -> None:
    torch.set_num_threads(1)
    before = features_of(openclip.load_mini("mini", "", "cpu", "fp32").fingerprint, folder / "features")
    report: dict[str, object] = {}
    for kind in COMMANDS:
        trial = Trial(kind, before, folder)
        before = trial.whole()  # negative prompts need positive ones
        tests: dict[str, Callable[[], object]] = {"ctrl_c": trial.interrupted, "killed": trial.killed}
        report[kind] = {name: test() for name, test in tests.items()}
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    drive(Path(sys.argv[1]))
