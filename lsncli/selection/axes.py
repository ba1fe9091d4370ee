"""The two axes: AUROC of each method on classes that are left out (near), and on words or a split (far).

Everything that knows a class is made again without it: text features, training rows, learned prompts and
words, of which none may spell the class.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from lsncli.artefacts.prompts import LearnedPrompts
from lsncli.console import ProgressCallback, silent
from lsncli.errors import LsnError
from lsncli.methods.cache import NO_CACHE
from lsncli.methods.heads import Heads
from lsncli.methods.inputs import NO_IMAGES
from lsncli.methods.prepared import PreparedMethod, prepare_method
from lsncli.methods.scoring import score_split
from lsncli.methods.spec import Method
from lsncli.methods.text_recipes import TEMPLATE
from lsncli.methods.word_selection import stems_of
from lsncli.metrics import auroc
from lsncli.prompts.settings import Kind
from lsncli.reference.classes import class_list
from lsncli.selection.choose import WORDS
from lsncli.selection.folds import Fold, Indices, Parts, take
from lsncli.store.format import Split
from lsncli.types import UNLABELLED, Float64Array, unit

Prompts = Mapping[Kind, LearnedPrompts]
Failures = dict[str, str]
"""Methods that could not be compared, with the reason."""

FIT, INSIDE, OUTSIDE = "rows to fit on", "rows to compare on", "classes left out"
"""Names of splits that no stored split can have."""


@dataclass(frozen=True)
class Scores:
    """The scores of one method: of the ID rows to compare on, and of other rows by split."""

    inside: Float64Array
    by_split: Mapping[str, Float64Array]
    seconds: float

    def auroc(self, split: str) -> float:
        """Return the AUROC of the ID rows against all rows of ``split``."""
        return auroc(self.inside, self.by_split[split])


@dataclass(frozen=True)
class Scope:
    """What methods may know: some of the classes, and the rows of a split to fit on and to compare on."""

    split: Split
    parts: Parts
    heads: Heads
    """The heads of all classes, for text features."""
    classes: tuple[int, ...]
    """The numbers of the known classes."""
    banned: tuple[str, ...] = ()
    """Names that no vocabulary may hold."""
    prompts: Prompts = field(default_factory=dict)
    """Prompts learned from the rows to fit on, of these classes, alone."""
    device: str = "cpu"

    def known(self, rows: Indices, name: str) -> Split:
        """Return those of ``rows`` that have a known class, as a split."""
        return take(self.split, rows[np.isin(self.split.labels[rows], self.classes)], self.classes, name)

    def scores(
        self,
        methods: Mapping[str, Method],
        outside: Sequence[Split],
        failed: Failures,
        progress: ProgressCallback = silent,
    ) -> dict[str, Scores]:
        """Return the scores of each method that does not fail; the others are added to ``failed``.

        ``methods`` are adapted to the workspace (``methods.spec.adapted``), by the names that users gave.
        """
        fit = self.known(self.parts.fit, FIT)
        heads = replace(
            self.heads,
            classes=fit.classes,
            rows=fit.rows,
            whole=self.heads,
            banned=self.banned,
            prompts=self.prompts,
        )
        prepared: list[PreparedMethod] = []
        names: dict[str, str] = {}
        for name, method in methods.items():
            names[str(method)] = name
            try:
                one = prepare_method(method, heads, fit.rows, fit, NO_CACHE, self.device, NO_IMAGES)
            except LsnError as error:
                failed.setdefault(name, str(error))
            else:
                prepared.append(one)
        reasons: list[tuple[Method, str]] = []
        for part in (self.known(self.parts.select, INSIDE), *outside):
            prepared = score_split(prepared, part, reasons, progress, classify=False)
        for method, reason in reasons:
            failed.setdefault(names[str(method)], reason)
        return {
            names[str(each.method)]: Scores(each.scores[INSIDE], each.scores, each.cost.seconds)
            for each in prepared
        }


def without(scope: Scope, fold: Fold) -> Scope:
    """Return the scope without the classes of ``fold``; its prompts stay as they are."""
    count = len(scope.split.classes)
    return replace(
        scope,
        classes=tuple(label for label in range(count) if label not in fold.held_out),
        banned=tuple(scope.split.classes[label] for label in fold.held_out),
    )


def near(
    scope: Scope,
    fold: Fold,
    methods: Mapping[str, Method],
    failed: Failures,
    progress: ProgressCallback = silent,
) -> tuple[dict[str, Float64Array], dict[str, float]]:
    """Return the AUROC of ID rows against each class that ``fold`` leaves out, and the seconds, by method.

    ``scope`` has the prompts of the fold. All training rows of a class that is left out are compared.
    """
    labels = scope.split.labels
    rows = np.sort(np.concatenate([scope.parts.fit, scope.parts.select]))
    outside = take(scope.split, rows[np.isin(labels[rows], fold.held_out)], fold.held_out, OUTSIDE)
    scores = without(scope, fold).scores(methods, [outside], failed, progress)
    by_class = [outside.labels == place for place in range(len(fold.held_out))]
    aurocs = {
        name: np.array([auroc(each.inside, each.by_split[OUTSIDE][rows]) for rows in by_class])
        for name, each in scores.items()
    }
    return aurocs, {name: each.seconds for name, each in scores.items()}


def shifted_words(heads: Heads, split: Split, parts: Parts) -> Split:
    """Return ImageNet's class names as features of images that are no class, every second name.

    Text features lie in a cone of their own, where any score tells them apart. They are shifted by the mean
    image feature of the rows to fit on less the mean text feature of the classes (Park et al., NeurIPS 2023,
    use text as outliers for training). Names that spell a class, or share a word with one, are left out.
    Raises LsnError for a model without a text encoder.
    """
    stems = {word for name in split.classes for word in stems_of(name)}
    names = [name for name in class_list("imagenet1k").names if stems.isdisjoint(stems_of(name))][::2]
    text = heads.word_encoder([[TEMPLATE.format(name)] for name in names])
    gap = unit(split.features[parts.fit]).mean(axis=0) - heads.text("hand").mean(axis=0)
    labels = np.full(len(names), UNLABELLED, dtype=np.int32)
    return Split(WORDS, unit(text) + gap, labels, names)
