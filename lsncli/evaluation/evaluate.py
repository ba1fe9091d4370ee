"""Compare methods on stored splits: FPR95, AUROC, AUPR and ID accuracy, ID against each OOD split.

Also selects methods and splits by name, and writes the scores themselves: one row an image, one column a
method.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np

from lsncli.console import ProgressCallback, silent
from lsncli.detection.calibrate import known_rows
from lsncli.errors import LsnError, UsageError
from lsncli.files import whole, whole_text
from lsncli.intervals import Interval, bootstrap, delong
from lsncli.methods.cache import Cache
from lsncli.methods.heads import Heads, LoadBackbone
from lsncli.methods.holdout import check_labelled, labelled_split, labels_as, without_rows
from lsncli.methods.inputs import NO_IMAGES, ImageAccess
from lsncli.methods.prepared import PreparedMethod, ResourceUse, prepare_method
from lsncli.methods.scoring import load_cached_scores, score_split
from lsncli.methods.spec import Method
from lsncli.methods.workspace import Workspace
from lsncli.metrics import OodMetrics, accuracy, evaluate_scores
from lsncli.scores import SCORES, forms_of, load_score
from lsncli.store.format import Split
from lsncli.store.reader import list_splits, read_split
from lsncli.types import UNLABELLED, Labels

TRAIN = "train"
"""The training split where none is named."""

LINEAR_SCORES = ("msp", "maxlogit", "energy")
"""What is compared on a linear probe beside the prompts' own scores."""


def default_methods(work: Workspace, *, rows: bool = True) -> list[str]:
    """What can be compared in this workspace at once, the paper's three first; knn with training ``rows``."""
    learned = ["mcm:positive"] if work.positive.is_file() else []
    learned += ["lsn"] if work.negative.is_file() else []
    return ["mcm", *learned, "msp", "maxlogit", "energy", *(["knn"] if rows else [])]


def all_methods(work: Workspace, *, rows: bool = True) -> list[str]:
    """Every score that this store and what was learned in it are enough for, in every form.

    Without training ``rows`` no score that learns from them.
    """
    found = ["mcm:positive", "maxlogit:positive"] if work.positive.is_file() else []
    for name in SCORES:
        score = load_score(name)
        own = work.head(score.HEAD) if score.HEAD else work.negative if "negative" in score.NEEDS else None
        missing = {"pixels", "candidates"} | (set() if rows else {"train", "labels"})
        if (own is None or own.is_file()) and score.NEEDS.isdisjoint(missing):
            found += [f"{name},form={form}" for form in forms_of(name)] or [name]
    if work.head("linear").is_file():
        found += [f"{name}:linear" for name in LINEAR_SCORES]
    return found


def has_rows(work: Workspace, train_split: str | None) -> bool:
    """Whether there is a training split, which may have any name if it is named."""
    return train_split is not None or TRAIN in list_splits(work.features)


def training_split(work: Workspace, name: str | None, id_split: Split) -> Split:
    """Read the split ``name``; without a name ``TRAIN``, or the classes of the ID split if there is none.

    Raises LsnError for a named split that is missing, and where no classes are known.
    """
    if has_rows(work, name):
        return labelled_split(work, name or TRAIN, option="--train")
    check_labelled(id_split, option="--train")
    return without_rows(id_split, TRAIN)


def choose_splits(
    work: Workspace, id_split: str, ood_splits: Sequence[str], train_split: str | None
) -> tuple[Split, list[Split]]:
    """Read the ID split and the OOD splits; without names, every split but ID and training is OOD.

    Raises LsnError for a split that is not there, UsageError if no OOD split is left.
    """
    names = list(list_splits(work.features))
    chosen = list(dict.fromkeys(ood_splits)) or [
        name for name in names if name not in (id_split, train_split or TRAIN)
    ]
    if not chosen or id_split in chosen:
        raise UsageError(
            f"--ood: expected splits other than '{id_split}', found {', '.join(chosen) or 'none'}.",
            f"The store holds {', '.join(names)}; add one with `lsn extract ./other --split NAME`.",
        )
    return read_split(work.features, id_split), [read_split(work.features, name) for name in chosen]


AVERAGE = "average"

Failed = tuple[Method, str]
"""A method and why it could not be evaluated."""


@dataclass(frozen=True)
class MethodResult:
    """One method on one OOD split (or the average over them); fractions, not percent."""

    method: Method
    label: str
    """What a table calls the method here, such as "CoCoOp + LSN"."""
    ood: str
    metrics: OodMetrics
    id_accuracy: float
    """Accuracy of the head's positive prompts on the labelled ID rows; NaN if none is labelled."""
    cost: ResourceUse
    """Of learning and scoring all splits in this run; no seconds for what was known."""


@dataclass(frozen=True)
class Evaluation:
    """All results, the methods that could not be evaluated with the reason, and what the others scored."""

    results: tuple[MethodResult, ...]
    failed: tuple[Failed, ...]
    methods: tuple[PreparedMethod, ...]
    id_split: str

    def ranked(self) -> list[MethodResult]:
        """The results with the best average AUROC first; those of one method stay together."""
        last = {str(one.method): one.metrics.auroc for one in self.results}
        return sorted(self.results, key=lambda one: -last[str(one.method)])


@dataclass(frozen=True)
class EvaluationPlan:
    """What is to be scored: methods that are ready, those that cannot be, and the splits."""

    methods: tuple[PreparedMethod, ...]
    failed: tuple[Failed, ...]
    id_split: Split
    ood_splits: tuple[Split, ...]
    doubts: tuple[str, ...] = ()
    """What speaks against the numbers, a sentence each."""

    @property
    def rows(self) -> int:
        """How many scores are not known yet, for a progress bar."""
        splits = (self.id_split, *self.ood_splits)
        return sum(len(s.labels) for one in self.methods for s in splits if s.name not in one.scores)


def plan_evaluation(
    work: Workspace,
    methods: Sequence[Method],
    id_split: Split,
    ood_splits: Sequence[Split],
    train_split: str | None,
    *,
    model: LoadBackbone | None = None,
    device: str = "cpu",
    images: ImageAccess = NO_IMAGES,
    keep: bool = True,
) -> EvaluationPlan:
    """Make every method ready and look up what is known of it; a method that fails is noted.

    Classes are those of the training split, which ``selection.training_split`` reads. Scores that learn from
    rows see those that prompts learned from, never those held out. ``model`` is asked for if a head needs its
    text tower; ``images`` are for scores that look at pixels; ``keep`` uses the cache of the workspace.

    Raises LsnError if the ID split has other classes or a split has no rows, UsageError if a score would be
    tested on rows that it learns from.
    """
    train = training_split(work, train_split, id_split)
    _check_not_tested_on(train, methods, (id_split, *ood_splits))
    for split in (id_split, *ood_splits):
        if len(split.labels) == 0:
            raise LsnError(f"Split '{split.name}' has no rows.", "Extract it again; see `lsn store info`.")
    labels_as(id_split, train.classes)
    cache = Cache(work.cache if keep else None)
    # A store without a training split is enough for most methods; they get no rows.
    rows = known_rows(work, train).train if len(train.labels) else train.rows
    heads = Heads(work, train.classes, model, cache, rows)
    ready: list[PreparedMethod] = []
    failed: list[Failed] = []
    for method in methods:
        try:
            _check_rows(train, method)
            one = prepare_method(method, heads, rows, train, cache, device, images)
            labels_as(id_split, one.source.classes)
            for split in (id_split, *ood_splits):
                load_cached_scores(one, split, classify=split is id_split)
        except LsnError as error:
            failed.append((method, str(error)))
            continue
        ready.append(one)
    doubts = [text for one in ready for text in _trained_on(one, (id_split, *ood_splits))]
    return EvaluationPlan(tuple(ready), tuple(failed), id_split, tuple(ood_splits), tuple(doubts))


def _check_not_tested_on(train: Split, methods: Sequence[Method], tested: Sequence[Split]) -> None:
    learners = [str(method) for method in methods if method.learns_from_rows]
    if learners and train.name in [split.name for split in tested]:
        raise UsageError(
            f"--train {train.name}: {', '.join(learners)} would be tested on the rows that it learns from.",
            "Name another labelled split with --train, or other methods.",
        )


def _trained_on(one: PreparedMethod, tested: Sequence[Split]) -> list[str]:
    """A sentence for every tested split that the prompts or the head of a method learned from."""
    names = one.heads.learned_from(one.method.head, negatives="negative" in one.method.needs)
    return [
        f"{one.method} is tested on split '{split.name}', which its prompts or its head learned from: its "
        "numbers are too good."
        for split in tested
        if split.name in names
    ]


def _check_rows(train: Split, method: Method) -> None:
    if method.learns_from_rows and not len(train.labels):
        raise LsnError(
            f"The score '{method.score}' needs training rows, and the store has no split '{train.name}'.",
            "Name a labelled split with --train, or add one with `lsn extract FOLDER --split train` or "
            "`lsn store import FILE --model NAME --split train`.",
        )


def evaluate(plan: EvaluationPlan, progress: ProgressCallback = silent) -> Evaluation:
    """Score what is not known yet, and measure. A method that fails is reported and the others go on.

    ``progress`` counts every score.
    """
    failed = list(plan.failed)
    methods = list(plan.methods)
    for split in (plan.id_split, *plan.ood_splits):
        methods = score_split(methods, split, failed, progress, classify=split is plan.id_split)
    found = [_results(one, plan.id_split, plan.ood_splits) for one in methods]
    return Evaluation(tuple(chain(*found)), tuple(failed), tuple(methods), plan.id_split.name)


def _results(one: PreparedMethod, id_split: Split, ood_splits: Sequence[Split]) -> list[MethodResult]:
    """On each OOD split, and the average if there are several."""
    inside = one.scores[id_split.name]
    right = id_accuracy(labels_as(id_split, one.source.classes), one.predictions[id_split.name])
    found = [
        MethodResult(
            one.method,
            one.resolved.label,
            split.name,
            evaluate_scores(inside, one.scores[split.name]),
            right,
            one.cost,
        )
        for split in ood_splits
    ]
    return [*found, average(found)] if len(found) > 1 else found


def intervals_of(found: Evaluation, result: MethodResult, kind: str | None) -> dict[str, Interval]:
    """95% intervals: ``delong`` of AUROC, ``bootstrap`` of every metric; none of an average."""
    if kind is None or result.ood == AVERAGE:
        return {}
    scores = next(one.scores for one in found.methods if one.method is result.method)
    inside, outside = scores[found.id_split], scores[result.ood]
    return {"auroc": delong(inside, outside)} if kind == "delong" else bootstrap(inside, outside)


def id_accuracy(labels: Labels, predictions: Labels) -> float:
    """Fraction of labelled rows (N,) whose class was guessed; NaN if none is labelled."""
    known = labels != UNLABELLED
    return accuracy(labels[known], predictions[known]) if known.any() else float("nan")


def average(results: Sequence[MethodResult]) -> MethodResult:
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
    return replace(first, ood=AVERAGE, metrics=metrics)


def check_target(path: Path) -> None:
    """UsageError unless scores can be written in the format that the name of the file asks for."""
    if path.suffix not in WRITERS:
        raise UsageError(
            f"--save-scores {path}: expected a file named {' or '.join('*' + end for end in WRITERS)}."
        )


def save_scores(path: Path, methods: Sequence[PreparedMethod], splits: Sequence[Split]) -> None:
    """Scores in float64, higher = more ID, of every row of ``splits`` by every method.

    ``.csv`` has the columns split, key, class and one a method; ``.npz`` the arrays ``split``, ``key`` and
    one a method. Raises LsnError if the file cannot be written.
    """
    check_target(path)
    try:
        WRITERS[path.suffix](path, methods, splits)
    except OSError as error:
        raise LsnError(f"--save-scores {path} cannot be written: {error.strerror}.") from error


def _csv(path: Path, methods: Sequence[PreparedMethod], splits: Sequence[Split]) -> None:
    with whole_text(path, errors="surrogateescape") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["split", "key", "class", *(str(one.method) for one in methods)])
        for split in splits:
            names = np.array([*split.classes, ""], dtype=object)[split.labels]
            columns = [one.scores[split.name].tolist() for one in methods]
            for key, name, *values in zip(split.keys, names, *columns, strict=True):
                rows.writerow([split.name, key, name, *map(repr, values)])


def _npz(path: Path, methods: Sequence[PreparedMethod], splits: Sequence[Split]) -> None:
    arrays = {str(one.method): np.concatenate([one.scores[s.name] for s in splits]) for one in methods}
    places = np.repeat([split.name for split in splits], [len(split.labels) for split in splits])
    keys = np.array([key.encode("utf-8", "surrogateescape") for split in splits for key in split.keys])
    with whole(path) as file:
        np.savez(file, **({"split": places, "key": keys} | arrays))  # type: ignore[arg-type]


WRITERS = {".csv": _csv, ".npz": _npz}
