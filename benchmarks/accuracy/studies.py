"""Studies on the mini benchmark: many cells, learned in parallel and only once, resumable at any time.

A study is a list of ``Cell``: what to learn, on which task, and how to score it. Prompts are learned in
processes of one thread; prompts that two cells share are learned once. Each measured cell is one JSON line.
"""

import hashlib
import json
import multiprocessing
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.mini import heads, store, suite
from lsncli.console import say
from lsncli.methods.source_digest import code_of
from lsncli.prompts.settings import PromptSettings
from lsncli.scores import SCORES

Record = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """A task: a split of a column as a seed draws it or, with ``fold``, one fold of its validation."""

    column: str
    split: int = 0
    seed: int = 0
    shots: int = suite.SHOTS
    fold: int | None = None

    def task(self, cache: Path) -> suite.Task:
        """Return the rows; the last few tasks stay in memory, for cells of one place follow each other."""
        return _task(self, cache)

    def __str__(self) -> str:
        fold = "" if self.fold is None else f", fold {self.fold}"
        return f"{self.column}, split {self.split}, seed {self.seed}{fold}"


@lru_cache(maxsize=4)
def _task(place: Place, cache: Path) -> suite.Task:
    task = suite.load(place.column, place.split, shots=place.shots, seed=place.seed, cache=cache)
    return task if place.fold is None else suite.validation(task, place.fold, place.seed)


@dataclass(frozen=True)
class Cell:
    """Prompts learned at ``where`` and scored by every method, for the row ``row``.

    ``positive`` None = hand-written prompts, ``negative`` None = no negative prompts. The seed of ``where``
    replaces that of the settings.
    """

    row: str
    where: Place
    positive: PromptSettings | None
    negative: PromptSettings | None
    methods: tuple[heads.Method, ...]

    def with_seed(self, settings: PromptSettings | None) -> PromptSettings | None:
        """Return ``settings`` with the seed of ``where``."""
        return None if settings is None else replace(settings, seed=self.where.seed)


@dataclass(frozen=True)
class Learning:
    """A unit of work: one kind of prompts on one task."""

    where: Place
    settings: PromptSettings


def measure(
    cells: Sequence[Cell], cache: Path, *, file: Path | None = None, jobs: int = 1, quiet: bool = False
) -> list[Record]:
    """Learn and measure every cell; return a record for each, in the order of ``cells``.

    A record holds row, column, split, seed, shots, fold, the number of classes and training rows, the
    settings of the prompts, the seconds of learning and ``results``: one ``Measured`` for each method, in
    fractions. With ``file`` (JSON lines) records are appended as they are made, and those of the same rows,
    settings and code are read instead of measured again.
    """
    store.prepare(suite.sets_of([cell.where.column for cell in cells]), cache, quiet=quiet)
    records = {} if file is None else _read(file)
    wanted: dict[str, Learning] = {}
    waiting: dict[str, tuple[Cell, set[str]]] = {}
    keys = []
    for cell in cells:
        needs = _learnings(cell, cache)
        keys.append(_key(cell, needs, cache))
        if keys[-1] not in records:
            waiting[keys[-1]] = cell, set(needs)
            wanted |= needs
    done = {name for name in wanted if heads.file_of(name, cache).is_file()}
    todo = {name: work for name, work in wanted.items() if name not in done}

    def settle() -> None:
        for key in [key for key, (_, needs) in waiting.items() if needs <= done]:
            records[key] = _record(key, waiting.pop(key)[0], cache)
            if file is not None:
                _append(file, records[key])

    settle()  # cells whose prompts are learned already
    for name in _learn_all(todo, cache, jobs, quiet):
        done.add(name)
        settle()
    return [records[key] for key in keys]


def _learn_all(todo: Mapping[str, Learning], cache: Path, jobs: int, quiet: bool) -> Iterator[str]:
    """Learn everything in ``todo``; yield the name of each as soon as it is on disk."""
    began = time.monotonic()
    for number, (name, work, seconds) in enumerate(_stream(todo, cache, jobs), start=1):
        left = (time.monotonic() - began) / number * (len(todo) - number)
        kind = f"{work.settings.kind} prompts for {work.where}"
        say(f"{number}/{len(todo)}: {kind}, {seconds:.1f} s; about {left / 60:.0f} min left", quiet=quiet)
        yield name


def _stream(todo: Mapping[str, Learning], cache: Path, jobs: int) -> Iterator[tuple[str, Learning, float]]:
    if jobs < 2:
        for name, work in todo.items():
            yield name, work, _learn(work, cache)
        return
    os.environ["OMP_NUM_THREADS"] = "1"  # read when the processes load torch
    spawn = multiprocessing.get_context("spawn")  # a forked torch can hang
    pool = ProcessPoolExecutor(jobs, mp_context=spawn, initializer=torch.set_num_threads, initargs=(1,))
    try:
        names = {pool.submit(_learn, work, cache): name for name, work in todo.items()}
        for future in as_completed(names):
            yield names[future], todo[names[future]], future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _learn(work: Learning, cache: Path) -> float:
    """Learn prompts, store them, and return the seconds that it took."""
    task = work.where.task(cache)
    return heads.learn_text(task, work.settings, store.text_tower(cache), cache).seconds


def _learnings(cell: Cell, cache: Path) -> dict[str, Learning]:
    """Return what must be learned before ``cell`` can be measured, by digest."""
    task, tower = cell.where.task(cache), store.text_tower(cache)
    both = cell.with_seed(cell.positive), cell.with_seed(cell.negative)
    wanted = [settings for settings in both if settings is not None]
    return {heads.digest(task, one, tower): Learning(cell.where, one) for one in wanted}


def _record(key: str, cell: Cell, cache: Path) -> Record:
    task, tower = cell.where.task(cache), store.text_tower(cache)
    positive, negative = cell.with_seed(cell.positive), cell.with_seed(cell.negative)
    took = [heads.learn_text(task, one, tower, cache) for one in (positive, negative) if one is not None]
    scale = store.logit_scale(cache)
    head = heads.run(task, positive, negative, tower, cache=cache, scale=scale)
    results = heads.evaluate_head(head, task, cell.methods)
    return {
        "key": key,
        "row": cell.row,
        **asdict(cell.where),
        "classes": len(task.classes),
        "train_rows": len(task.train),
        "positive": positive and asdict(positive),
        "negative": negative and asdict(negative),
        "seconds": round(sum(text.seconds for text in took), 3),
        "cpu_seconds": round(sum(text.cpu_seconds for text in took), 3),
        "results": [asdict(one) for one in results],
    }


def _key(cell: Cell, needs: Mapping[str, Learning], cache: Path) -> str:
    """Return a digest of everything that a record depends on."""
    task = cell.where.task(cache)
    total = hashlib.sha256(json.dumps([cell.row, asdict(cell.where), cell.methods, sorted(needs)]).encode())
    scores = [SCORES[name] for name, _ in cell.methods]
    total.update(code_of(heads.run, heads.evaluate_head, *scores).encode())
    for features in (task.train.features, task.test_id.features, *task.test_ood.values()):
        total.update(np.ascontiguousarray(features).tobytes())
    return total.hexdigest()[:32]


def _read(file: Path) -> dict[str, Record]:
    """Return the records of a file by key, without a line that a kill has cut short."""
    if not file.is_file():
        return {}
    found = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        found[record["key"]] = record
    return found


def _append(file: Path, record: Record) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as target:
        target.write(json.dumps(record) + "\n")
