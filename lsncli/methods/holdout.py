"""Split labelled rows into training rows, and held-out rows that set the threshold."""

import hashlib
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lsncli.artefacts.prompts import HeldOut
from lsncli.errors import LsnError, UsageError
from lsncli.methods.workspace import Workspace
from lsncli.scores import Score
from lsncli.store.format import Split
from lsncli.store.reader import read_split
from lsncli.types import UNLABELLED, Labels, Rows


@dataclass(frozen=True)
class HoldoutRows:
    """Two disjoint sets of rows of one split, and the rule that gives them again."""

    train: Rows
    held_out: Rows
    rule: HeldOut
    where: NDArray[np.int64]
    """Indices of the rows of ``train`` in the split, ascending."""


def labelled_split(work: Workspace, name: str, *, option: str = "--split") -> Split:
    """Read a split of the workspace that has classes.

    ``option`` names the split on the command line. Raises LsnError for a split that is missing or has no
    classes.
    """
    split = read_split(work.features, name)
    check_labelled(split, option=option)
    return split


def check_labelled(split: Split, *, option: str) -> None:
    """Raise LsnError if ``split``, which ``option`` names, has no classes."""
    if not split.classes:
        raise LsnError(
            f"Split '{split.name}' has no classes.",
            f"Name a labelled split with {option}, or extract a folder with one folder per class.",
        )


def hold_out(split: Split, fraction: float, shots: int | None, seed: int) -> HoldoutRows:
    """Hold out ``fraction`` of each class (at least one row of two or more, never all); train on the rest.

    ``shots`` limits the training rows of each class. The seed and the class alone decide which rows are
    taken, so that positive and negative prompts use the same ones. Unlabelled rows are in neither set.
    Raises LsnError if a class has no row, UsageError for an invalid fraction or number of shots.
    """
    if not 0 < fraction < 1:
        raise UsageError(f"--val-fraction: expected a fraction between 0 and 1, found {fraction}.")
    if shots is not None and shots < 1:
        raise UsageError(f"--shots: expected at least 1, found {shots}.")
    train: list[int] = []
    held_out: list[int] = []
    for label, name in enumerate(split.classes):
        rows = np.flatnonzero(split.labels == label)
        if len(rows) == 0:
            raise LsnError(
                f"Split '{split.name}' has no image of class '{name}' to train on.",
                "Extract images of every class, or remove the empty class folder.",
            )
        order = np.random.default_rng([seed, label]).permutation(rows)
        count = min(len(rows) - 1, max(1, round(fraction * len(rows))))
        held_out.extend(order[:count])
        train.extend(order[count:][:shots])
    rule = HeldOut(split.name, rows_digest(split), fraction, shots, seed)
    where = np.sort(np.array(train, dtype=np.int64))
    rest = np.sort(np.array(held_out, dtype=np.int64))
    return HoldoutRows(_take(split, where), _take(split, rest), rule, where)


def hold_out_again(split: Split, rule: HeldOut) -> HoldoutRows:
    """Return the rows that ``rule`` chose before; LsnError if the split's images or labels have changed."""
    if rows_digest(split) != rule.rows:
        raise LsnError(
            f"Split '{split.name}' holds other images than the positive prompts were trained on.",
            "Run `lsn train-pos` again first.",
        )
    return hold_out(split, rule.fraction, rule.shots, rule.seed)


def check_held_out(split: Split, rows: HoldoutRows) -> None:
    """Raise LsnError if no row is left to set the threshold."""
    if len(rows.held_out) == 0:
        raise LsnError(
            f"Split '{split.name}' has one image per class: none is left to set the threshold.",
            "Extract at least two images of each class.",
        )


def rows_digest(split: Split) -> str:
    """Return the sha256 of classes, keys and labels: equal digests mean that the same rows are held out.

    The listing's digest would not do: imported splits have none, and an image that failed before and can be
    read now adds a row.
    """
    digest = hashlib.sha256("\0".join([*split.classes, "", *split.keys]).encode("utf-8", "surrogateescape"))
    digest.update(split.labels.astype("<i4").tobytes())
    return digest.hexdigest()


def rows_for(score: Score, rows: Rows, split: Split, classes: tuple[str, ...]) -> Rows | None:
    """Return the training ``rows`` of ``split`` for ``score``; None for a score that needs none.

    Their labels index ``classes``; raises as ``labels_as`` does.
    """
    if score.NEEDS.isdisjoint({"train", "labels"}):
        return None
    return Rows(rows.features, labels_as(split, classes, rows.labels))


def labels_as(split: Split, classes: tuple[str, ...], labels: Labels | None = None) -> Labels:
    """Return the split's labels (N,), or ``labels`` of some of its rows, as indices into ``classes``.

    Classes are matched by name; unlabelled rows stay unlabelled. Raises LsnError if the split uses a class
    that is not in ``classes``.
    """
    unknown = [
        name for index, name in enumerate(split.classes) if name not in classes and index in split.labels
    ]
    if unknown:
        raise LsnError(
            f"Split '{split.name}' has {len(unknown)} classes that the prompts do not know, "
            f"such as '{unknown[0]}'.",
            "ID splits must have the classes of the training split; name OOD splits with --ood.",
        )
    table = [classes.index(name) if name in classes else UNLABELLED for name in split.classes]
    lookup = np.array([*table, UNLABELLED], dtype=np.int32)
    indices: Labels = lookup[split.labels if labels is None else labels]
    return indices


def without_rows(split: Split, name: str) -> Split:
    """Return a split with the classes of ``split`` and no rows, under another ``name``."""
    return replace(split, name=name, features=split.features[:0], labels=split.labels[:0], keys=())


def _take(split: Split, index: NDArray[np.int64]) -> Rows:
    return Rows(split.features[index], split.labels[index])
