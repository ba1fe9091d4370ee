"""Compare methods: FPR95, AUROC, AUPR and ID accuracy on stored splits, ID against each OOD split."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from lsncli.app.calibrate import known_rows
from lsncli.app.heads import make_head
from lsncli.app.heldout import labels_as
from lsncli.app.methods import Method, settled
from lsncli.app.workspace import Workspace
from lsncli.console import Tick, silent
from lsncli.errors import LsnError, UsageError
from lsncli.metrics import OodMetrics, accuracy, evaluate_scores
from lsncli.scores import score_in_chunks
from lsncli.scores.common import predict
from lsncli.store.format import Split
from lsncli.store.reader import list_splits, read_split
from lsncli.types import UNLABELLED, Head

AVERAGE = "average"


@dataclass(frozen=True)
class Result:
    """One method on one OOD split (or the average over them); fractions, not percent."""

    method: Method
    ood: str
    metrics: OodMetrics
    id_accuracy: float
    """Accuracy of the head's positive prompts on the labelled ID rows; NaN if none is labelled."""


@dataclass(frozen=True)
class Evaluation:
    """All results, and the methods that could not be evaluated with the reason."""

    results: tuple[Result, ...]
    failed: tuple[tuple[Method, str], ...]


def default_methods(work: Workspace) -> list[str]:
    """What can be compared in this workspace, the paper's three first."""
    learned = ["mcm:positive"] if work.positive.is_file() else []
    learned += ["lsn"] if work.negative.is_file() else []
    return ["mcm", *learned, "msp", "maxlogit", "energy", "knn"]


def choose_splits(
    work: Workspace, id_split: str, ood_splits: Sequence[str], train_split: str
) -> tuple[Split, list[Split]]:
    """Read the ID split and the OOD splits; without names, every split but ID and training is OOD.

    Raises LsnError for a split that is not there, UsageError if no OOD split is left.
    """
    names = list(list_splits(work.features))
    chosen = list(dict.fromkeys(ood_splits)) or [
        name for name in names if name not in (id_split, train_split)
    ]
    if not chosen or id_split in chosen:
        raise UsageError(
            f"--ood: expected splits other than '{id_split}', found {', '.join(chosen) or 'none'}.",
            f"The store holds {', '.join(names)}; add one with `lsn extract ./other --split NAME`.",
        )
    return read_split(work.features, id_split), [read_split(work.features, name) for name in chosen]


def evaluate(
    work: Workspace,
    methods: Sequence[Method],
    id_split: Split,
    ood_splits: Sequence[Split],
    train_split: str,
    tick: Tick = silent,
) -> Evaluation:
    """Score every split with every method; a method that fails is reported and the others go on.

    Classes are those of the training split. KNN compares with the rows that prompts learned from, never
    with those held out. Raises LsnError if the ID split has other classes or a split has no rows.
    """
    train = read_split(work.features, train_split)
    if not train.classes:
        raise LsnError(f"Split '{train_split}' has no classes.", "Name a labelled split with --train.")
    for split in (id_split, *ood_splits):
        if len(split.labels) == 0:
            raise LsnError(f"Split '{split.name}' has no rows.", "Extract it again; see `lsn store info`.")
    labels_as(id_split, train.classes)
    rows = known_rows(work, train)

    @cache
    def head_with(prompts: str, negatives: bool) -> Head:
        return make_head(work, prompts, train.classes, negatives=negatives)

    results: list[Result] = []
    failed: list[tuple[Method, str]] = []
    for method in methods:
        tick(1, method.label)
        try:
            score, _ = settled(method, work)
            head = head_with(method.prompts, "negative" in method.needs)
            scorer = score.fit(head, rows.train)
            right = id_accuracy(head, id_split)
            inside = score_in_chunks(scorer, id_split.features)
            found = []
            for ood in ood_splits:
                metrics = evaluate_scores(inside, score_in_chunks(scorer, ood.features))
                found.append(Result(method, ood.name, metrics, right))
        except LsnError as error:
            failed.append((method, str(error)))
            continue
        results += [*found, average(found)] if len(found) > 1 else found
    return Evaluation(tuple(results), tuple(failed))


def id_accuracy(head: Head, split: Split) -> float:
    """Fraction of labelled rows whose largest positive cosine is their own class."""
    labels = labels_as(split, head.classes)
    known = labels != UNLABELLED
    if not known.any():
        return float("nan")
    return accuracy(labels[known], predict(head, split.features[known]))


def average(results: Sequence[Result]) -> Result:
    """The unweighted mean over OOD splits, as in the paper's tables."""

    def mean(field: str) -> float:
        return float(np.mean([getattr(result.metrics, field) for result in results]))

    first = results[0]
    metrics = OodMetrics(
        fpr95=mean("fpr95"),
        fpr95_ood=mean("fpr95_ood"),
        auroc=mean("auroc"),
        aupr_in=mean("aupr_in"),
        aupr_out=mean("aupr_out"),
        n_id=first.metrics.n_id,
        n_ood=sum(result.metrics.n_ood for result in results),
    )
    return Result(first.method, AVERAGE, metrics, first.id_accuracy)
