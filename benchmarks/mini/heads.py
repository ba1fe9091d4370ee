"""Learn a head on a task of the mini benchmark, and measure it.

Learned prompts are stored under a digest of everything that they depend on, so that an interrupted study
resumes, and two rows of a table that share their positive prompts learn them once.
"""

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.mini.suite import Task
from lsncli.errors import UsageError
from lsncli.methods.source_digest import code_of
from lsncli.metrics import accuracy, evaluate_scores
from lsncli.prompts.layout import TextTower
from lsncli.prompts.learner import learn
from lsncli.prompts.settings import PromptSettings
from lsncli.prompts.text_features import text_features
from lsncli.scores import load_score, ready, score_in_chunks
from lsncli.scores.common import predict
from lsncli.types import Float64Array, Head, Rows, unit

TEMPLATE = "a photo of a {}"
"""The hand-written prompt of MCM, as in ``lsn eval --method mcm``."""

Method = tuple[str, Mapping[str, Any]]
"""The name of a score and its settings."""


@dataclass(frozen=True)
class Measured:
    """The result of one method on one task, in fractions: means over the OOD sets, and each of them."""

    method: str
    fpr95: float
    auroc: float
    accuracy: float
    by_ood: Mapping[str, Mapping[str, float]]
    """``fpr95`` and ``auroc`` of each OOD set."""


@dataclass(frozen=True)
class Text:
    """Learned unit text features (K, C, D), the loss of every epoch, and the seconds of learning."""

    features: Float64Array
    history: tuple[float, ...]
    seconds: float
    cpu_seconds: float


def run(
    task: Task,
    positive: PromptSettings | None,
    negative: PromptSettings | None,
    tower: TextTower,
    *,
    cache: Path | None = None,
    scale: float = 100.0,
) -> Head:
    """Return the head of learned (None: hand-written) positive and learned (None: no) negative prompts.

    Several positive prompts of a class become the unit mean of their text features. Prompts are stored in
    ``cache``, if there is one. Raises UsageError for CoCoOp, whose text depends on the image, and for half
    precision.
    """
    text = hand_text(task.classes, tower)
    if positive is not None:
        text = unit(learn_text(task, positive, tower, cache).features.mean(axis=0))
    negatives = None if negative is None else learn_text(task, negative, tower, cache).features
    return Head(task.classes, text, scale, negatives)


def hand_text(classes: Sequence[str], tower: TextTower) -> Float64Array:
    """Return unit text features (C, D) of ``TEMPLATE``."""
    features = text_features(tower, [TEMPLATE.format(name) for name in classes])
    return unit(features.detach().cpu().double().numpy())


def learn_text(task: Task, settings: PromptSettings, tower: TextTower, cache: Path | None = None) -> Text:
    """Learn ``settings`` on the task's train rows, or read the result of the same digest."""
    if settings.learner != "coop" or settings.precision != "fp32":
        raise UsageError(
            "The mini benchmark measures heads whose text is fixed, in fp32; "
            f"found the learner '{settings.learner}' in {settings.precision}.",
            "Use the learner coop and fp32.",
        )
    file = None if cache is None else file_of(digest(task, settings, tower), cache)
    if file is not None and file.is_file():
        with np.load(file, allow_pickle=False) as stored:
            wall, cpu = stored["seconds"].tolist()
            return Text(stored["text"], tuple(stored["history"].tolist()), wall, cpu)
    wall, cpu = time.perf_counter(), time.process_time()
    done = learn(tower, task.train, task.classes, settings)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    text = Text(unit(np.asarray(done.text)), done.history, wall, cpu)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        temp = file.with_suffix(f".{os.getpid()}.tmp")
        with temp.open("wb") as target:
            np.savez(
                target, text=text.features, history=np.array(text.history), seconds=np.array([wall, cpu])
            )
        os.replace(temp, file)
    return text


def file_of(name: str, cache: Path) -> Path:
    """Return the file of the prompts of this digest."""
    return cache / "learned" / f"{name}.npz"


def evaluate_head(head: Head, task: Task, methods: Sequence[Method]) -> list[Measured]:
    """Return FPR95 (ID positive), AUROC and ID accuracy of every method, in the order of ``methods``.

    The accuracy is that of the head's positive prompts for every method.
    """
    guessed = accuracy(task.test_id.labels, predict(head, task.test_id.features))
    results = []
    for name, settings in methods:
        scorer = ready(load_score(name, **settings), head, task.train)
        inside = score_in_chunks(scorer, task.test_id.features)
        found = {
            ood: evaluate_scores(inside, score_in_chunks(scorer, features))
            for ood, features in task.test_ood.items()
        }
        results.append(
            Measured(
                method=method_name(name, settings),
                fpr95=float(np.mean([one.fpr95 for one in found.values()])),
                auroc=float(np.mean([one.auroc for one in found.values()])),
                accuracy=guessed,
                by_ood={ood: {"fpr95": one.fpr95, "auroc": one.auroc} for ood, one in found.items()},
            )
        )
    return results


def method_name(score: str, settings: Mapping[str, Any]) -> str:
    """Return a method in the form of ``lsn eval --method``: ``lsn,tau_bar=1.0``."""
    return ",".join([score, *(f"{key}={value}" for key, value in settings.items())])


def digest(task: Task, settings: PromptSettings, tower: TextTower) -> str:
    """Return a sha256 of everything that learning depends on: classes, rows, settings, tower, code.

    Column and split are not part of it: the five splits of CIFAR+10 have the same ID rows, and learn once.
    """
    total = hashlib.sha256()
    # The settings are in the digest by value.
    code = code_of("lsncli.prompts.learner:learn", type(tower), without=(PromptSettings,))
    for part in (json.dumps([task.classes, asdict(settings)], sort_keys=True), code):
        total.update(part.encode())
    total.update(_bytes_of(task.train))
    embedding = tower.vocabulary.embedding.detach().to("cpu", torch.float32).contiguous().numpy()
    total.update(embedding.tobytes())
    return total.hexdigest()[:32]


def _bytes_of(rows: Rows) -> bytes:
    return np.ascontiguousarray(rows.features).tobytes() + np.ascontiguousarray(rows.labels).tobytes()
