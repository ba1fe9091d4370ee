"""Trainings for the rows of a table; each result is a file named by a digest of everything it depends on.

Rows that learn the same from the same split share one training; so do the five ID splits of CIFAR+10.
Trainings run one after the other, or in parallel in processes of one thread each.
"""

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

from lsncli.artefacts.heads import load_no_tower, save_head
from lsncli.artefacts.prompts import save_prompts
from lsncli.backbones import Backbone, loader_of
from lsncli.bench.suite_workspace import RowWorkspace, same_backbone
from lsncli.bench.tasks import HELD_OUT, EvalTask, Loader, TaskSplit
from lsncli.console import ProgressCallback, silent
from lsncli.device import pick_device
from lsncli.errors import LsnError
from lsncli.images.class_names import check_distinct
from lsncli.methods.cache import digest
from lsncli.methods.heads import LoadBackbone
from lsncli.methods.source_digest import code_of
from lsncli.prompts.dualcoop import DUAL
from lsncli.prompts.learner import steps
from lsncli.prompts.settings import PromptSettings, preset
from lsncli.store.reader import read_fingerprint
from lsncli.training.clipn import write_tower_head
from lsncli.training.linear_probe import linear_head
from lsncli.training.prompts import TrainingData, learn_resumably, learned_prompts, train_dualcoop

CODE = (Loader, "lsncli.bench.suite_workspace:same_backbone")
"""The code that prompts and heads depend on, beside the learner and the model."""


@dataclass(frozen=True)
class LearningSpec:
    """What to learn: the ``kind`` of prompts or head, a key of ``LEARNERS``, and the settings."""

    kind: str
    settings: PromptSettings | None = None
    """None for a kind without settings: a linear probe, CLIPN's head."""
    shots: int | None = None
    """Training rows per class; None for all that are not held out."""

    def key(self, model: str, fingerprint: str, train: Sequence[str | tuple[str, ...]], seed: int) -> str:
        """Return a digest of model, rows, classes, settings, code; ``train`` is what the rows depend on."""
        chosen = asdict(self.settings) if self.settings else {}
        rule = (HELD_OUT, self.shots, seed)
        code = code_of(LEARNERS[self.kind], *CODE, *loader_of(model), without=IN_THE_KEY)
        return digest("learned", code, fingerprint, train, rule, self.kind, chosen)[:32]

    def work(self, rows: int, classes: int) -> int:
        """Return the units of work: steps times texts, or rows."""
        rows = min(rows, classes * (self.shots or rows))
        if self.settings is None:
            return rows
        texts = classes * self.settings.sets
        if self.settings.learner == "cocoop":
            texts *= min(self.settings.batch_size, rows)
        return steps(rows, self.settings) * texts

    def __str__(self) -> str:
        """Return the kind, the preset and the settings that differ from it."""
        if self.settings is None:
            return f"{self.kind} head"
        chosen = asdict(self.settings)
        usual = DUAL if self.kind == "dualcoop" else preset(chosen["kind"], chosen["mode"], chosen["learner"])
        other = [f"{key}={chosen[key]}" for key, value in asdict(usual).items() if chosen[key] != value]
        name = {"coop": "CoOp", "cocoop": "CoCoOp"}[self.settings.learner]
        return ", ".join([self.kind, name, self.settings.mode, *other])


@dataclass(frozen=True)
class TrainingJob:
    """A job: learn from the rows of one split; the result goes to ``workspace.files[kind]``."""

    learning: LearningSpec
    seed: int
    workspace: RowWorkspace
    device: str

    def plan(self, task: EvalTask) -> TrainingData:
        """Return the rows to learn from."""
        return TrainingData(task.train, task.rows(self.learning.shots, self.seed))

    @property
    def settings(self) -> PromptSettings:
        """The settings with the seed. Raises LsnError if there are none."""
        settings = self.learning.settings
        if settings is None:
            raise LsnError(f"Expected settings to learn {self.learning.kind} prompts by, found none.")
        return replace(settings, seed=self.seed)


IN_THE_KEY = (Backbone, LearningSpec, check_distinct)
"""Definitions that learners use and that are in the key by their content, or change no result."""


def learn(
    training: TrainingJob, task: EvalTask, model: LoadBackbone, progress: ProgressCallback = silent
) -> None:
    """Learn, and write the result atomically; prompts resume from their last epoch after a kill.

    Raises LsnError if the rows or the settings cannot be learned from.
    """
    LEARNERS[training.learning.kind](training, task, model, progress)
    training.workspace.checkpoint(training.learning.kind).unlink(missing_ok=True)


def _prompts(training: TrainingJob, task: EvalTask, model: LoadBackbone, progress: ProgressCallback) -> None:
    kind, settings, plan = training.learning.kind, training.settings, training.plan(task)
    backbone = model()
    tower, learned = learn_resumably(
        training.workspace.checkpoint(kind), backbone, plan, settings, progress=progress
    )
    save_prompts(training.workspace.prompts(kind), learned_prompts(backbone, tower, plan, learned, settings))


def _dual(training: TrainingJob, task: EvalTask, model: LoadBackbone, progress: ProgressCallback) -> None:
    train_dualcoop(training.workspace, model(), training.plan(task), training.settings, progress=progress)


def _linear(training: TrainingJob, task: EvalTask, _model: LoadBackbone, _progress: ProgressCallback) -> None:
    plan, device = training.plan(task), pick_device(training.device)
    head, _ = linear_head(plan.split, plan.rows, read_fingerprint(training.workspace.features), device=device)
    save_head(training.workspace.head(training.learning.kind), head)


def _clipn(training: TrainingJob, task: EvalTask, model: LoadBackbone, _progress: ProgressCallback) -> None:
    write_tower_head(
        training.workspace, model(), load_no_tower(training.workspace.no_tower), task.train.classes
    )


LEARNERS: Mapping[str, Callable[[TrainingJob, EvalTask, LoadBackbone, ProgressCallback], None]] = {
    "positive": _prompts,
    "negative": _prompts,
    "dualcoop": _dual,
    "linear": _linear,
    "clipn": _clipn,
}


@dataclass(frozen=True)
class PoolTask:
    """A training with everything that a process needs to run it."""

    training: TrainingJob
    split: TaskSplit
    path: Path
    """The file of the result."""
    pretrained: str

    def run(self, progress: ProgressCallback = silent) -> float:
        """Learn and return the seconds it took. Raises LsnError as ``learn`` does."""
        began, store = time.perf_counter(), self.training.workspace.features
        task = shared_loader(store).load(self.split)
        learn(
            self.training, task, lambda: same_backbone(store, self.pretrained, self.training.device), progress
        )
        return time.perf_counter() - began


@dataclass(frozen=True)
class PoolResult:
    """The outcome of a task: the seconds it took, or why it failed."""

    task: PoolTask
    seconds: float = 0.0
    error: str = ""


@lru_cache(maxsize=1)
def shared_loader(store: Path) -> Loader:
    """Return the loader that consecutive jobs of a process share."""
    return Loader(store)


@contextmanager
def run_trainings(todo: Sequence[PoolTask], jobs: int) -> Iterator[Iterator[PoolResult]]:
    """Run trainings; yield an iterator of their results, each as soon as its file is written.

    With several ``jobs`` all trainings start on entry and finish in any order; with one, each runs when the
    iterator asks for it. Raises LsnError if a process was killed.
    """
    if jobs < 2 or not todo:
        yield map(_attempt, todo)
        return
    spawn = multiprocessing.get_context("spawn")  # a forked torch can hang
    pool = ProcessPoolExecutor(
        min(jobs, len(todo)), mp_context=spawn, initializer=_start, initargs=(os.getpid(),)
    )
    try:
        with _one_thread():  # the processes read it when they load torch
            futures = [pool.submit(_attempt, work) for work in todo]
        yield (future.result() for future in as_completed(futures))
    except KeyboardInterrupt:
        for process in multiprocessing.active_children():  # SIGTERM reached the parent only
            process.terminate()
        raise
    except BrokenProcessPool as error:
        raise LsnError(
            "A process that learned prompts was killed.",
            "Is there enough memory for that many --jobs? The same command goes on where it was.",
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


def _attempt(task: PoolTask) -> PoolResult:
    try:
        return PoolResult(task, task.run())
    except LsnError as error:
        return PoolResult(task, error=str(error))


def _start(parent: int) -> None:
    """Use one thread of torch, and exit when the parent was killed: nobody would read the result."""
    import torch

    torch.set_num_threads(1)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
