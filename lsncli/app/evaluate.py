"""Compare methods: FPR95, AUROC, AUPR and ID accuracy on stored splits, ID against each OOD split."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from lsncli.app.calibrate import fitted, known_rows
from lsncli.app.heads import Heads, Model
from lsncli.app.heldout import labels_as
from lsncli.app.methods import Method, settled
from lsncli.app.workspace import Workspace
from lsncli.console import Tick, silent
from lsncli.errors import LsnError, UsageError
from lsncli.metrics import OodMetrics, accuracy, evaluate_scores
from lsncli.scores import Scorer, chunk_of
from lsncli.scores.common import predict
from lsncli.store.format import Split
from lsncli.store.reader import list_splits, read_split
from lsncli.types import UNLABELLED, Float64s, Head, Labels

AVERAGE = "average"


@dataclass(frozen=True)
class Result:
    """One method on one OOD split (or the average over them); fractions, not percent."""

    method: Method
    label: str
    """What a table calls the method here, such as "CoCoOp + LSN"."""
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


@dataclass
class _Entrant:
    """A fitted method, and its scores of each split so far."""

    method: Method
    label: str
    head: Head
    scorer: Scorer
    labels: Labels
    """Of the ID split, as indices into the head's classes."""
    scores: dict[str, list[Float64s]] = field(default_factory=dict)
    guesses: list[Labels] = field(default_factory=list)
    """Classes predicted for the rows of the ID split."""

    def scores_of(self, split: Split) -> Float64s:
        return np.concatenate(self.scores[split.name])


def evaluate(
    work: Workspace,
    methods: Sequence[Method],
    id_split: Split,
    ood_splits: Sequence[Split],
    train_split: str,
    *,
    model: Model | None = None,
    tick: Tick = silent,
) -> Evaluation:
    """Score every split with every method; a method that fails is reported and the others go on.

    Classes are those of the training split. KNN compares with the rows that prompts learned from, never
    with those held out. All methods see a few rows before the next few are taken, so that prompts that depend
    on the image (CoCoOp) are encoded once an image, whatever the number of methods; ``tick`` hears of rows
    done. ``model`` is asked for if a head needs its text tower. Raises LsnError if the ID split has other
    classes or a split has no rows.
    """
    train = read_split(work.features, train_split)
    if not train.classes:
        raise LsnError(f"Split '{train_split}' has no classes.", "Name a labelled split with --train.")
    for split in (id_split, *ood_splits):
        if len(split.labels) == 0:
            raise LsnError(f"Split '{split.name}' has no rows.", "Extract it again; see `lsn store info`.")
    labels_as(id_split, train.classes)
    rows, heads = known_rows(work, train), Heads(work, train.classes, model)
    entrants: list[_Entrant] = []
    failed: list[tuple[Method, str]] = []
    for method in methods:
        try:
            chosen = settled(method, heads)
            head = heads.head(method.head, negatives="negative" in method.needs)
            scorer = chosen.score.scorer(head, fitted(chosen.score, head, rows.train, train))
            labels = labels_as(id_split, head.classes)
            entrants.append(_Entrant(method, chosen.label, head, scorer, labels))
        except LsnError as error:
            failed.append((method, str(error)))
    for split in (id_split, *ood_splits):
        entrants = _run(entrants, split, failed, tick, guess=split is id_split)
    results = [one for entrant in entrants for one in _results(entrant, id_split, ood_splits)]
    return Evaluation(tuple(results), tuple(failed))


def _run(
    entrants: list[_Entrant], split: Split, failed: list[tuple[Method, str]], tick: Tick, *, guess: bool
) -> list[_Entrant]:
    """Score a split chunk by chunk; returns those that could, the others are noted as failed."""
    chunk = chunk_of(*(entrant.head for entrant in entrants))
    for start in range(0, len(split.labels), chunk):
        part = split.features[start : start + chunk]
        able = []
        for entrant in entrants:
            try:
                entrant.scores.setdefault(split.name, []).append(entrant.scorer(part))
                if guess:
                    entrant.guesses.append(predict(entrant.head, part))
                able.append(entrant)
            except LsnError as error:
                failed.append((entrant.method, str(error)))
        entrants = able
        tick(len(part), split.name)
    return entrants


def _results(entrant: _Entrant, id_split: Split, ood_splits: Sequence[Split]) -> list[Result]:
    """On each OOD split, and the average if there are several."""
    inside = entrant.scores_of(id_split)
    right = id_accuracy(entrant.labels, np.concatenate(entrant.guesses))
    found = [
        Result(
            entrant.method, entrant.label, ood.name, evaluate_scores(inside, entrant.scores_of(ood)), right
        )
        for ood in ood_splits
    ]
    return [*found, average(found)] if len(found) > 1 else found


def id_accuracy(labels: Labels, guesses: Labels) -> float:
    """Fraction of labelled rows (N,) whose class was guessed; NaN if none is labelled."""
    known = labels != UNLABELLED
    return accuracy(labels[known], guesses[known]) if known.any() else float("nan")


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
    return Result(first.method, first.label, AVERAGE, metrics, first.id_accuracy)
