"""Train a linear probe: multinomial logistic regression on unit features, by L-BFGS in bounded memory."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from lsncli.artefacts.heads import LearnedHead, save_head
from lsncli.console import ProgressCallback, silent
from lsncli.detection.calibrate import known_rows
from lsncli.errors import LsnError, UsageError
from lsncli.memory import memory_errors, with_less
from lsncli.methods.holdout import HoldoutRows, check_held_out
from lsncli.methods.workspace import Workspace
from lsncli.scores.common import CHUNK, check_features
from lsncli.scores.neighbours import unit_rows
from lsncli.store.format import Split
from lsncli.store.reader import read_fingerprint, read_split
from lsncli.types import Fingerprint, Float64Array, FloatArray, Rows, unit

TOLERANCE = 1e-3
"""Optimisation stops at this fraction of the gradient at zero weights."""
MAX_ITERATIONS = 1000
SMALLEST = 64
"""Rows of a chunk below which less memory is not tried."""
SWEEP = (1.0, 10.0, 100.0, 1000.0)
"""Strengths C that are tried. CLIP's own probes used C = 0.316 on features of length 10, which is some 30 on
unit ones."""


@dataclass(frozen=True)
class LinearProbe:
    """Logits = ``weights`` x + ``bias`` for unit features x; ``weights`` (C, D), ``bias`` (C,)."""

    weights: Float64Array
    bias: Float64Array

    def accuracy_and_loss(self, rows: Rows) -> tuple[float, float]:
        """Return the fraction of ``rows`` that is classified correctly, and their mean cross-entropy."""
        correct = loss = 0.0
        for start in range(0, len(rows), CHUNK):
            features, labels = rows.features[start : start + CHUNK], rows.labels[start : start + CHUNK]
            logits = torch.from_numpy(unit(features) @ self.weights.T + self.bias)
            truth = torch.from_numpy(labels).long()
            correct += float((logits.argmax(dim=1) == truth).sum())
            loss += float(torch.nn.functional.cross_entropy(logits, truth, reduction="sum"))
        return correct / len(rows), loss / len(rows)


def choose_probe(
    train: Rows, held_out: Rows, classes: int, device: torch.device, progress: ProgressCallback = silent
) -> tuple[float, LinearProbe]:
    """Return the strength of ``SWEEP`` with the best accuracy on held-out rows, and its probe.

    CLIP's paper chooses it like this (Radford et al., ICML 2021, appendix A.3). Of equal ones, the lower
    cross-entropy wins.
    """
    by_strength = dict(zip(SWEEP, fit_probes(train, classes, SWEEP, device, progress=progress), strict=True))
    results = {c: probe.accuracy_and_loss(held_out) for c, probe in by_strength.items()}
    best = max(SWEEP, key=lambda c: (results[c][0], -results[c][1]))
    return best, by_strength[best]


def fit_probes(
    rows: Rows,
    classes: int,
    strengths: Sequence[float],
    device: torch.device,
    *,
    tolerance: float = TOLERANCE,
    progress: ProgressCallback = silent,
) -> Iterator[LinearProbe]:
    """Yield a probe for each strength C, started from the one before; ascending strengths are fastest.

    Minimises mean cross-entropy + |W|^2 / (2 C N) over W (C, D) and an unpenalised bias: the objective and
    the optimiser of scikit-learn's LogisticRegression(C=C), but with rows as they are stored, a chunk of
    logits at a time, and on a device; CUDA keeps the rows. In float64; "mps" has none, so the CPU computes
    instead. Features are centred and scaled to equal curvature, which changes only the number of steps (to a
    third on CLIP's features, whose mean has most of their length).

    ``progress`` counts evaluations of the loss. Raises UsageError for an invalid strength.
    """
    for strength in strengths:
        if not (np.isfinite(strength) and strength > 0):
            raise UsageError(f"--c: expected a finite number above 0, found {strength}.")
    where = torch.device("cpu") if device.type == "mps" else device
    with memory_errors("the linear probe", "Use --device cpu."):
        yield from _fit(rows, classes, strengths, where, tolerance, progress)


def _fit(
    rows: Rows,
    classes: int,
    strengths: Sequence[float],
    where: torch.device,
    tolerance: float,
    progress: ProgressCallback,
) -> Iterator[LinearProbe]:
    chunks = _Chunks(rows, where)
    mean, values, vectors = with_less(lambda: _geometry(chunks), chunks.less)
    weights = torch.zeros(classes, len(mean), dtype=torch.float64, device=where)
    bias = torch.zeros(classes, dtype=torch.float64, device=where)
    for strength in strengths:
        decay = 1 / (strength * len(rows))
        scales = (values / classes + decay).rsqrt()  # the curvature is about the covariance times 1 / C
        whitening, inverse = (vectors * scales) @ vectors.T, (vectors / scales) @ vectors.T

        def loss(
            flat: NDArray[np.float64], decay: float = decay, whitening: Tensor = whitening
        ) -> tuple[float, Float64Array]:
            point = torch.from_numpy(flat).to(where).view(classes, -1)
            weights, bias = point[:, :-1] @ whitening, point[:, -1] * classes**0.5
            value, by_weights, by_bias = with_less(
                lambda: _mean_loss(chunks, mean, weights, bias), chunks.less
            )
            value += decay / 2 * float((weights**2).sum())
            progress(1, f"C {1 / (decay * len(rows)):g}, loss {value:.4f}")
            gradient = torch.cat(
                [(by_weights + decay * weights) @ whitening, by_bias[:, None] * classes**0.5], dim=1
            )
            return value, gradient.flatten().cpu().numpy()

        start = torch.cat([weights @ inverse, bias[:, None] / classes**0.5], dim=1).flatten().cpu().numpy()
        minimum = _minimum(loss, start, tolerance)
        point = torch.from_numpy(minimum).to(where).view(classes, -1)
        weights, bias = point[:, :-1] @ whitening, point[:, -1] * classes**0.5
        # At the minimum they sum to zero over the classes; with few rows, rounding adds up to 1e-5 of that.
        weights, bias = weights - weights.mean(dim=0), bias - bias.mean()
        yield LinearProbe(weights.cpu().numpy(), (bias - weights @ mean).cpu().numpy())


def _minimum(
    loss: Callable[[NDArray[np.float64]], tuple[float, Float64Array]], start: Float64Array, tolerance: float
) -> Float64Array:
    steepest = float(np.abs(loss(np.zeros_like(start))[1]).max())
    options = {"maxiter": MAX_ITERATIONS, "gtol": tolerance * steepest, "ftol": 0.0}
    minimum: Float64Array = minimize(loss, start, jac=True, method="L-BFGS-B", options=options).x
    return minimum


class _Chunks:
    """Chunks of unit rows in float64 and of their labels, on a device.

    CUDA keeps the rows in their stored precision, so that hundreds of evaluations do not send them again,
    unless they do not fit.
    """

    def __init__(self, rows: Rows, device: torch.device) -> None:
        self.rows, self.device = rows, device
        self._size = CHUNK
        self._keep = device.type == "cuda"
        self._kept: list[tuple[Tensor, Tensor]] = []

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        if self._keep and not self._kept:
            self._kept = [
                (torch.tensor(features).to(self.device), labels) for features, labels in self._stored()
            ]
        if self._kept:
            yield from ((unit_rows(features), labels) for features, labels in self._kept)
            return
        for features, labels in self._stored():
            yield torch.from_numpy(unit(features)).to(self.device), labels

    def _stored(self) -> Iterator[tuple[FloatArray, Tensor]]:
        for start in range(0, len(self.rows), self._size):
            labels = torch.from_numpy(self.rows.labels[start : start + self._size]).long()
            yield self.rows.features[start : start + self._size], labels.to(self.device)

    def less(self) -> bool:
        """Use less memory from now on; return False if that is not possible."""
        if self._keep:
            self._keep, self._kept = False, []
            return True
        self._size //= 2
        return self._size >= SMALLEST


def _geometry(chunks: _Chunks) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean (D,) of unit rows, and eigenvalues (D,) and eigenvectors (D, D) of their covariance."""
    dim = chunks.rows.features.shape[1]
    total = torch.zeros(dim, dtype=torch.float64, device=chunks.device)
    squares = torch.zeros(dim, dim, dtype=torch.float64, device=chunks.device)
    for features, _ in chunks:
        total += features.sum(dim=0)
        squares += features.T @ features
    mean = total / len(chunks)
    values, vectors = torch.linalg.eigh(squares / len(chunks) - torch.outer(mean, mean))
    return mean, values.clamp_min(0), vectors


def _mean_loss(chunks: _Chunks, mean: Tensor, weights: Tensor, bias: Tensor) -> tuple[float, Tensor, Tensor]:
    """Return the mean cross-entropy of ``weights`` (x - ``mean``) + ``bias``, and its gradients by both."""
    value = 0.0
    by_weights, by_bias = torch.zeros_like(weights), torch.zeros_like(bias)
    for features, labels in chunks:
        centred = features - mean
        errors = torch.log_softmax(torch.addmm(bias, centred, weights.T), dim=1)
        value -= float(errors.gather(1, labels[:, None]).sum())
        errors.exp_()
        errors[torch.arange(len(labels), device=mean.device), labels] -= 1
        by_weights += errors.T @ centred
        by_bias += errors.sum(dim=0)
    return value / len(chunks), by_weights / len(chunks), by_bias / len(chunks)


@dataclass(frozen=True)
class TrainedHead:
    """A trained head, its file, and how it was trained."""

    path: Path
    head: LearnedHead
    rows: int
    """Training rows."""
    held_out: int
    """Held-out rows."""
    accuracy: float
    """Accuracy on the held-out rows; a fraction."""
    seconds: float


def labelled_holdout(work: Workspace, split_name: str) -> tuple[Split, HoldoutRows]:
    """Read a labelled split and choose the rows that a head learns from: those that prompts learned from.

    Raises LsnError for a split with fewer than two classes, or without a row to hold out.
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
    rows: HoldoutRows,
    fingerprint: Fingerprint,
    c: float | None = None,
    device: torch.device | None = None,
    progress: ProgressCallback = silent,
) -> tuple[LearnedHead, LinearProbe]:
    """Train the head of ``train_linear`` on ``rows`` of ``split``; return it and its probe."""
    check_features(rows.train.features, fingerprint.dim)
    device, classes = device or torch.device("cpu"), len(split.classes)
    chosen = c is None
    if c is None:
        c, probe = choose_probe(rows.train, rows.held_out, classes, device, progress)
    else:
        (probe,) = fit_probes(rows.train, classes, [c], device, progress=progress)
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
    progress: ProgressCallback = silent,
) -> TrainedHead:
    """Fit a linear probe on unit features (``fit_probes``) and write ``linear.head.safetensors``.

    ``c`` is the strength C; None chooses it on the held-out rows (``choose_probe``), which decide nothing
    else: with a given C, no bit of the head depends on them. ``progress`` counts evaluations of the loss.
    Raises as ``labelled_holdout`` does, and UsageError for an invalid C.
    """
    began = time.perf_counter()
    split, rows = labelled_holdout(work, split_name)
    head, probe = linear_head(split, rows, read_fingerprint(work.features), c, device, progress)
    path = work.head("linear")
    save_head(path, head)
    accuracy, _ = probe.accuracy_and_loss(rows.held_out)
    seconds = time.perf_counter() - began
    return TrainedHead(path, head, len(rows.train), len(rows.held_out), accuracy, seconds)
