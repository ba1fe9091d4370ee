"""Choose a method for a labelled split: plan the comparison, learn prompts for it, run it.

No other split of the store is read but those that are named as foreign.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lsncli.console import ProgressCallback, announcing, duration, silent
from lsncli.detection.calibrate import known_rows
from lsncli.errors import LsnError, UsageError
from lsncli.methods.cache import Cache
from lsncli.methods.heads import Heads, LoadBackbone
from lsncli.methods.holdout import check_held_out, labelled_split
from lsncli.methods.inputs import VocabularyInput, inputs_for
from lsncli.methods.spec import Method
from lsncli.methods.workspace import Workspace
from lsncli.selection.axes import Failures, Prompts, Scope, near, shifted_words, without
from lsncli.selection.choose import WORDS, Choice, choose
from lsncli.selection.folds import KINDS, Fold, class_means, divide, make_folds
from lsncli.selection.methods import comparable, default_methods, kinds_of_prompts
from lsncli.selection.prompts import count_passes, learn_prompts
from lsncli.store.format import Split
from lsncli.store.reader import read_split
from lsncli.types import UNLABELLED, Float64Array

EVERYTHING = Fold("all", ())
"""The fold of the far axis, which leaves no class out."""


@dataclass(frozen=True)
class SelectionPlan:
    """What is compared, on which rows and folds."""

    scope: Scope
    """All classes, without prompts."""
    folds: tuple[Fold, ...]
    methods: Mapping[str, Method]
    """By name, from the simplest."""
    default: str
    far: tuple[Split, ...]
    """The shifted words, if the model has text, and the foreign splits."""
    foreign: bool
    remarks: tuple[str, ...] = ()

    @property
    def every_fold(self) -> tuple[Fold, ...]:
        """The folds, and the one that leaves nothing out if there is a far axis."""
        return (*self.folds, EVERYTHING) if self.far else self.folds

    @property
    def rows(self) -> int:
        """The number of scores to compute, for a progress bar."""
        labels, parts, classes = self.scope.split.labels, self.scope.parts, len(self.scope.split.classes)
        inside = np.bincount(labels[parts.select], minlength=classes)
        every = inside + np.bincount(labels[parts.fit], minlength=classes)
        left_out = np.array([np.isin(np.arange(classes), fold.held_out) for fold in self.folds])
        rows = (~left_out @ inside + left_out @ every).sum()
        if self.far:
            rows += inside.sum() + sum(len(split.labels) for split in self.far)
        return len(self.methods) * int(rows)

    @property
    def passes(self) -> int:
        """The number of text passes to learn prompts, for a progress bar; 0 if no method takes them."""
        if not any(map(kinds_of_prompts, self.methods.values())):
            return 0
        return sum(count_passes(len(self.fit(fold).labels)) for fold in self.every_fold)

    def fit(self, fold: Fold) -> Split:
        """Return the rows to fit on without the classes of ``fold``."""
        return without(self.scope, fold).known(self.scope.parts.fit, fold.kind)

    def leaving_out_prompts(self) -> "SelectionPlan":
        """Return the plan without the methods that take learned prompts."""
        methods = {name: each for name, each in self.methods.items() if not kinds_of_prompts(each)}
        return replace(self, methods=methods)


@dataclass(frozen=True)
class Selection:
    """The choice, the methods that could not be compared, and the plan."""

    choice: Choice
    failed: Failures
    plan: SelectionPlan


def plan_selection(
    work: Workspace,
    names: Sequence[str] = (),
    *,
    split_name: str = "train",
    foreign: Sequence[str] = (),
    prompts: bool | None = None,
    model: LoadBackbone | None = None,
    device: str = "cpu",
    seed: int = 0,
    remark: Callable[[str], None] = lambda text: None,
) -> SelectionPlan:
    """Plan the comparison of the methods ``names``, from the simplest, on a labelled split.

    The first method is the default, which is kept without evidence for another; without names,
    ``default_methods``, with learned ``prompts`` if the workspace has some (None). ``foreign`` names splits
    of images that are of no class. Raises LsnError for fewer than six classes, too few rows or a missing
    split, UsageError for a method that cannot be compared and for foreign images of one of the classes.
    """
    split = labelled_split(work, split_name)
    if split.name in foreign:
        raise UsageError(f"--foreign {split.name}: this is the split of the classes.", "Name another split.")
    rows = known_rows(work, split)
    check_held_out(split, rows)
    parts = divide(rows.where, split.labels, seed=seed)
    heads = Heads(work, split.classes, model, Cache(work.cache), remark=remark)
    folds = make_folds(class_means(split, parts.fit), seed)
    remarks = []
    used = len(parts.fit) + len(parts.select)
    if used < len(rows.where):
        remarks.append(
            f"Compared on {used:,} of the {len(rows.where):,} training rows, as many of each class."
        )
    if prompts is None:
        prompts = work.positive.is_file()
    methods = comparable(names or default_methods(heads, prompts=prompts), heads)
    far: list[Split] = []
    try:
        far.append(shifted_words(heads, split, parts))
    except LsnError as error:
        remarks.append(f"No words on the far axis: {error.message}")
    far += [_foreign_split(work, name, split) for name in foreign]
    scope = Scope(split, parts, heads, tuple(range(len(split.classes))), device=device)
    return SelectionPlan(
        scope,
        folds,
        methods,
        next(iter(methods)),
        tuple(far),
        bool(foreign),
        tuple(remarks),
    )


def _foreign_split(work: Workspace, name: str, split: Split) -> Split:
    """Return the split ``name``. Raises UsageError if it has images of a class of ``split``."""
    found = read_split(work.features, name)
    labelled = [found.classes[label] for label in np.unique(found.labels) if label != UNLABELLED]
    shared = [each for each in labelled if each in split.classes]
    if shared:
        raise UsageError(
            f"--foreign {name}: expected images of no class of {split.name}, found some of '{shared[0]}'.",
            "Name a split of images that belong to none of the classes.",
        )
    return found


class _OverBudget(Exception):
    """Learning takes longer than the budget: the seconds it would take."""


def learn_for(
    plan: SelectionPlan,
    *,
    budget: float | None = None,
    progress: ProgressCallback = silent,
    remark: Callable[[str], None] = lambda text: None,
) -> tuple[SelectionPlan, dict[Fold, Prompts]]:
    """Learn prompts for each fold, without its classes; known ones are in the cache of the workspace.

    ``remark`` is told how long it takes, once that can be measured. If this is more than ``budget`` seconds,
    the plan comes back without methods that take prompts. ``progress`` counts text passes.
    """
    if not plan.passes:
        return plan, {}

    def announce(_left: int, seconds: float) -> None:
        if budget is not None and seconds > budget:
            raise _OverBudget(seconds)
        remark(
            f"Learning prompts without the classes of {len(plan.every_fold)} folds takes about "
            f"{duration(seconds)}; they are kept in the cache of the workspace."
        )

    heads = plan.scope.heads
    left = plan.passes
    measured: ProgressCallback | None = None

    def skip(step: int, note: str = "") -> None:
        nonlocal left
        left -= step
        progress(step, note)

    def count(step: int, note: str = "") -> None:
        nonlocal measured
        measured = measured or announcing(progress, left, announce)  # known prompts come first
        measured(step, note)

    try:
        return plan, {fold: learn_prompts(heads, plan.fit(fold), count, skip) for fold in plan.every_fold}
    except _OverBudget as over:
        remark(
            f"Learned prompts are left out: for {len(plan.every_fold)} folds they take about "
            f"{duration(over.args[0])}, more than the budget."
        )
        return plan.leaving_out_prompts(), {}


def select(
    plan: SelectionPlan,
    prompts: Mapping[Fold, Prompts],
    *,
    budget: float | None = None,
    progress: ProgressCallback = silent,
) -> Selection:
    """Compare the methods on both axes and choose one; a method that fails stops no other.

    Methods whose words take more than ``budget`` seconds to encode are left out, and after the first fold the
    slowest until the rest fits; they are among the failed ones. ``progress`` counts scores. Raises LsnError
    if the default fails.
    """
    failed = {} if budget is None else _too_many_words(plan, budget)
    methods = {name: method for name, method in plan.methods.items() if name not in failed}
    classes = len(plan.scope.split.classes)
    found = {name: np.full((len(KINDS), classes), np.nan) for name in methods}
    for number, fold in enumerate(plan.folds):
        scope = replace(plan.scope, prompts=prompts.get(fold, {}))
        aurocs, seconds = near(scope, fold, methods, failed, progress)
        for name, values in aurocs.items():
            found[name][KINDS.index(fold.kind), list(fold.held_out)] = values
        if number == 0 and budget is not None:
            failed |= _too_slow(seconds, len(plan.every_fold), budget, plan.default)
        methods = {name: method for name, method in methods.items() if name not in failed}
    far: dict[str, dict[str, float]] = {}
    if plan.far:
        words = [key for split in plan.far if split.name == WORDS for key in split.keys]
        scope = replace(plan.scope, banned=tuple(words), prompts=prompts.get(EVERYTHING, {}))
        for name, scores in scope.scores(methods, plan.far, failed, progress).items():
            far[name] = {split.name: scores.auroc(split.name) for split in plan.far}
    if plan.default in failed:
        raise LsnError(f"The default, {plan.default}, could not be compared: {failed[plan.default]}")
    kept: dict[str, Float64Array] = {name: each for name, each in found.items() if name not in failed}
    choice = choose(kept, far, KINDS, default=plan.default, foreign=plan.foreign)
    return Selection(choice, failed, plan)


def _too_many_words(plan: SelectionPlan, budget: float) -> Failures:
    """Return the methods whose words are not encoded yet and would take more than ``budget`` seconds."""
    dropped: Failures = {}
    for name, method in plan.methods.items():
        inputs = inputs_for(method, plan.scope.heads)
        if isinstance(inputs, VocabularyInput) and name != plan.default:
            seconds = inputs.seconds_to_encode()
            if seconds > budget:
                dropped[name] = f"Encoding its words, once for this model, takes about {duration(seconds)}."
    return dropped


def _too_slow(seconds: Mapping[str, float], folds: int, budget: float, default: str) -> Failures:
    """Return the slowest methods, with the reason, until the others take at most ``budget`` seconds."""
    dropped: Failures = {}
    left = sum(seconds.values()) * folds
    for name in sorted(seconds, key=lambda name: -seconds[name]):
        if left <= budget:
            break
        if name != default:
            needed = seconds[name] * folds
            dropped[name] = f"It takes about {duration(needed)}, more than is left of the budget."
            left -= needed
    return dropped
