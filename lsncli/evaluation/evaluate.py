"""Evaluate methods on stored splits: the measures of OOD detection and of ID classification.

Also chooses methods and splits by name.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from lsncli.artefacts.detector import SavedDetector
from lsncli.console import ProgressCallback, silent
from lsncli.detection.calibrate import known_rows
from lsncli.errors import LsnError, UsageError
from lsncli.evaluation.duplicate_groups import leak_warnings
from lsncli.intervals import Interval, bootstrap, delong
from lsncli.methods.cache import Cache
from lsncli.methods.heads import NO_SOFTMAX, Heads, LoadBackbone
from lsncli.methods.holdout import check_labelled, labelled_split, labels_as, without_rows
from lsncli.methods.inputs import NO_IMAGES, ImageAccess
from lsncli.methods.prepared import PreparedMethod, ResourceUse, prepare_method
from lsncli.methods.scoring import load_cached_scores, score_split
from lsncli.methods.spec import Method, method_of
from lsncli.methods.workspace import Workspace
from lsncli.metrics import OodMetrics, accuracy, evaluate_scores
from lsncli.open_set import OpenSetMetrics, open_set_metrics
from lsncli.scores import SCORES, forms_of, load_score
from lsncli.store.format import Split
from lsncli.store.reader import list_splits, read_split
from lsncli.types import UNLABELLED, Labels

TRAIN = "train"
"""The training split if none is named."""

LINEAR_SCORES = ("msp", "maxlogit", "energy")
"""The scores that are also compared on a linear probe."""


def default_methods(work: Workspace, *, rows: bool = True) -> list[str]:
    """Return the quick methods of a workspace, the paper's three first; knn needs training ``rows``."""
    learned = ["mcm:positive"] if work.positive.is_file() else []
    learned += ["lsn"] if work.negative.is_file() else []
    others = ["maxlogit:positive"] if work.positive.is_file() else []
    return ["mcm", *learned, "msp", "maxlogit", *others, "energy", *(["knn"] if rows else [])]


def all_methods(work: Workspace, *, rows: bool = True) -> list[str]:
    """Return every score, in every form, whose needs the workspace meets.

    Without training ``rows``, scores that learn from them are left out.
    """
    names = ["mcm:positive", "maxlogit:positive"] if work.positive.is_file() else []
    for name in SCORES:
        score = load_score(name)
        file = work.head(score.HEAD) if score.HEAD else work.negative if "negative" in score.NEEDS else None
        missing = {"pixels", "candidates"} | (set() if rows else {"train", "labels"})
        if (file is None or file.is_file()) and score.NEEDS.isdisjoint(missing):
            names += [f"{name},form={form}" for form in forms_of(name)] or [name]
    if work.head("linear").is_file():
        names += [f"{name}:linear" for name in LINEAR_SCORES]
    return names


def has_rows(work: Workspace, train_split: str | None) -> bool:
    """Return whether there is a training split: a named one counts as one, else ``TRAIN``."""
    return train_split is not None or TRAIN in list_splits(work.features)


def training_split(work: Workspace, name: str | None, id_split: Split) -> Split:
    """Read the split ``name``; without a name ``TRAIN``, else the classes of the ID split without rows.

    Raises LsnError for a named split that is missing, and for a split without classes.
    """
    if has_rows(work, name):
        return labelled_split(work, name or TRAIN, option="--train")
    check_labelled(id_split, option="--train")
    return without_rows(id_split, TRAIN)


def choose_splits(
    work: Workspace, id_split: str, ood_splits: Sequence[str], train_split: str | None
) -> tuple[Split, list[Split]]:
    """Read the ID split and the OOD splits; without names, all splits but ID and training are OOD.

    Raises LsnError for a missing split, UsageError if no OOD split is left.
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
    """The metrics of one method on one OOD split, or their mean over several; fractions, not percent."""

    method: Method
    label: str
    """The method's name in tables, such as "CoCoOp + LSN"."""
    ood: str
    """The split, ``AVERAGE``, or the name of a group."""
    metrics: OodMetrics
    id_accuracy: float
    """Accuracy of the head's positive prompts on the labelled ID rows; NaN if none is labelled."""
    open_set: OpenSetMetrics
    """Of the labelled ID rows, by the predicted classes."""
    cost: ResourceUse
    """Of fitting and scoring all splits in this run; cached results take no time."""


@dataclass(frozen=True)
class Evaluation:
    """All results, the methods that failed with the reason, and the others with their scores."""

    results: tuple[MethodResult, ...]
    failed: tuple[Failed, ...]
    methods: tuple[PreparedMethod, ...]
    id_split: str
    labelled: NDArray[np.bool_]
    """Which ID rows (N,) have labels."""
    correct: tuple[NDArray[np.bool_], ...]
    """Of each method, which ID rows (N,) have the label that it predicts."""

    def best(self) -> PreparedMethod | None:
        """Return the method with the best average AUROC that a detector can have; None without one."""
        usable = {str(each.method): each for each in self.methods if each.inputs is None or each.inputs.kept}
        ranked = [usable[str(result.method)] for result in self.ranked() if str(result.method) in usable]
        return ranked[0] if ranked else None

    def result_of(self, prepared: PreparedMethod) -> MethodResult:
        """Return the average result of a method over the OOD splits."""
        return [result for result in self.results if result.method is prepared.method][-1]

    def ranked(self) -> list[MethodResult]:
        """Return the results with the best average AUROC first; those of one method stay together."""
        last = {str(result.method): result.metrics.auroc for result in self.results}
        return sorted(self.results, key=lambda result: -last[str(result.method)])


@dataclass(frozen=True)
class EvaluationPlan:
    """The prepared methods, those that failed with the reason, and the splits to score."""

    methods: tuple[PreparedMethod, ...]
    failed: tuple[Failed, ...]
    id_split: Split
    ood_splits: tuple[Split, ...]
    doubts: tuple[str, ...] = ()
    """Reasons to distrust the numbers, a sentence each."""

    @property
    def rows(self) -> int:
        """The number of scores that are not cached, for a progress bar."""
        splits = (self.id_split, *self.ood_splits)
        return sum(len(s.labels) for method in self.methods for s in splits if s.name not in method.scores)


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
    detector: SavedDetector | None = None,
    remark: Callable[[str], None] = lambda text: None,
) -> EvaluationPlan:
    """Prepare each method and load its cached scores; methods that fail are recorded.

    Classes are those of the training split (``training_split``). Scores that learn from rows use those that
    prompts learned from, never those held out. ``model`` is called if a head needs its text tower; ``images``
    are for scores that need pixels; ``keep`` uses the cache of the workspace. The method of ``detector`` is
    evaluated, too, if it is not among ``methods``. ``remark`` is told what takes long.

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
    heads = Heads(work, train.classes, model, cache, rows, remark=remark)
    prepared: list[PreparedMethod] = []
    failed: list[Failed] = []

    def prepare(method: Method) -> None:
        try:
            _check_rows(train, method)
            result = prepare_method(method, heads, rows, train, cache, device, images)
            labels_as(id_split, result.source.classes)
            for split in (id_split, *ood_splits):
                load_cached_scores(result, split, classify=split is id_split)
        except LsnError as error:
            failed.append((method, str(error)))
        else:
            prepared.append(result)

    for method in methods:
        prepare(method)
    if detector is not None and not any(has_method_of(detector, each) for each in prepared):
        prepare(method_of(detector.method, detector.head_name, detector.settings))
    doubts = [text for method in prepared for text in _trained_on(method, (id_split, *ood_splits))]
    doubts += leak_warnings(train, id_split, ood_splits, cache)
    return EvaluationPlan(tuple(prepared), tuple(failed), id_split, tuple(ood_splits), tuple(doubts))


def has_method_of(detector: SavedDetector, prepared: PreparedMethod) -> bool:
    """Return whether a detector has the score, the head and the settings of a method in its workspace."""
    return (detector.method, detector.head_name, detector.settings) == (
        prepared.method.score,
        prepared.method.head,
        prepared.resolved.settings,
    )


def _check_not_tested_on(train: Split, methods: Sequence[Method], tested: Sequence[Split]) -> None:
    learners = [str(method) for method in methods if method.learns_from_rows]
    if learners and train.name in [split.name for split in tested]:
        raise UsageError(
            f"--train {train.name}: {', '.join(learners)} would be tested on the rows that it learns from.",
            "Name another labelled split with --train, or other methods.",
        )


def _trained_on(prepared: PreparedMethod, tested: Sequence[Split]) -> list[str]:
    """Return a sentence for each tested split that the prompts or the head of a method learned from."""
    method = prepared.method
    names = prepared.heads.learned_from(method.head, negatives="negative" in method.needs)
    return [
        f"{method} is tested on split '{split.name}', which its prompts or its head learned from: its "
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


Groups = Mapping[str, Sequence[str]]
"""OOD splits by the name of their group, such as near and far."""
NO_GROUPS: Groups = MappingProxyType({})


def check_groups(groups: Groups, ood_splits: Sequence[Split]) -> None:
    """Raise UsageError for a group of splits that are not all among the evaluated ones."""
    names = [split.name for split in ood_splits]
    for group, members in groups.items():
        strange = [name for name in members if name not in names]
        if strange or len(set(members)) < len(members):
            raise UsageError(
                f"--group {group}: expected different OOD splits of this evaluation, found "
                f"{', '.join(strange or members)}.",
                f"The OOD splits are {', '.join(names)}.",
            )


def evaluate(
    plan: EvaluationPlan, progress: ProgressCallback = silent, groups: Groups = NO_GROUPS
) -> Evaluation:
    """Score the splits that are not cached, and compute the metrics; a method that fails stops no other.

    The results of a method are those on each OOD split, the mean of each of ``groups`` and, if there are
    several splits, the average of all. ``progress`` counts scores.
    """
    failed = list(plan.failed)
    methods = list(plan.methods)
    for split in (plan.id_split, *plan.ood_splits):
        methods = score_split(methods, split, failed, progress, classify=split is plan.id_split)
    name, labels = plan.id_split.name, [labels_as(plan.id_split, method.source.classes) for method in methods]
    results = [
        _results(method, name, own, plan.ood_splits, groups)
        for method, own in zip(methods, labels, strict=True)
    ]
    correct = [own == method.predictions[name] for method, own in zip(methods, labels, strict=True)]
    return Evaluation(
        results=tuple(chain(*results)),
        failed=tuple(failed),
        methods=tuple(methods),
        id_split=name,
        labelled=plan.id_split.labels != UNLABELLED,
        correct=tuple(correct),
    )


def _results(
    prepared: PreparedMethod, id_split: str, labels: Labels, ood_splits: Sequence[Split], groups: Groups
) -> list[MethodResult]:
    inside, predictions = prepared.scores[id_split], prepared.predictions[id_split]
    softmax = prepared.method.head not in NO_SOFTMAX
    confidences = prepared.confidences[id_split] if softmax else None
    results = [
        MethodResult(
            prepared.method,
            prepared.resolved.label,
            split.name,
            evaluate_scores(inside, prepared.scores[split.name]),
            id_accuracy(labels, predictions),
            open_set_metrics(inside, prepared.scores[split.name], labels, predictions, confidences),
            prepared.cost,
        )
        for split in ood_splits
    ]
    means = [
        average([result for result in results if result.ood in members], group_title(group))
        for group, members in groups.items()
    ]
    return [*results, *means, *([average(results)] if len(results) > 1 else [])]


def group_title(group: str) -> str:
    """Return the name of a group among OOD splits, which no split can have."""
    return f"{group} (mean)"


def intervals_of(evaluation: Evaluation, result: MethodResult, kind: str | None) -> dict[str, Interval]:
    """Return 95% intervals: ``delong`` of AUROC, ``bootstrap`` of all metrics; none of a mean of splits."""
    scores = next(each.scores for each in evaluation.methods if each.method is result.method)
    if kind is None or result.ood not in scores:
        return {}
    inside, outside = scores[evaluation.id_split], scores[result.ood]
    return {"auroc": delong(inside, outside)} if kind == "delong" else bootstrap(inside, outside)


def id_accuracy(labels: Labels, predictions: Labels) -> float:
    """Return the fraction of labelled rows with a correct prediction, both (N,); NaN without labels."""
    labelled = labels != UNLABELLED
    return accuracy(labels[labelled], predictions[labelled]) if labelled.any() else float("nan")


def average(results: Sequence[MethodResult], name: str = AVERAGE) -> MethodResult:
    """Return the unweighted mean over OOD splits, as in the paper's tables; NaN where a value is NaN."""
    metrics, open_set = [result.metrics for result in results], [result.open_set for result in results]

    def means(values: Sequence[OodMetrics] | Sequence[OpenSetMetrics]) -> dict[str, float]:
        names = [one.name for one in fields(values[0]) if one.type is float]
        return {name: float(np.mean([getattr(value, name) for value in values])) for name in names}

    return replace(
        results[0],
        ood=name,
        metrics=replace(metrics[0], **means(metrics), n_ood=sum(one.n_ood for one in metrics)),  # type: ignore[arg-type]
        open_set=replace(open_set[0], **means(open_set)),  # type: ignore[arg-type]
    )
