"""Train a linear classifier on the features of a workspace: a head that scores can stand on."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lsncli.app.calibrate import known_rows
from lsncli.app.heldout import Parts, check_held_out
from lsncli.app.probe import Probe, best_probe, probes
from lsncli.app.workspace import Workspace
from lsncli.artefacts.heads import LearnedHead, save_head
from lsncli.console import Tick, silent
from lsncli.errors import LsnError
from lsncli.scores.common import check_features
from lsncli.store.format import Split
from lsncli.store.reader import read_fingerprint, read_split
from lsncli.types import Fingerprint


@dataclass(frozen=True)
class TrainedHead:
    """A head, where it was written, and how it was trained."""

    path: Path
    head: LearnedHead
    rows: int
    """It was trained on."""
    held_out: int
    """Rows that were not."""
    accuracy: float
    """On the held-out rows; a fraction."""
    seconds: float


def labelled_parts(work: Workspace, split_name: str) -> tuple[Split, Parts]:
    """A labelled split, and which of its rows a head may learn from: those that prompts learned from, too.

    Raises LsnError for a split without classes, with only one, or without a row that could be held out.
    """
    split = read_split(work.features, split_name)
    if len(split.classes) < 2:
        raise LsnError(
            f"Split '{split_name}' has {len(split.classes)} classes; a classifier needs at least 2.",
            "Extract a folder with one folder per class, or give --classes.",
        )
    rows = known_rows(work, split)
    check_held_out(split, rows)
    return split, rows


def linear_head(
    split: Split,
    rows: Parts,
    fingerprint: Fingerprint,
    c: float | None = None,
    device: torch.device | None = None,
    tick: Tick = silent,
) -> tuple[LearnedHead, Probe]:
    """The head of ``train_linear``, and its probe, from rows of ``split``."""
    check_features(rows.train.features, fingerprint.dim)
    where, classes = device or torch.device("cpu"), len(split.classes)
    chosen = c is None
    if c is None:
        c, probe = best_probe(rows.train, rows.held_out, classes, where, tick)
    else:
        (probe,) = probes(rows.train, classes, [c], where, tick=tick)
    settings: dict[str, Any] = {"c": c, "chosen": chosen, "optimizer": "l-bfgs"}
    head = LearnedHead(
        kind="linear",
        fingerprint=fingerprint,
        classes=split.classes,
        scale=1.0,
        weights=probe.weights,
        bias=probe.bias,
        settings=settings,
        held_out=rows.rule,
    )
    return head, probe


def train_linear(
    work: Workspace,
    *,
    split_name: str = "train",
    c: float | None = None,
    device: torch.device | None = None,
    tick: Tick = silent,
) -> TrainedHead:
    """Fit a linear probe on unit features (``probe.probes``) and write ``linear.head.safetensors``.

    ``c`` is the strength C; None chooses it on the held-out rows (``probe.best_probe``). That is the one
    thing that held-out rows decide; with a given C no bit of the head depends on them. Raises as
    ``labelled_parts`` does, and UsageError for a C that cannot be meant.
    """
    began = time.perf_counter()
    split, rows = labelled_parts(work, split_name)
    head, probe = linear_head(split, rows, read_fingerprint(work.features), c, device, tick)
    path = work.head("linear")
    save_head(path, head)
    accuracy, _ = probe.accuracy_and_loss(rows.held_out)
    seconds = time.perf_counter() - began
    return TrainedHead(path, head, len(rows.train), len(rows.held_out), accuracy, seconds)
