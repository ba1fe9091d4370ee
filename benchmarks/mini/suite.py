"""The mini benchmark: the paper's small columns and one in place of its large ones, on the mini model.

The class splits of CIFAR10, CIFAR100, CIFAR+10, CIFAR+50 and Tiny-ImageNet are those of ZOC (Esmaeilpour et
al., AAAI 2022), which Table 3 of the LSN paper uses; lsncli.reference.classes holds them by name. Only the
backbone differs from that protocol: 32-pixel images pass the mini model's own transform. ``imagenette``
replaces ImageNet-100: ten classes against textures, nature places and flowers, which are *not* the OOD sets
of the paper.

Rows to learn from (``train``) and to choose settings with (``val``) come from the training images; test rows
are used for the final numbers alone. Settings that need OOD rows are chosen with ``validation``.

The mini model has seen a part of this: its image tower started from ImageNet weights and was trained on 32
of the 48 training images of 180 Tiny-ImageNet classes (zero-shot accuracy 54.6 % on those, 49.4 % on the
other 16, 49.9 % on the validation images). It was trained on no CIFAR image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.mini import store
from lsncli.errors import LsnError, UsageError
from lsncli.reference.classes import OpenSet, open_set, open_sets
from lsncli.store.format import Split
from lsncli.types import FloatArray, Labels, Rows

VAL_FRACTION = 0.25
"""Fraction of the training images of each class that is held out before shots are drawn."""

SHOTS = 128
"""The authors' number. Smaller sets have fewer: 75 images in a class of CIFAR-100, 48 of Imagenette, 36 of
Tiny-ImageNet."""


@dataclass(frozen=True)
class Column:
    """The image sets of one column.

    Other classes of the set ``rest`` are OOD: all that are not ID, or those of the protocol. ``others`` are
    sets that are OOD as a whole, by their names in reports.
    """

    train: str
    test: str
    rest: str = ""
    others: Mapping[str, str] | None = None


COLUMNS: dict[str, Column] = {
    "cifar10": Column("cifar10-train", "cifar10-test", rest="cifar10-test"),
    "cifar100": Column("cifar100-train", "cifar100-test", rest="cifar100-test"),
    "cifar+10": Column("cifar10-train", "cifar10-test", rest="cifar100-test"),
    "cifar+50": Column("cifar10-train", "cifar10-test", rest="cifar100-test"),
    "tinyimagenet": Column("tinyimagenet-train", "tinyimagenet-val", rest="tinyimagenet-val"),
    "imagenette": Column(
        "imagenette-train",
        "imagenette-val",
        others={
            "textures (10 of DTD)": "textures-dtd10",
            "nature places (13 of MiniPlaces)": "places-natural13",
            "flowers (99 of Flowers-102)": "plants-flowers",
        },
    ),
}


def _sides(benchmark: OpenSet) -> dict[str, list[list[str]]]:
    """Return the ``id`` names of every split, and ``ood`` names unless they are the other classes."""
    sides = {"id": [list(split.id_names) for split in benchmark.splits]}
    if benchmark.ood_classes != benchmark.id_classes:
        sides["ood"] = [list(split.ood_names) for split in benchmark.splits]
    return sides


SPLITS = {key: _sides(open_set(key)) for key in open_sets()}


@dataclass(frozen=True, eq=False)
class Task:
    """One split of one column, or one fold of its validation. Features are raw; labels index ``classes``.

    ``train``, ``val`` and ``test_id`` are disjoint. In a validation task ``val`` is empty, and ``test_id``
    and ``test_ood`` hold rows of training images.
    """

    column: str
    split: int
    shots: int
    seed: int
    classes: tuple[str, ...]
    train: Rows
    val: Rows
    test_id: Rows
    test_ood: Mapping[str, FloatArray]


def columns() -> tuple[str, ...]:
    """Return the names of the columns, in the order of reports."""
    return tuple(COLUMNS)


def splits(column: str) -> int:
    """Return the number of splits of a column: five; one of CIFAR+50 and of Imagenette."""
    _known(column)
    return len(SPLITS[column]["id"]) if column in SPLITS else 1


def sets_of(chosen: Sequence[str]) -> tuple[str, ...]:
    """Return the image sets that the columns ``chosen`` need, each once."""
    names: list[str] = []
    for column in chosen:
        spec = _known(column)
        names += [spec.train, spec.test, spec.rest, *(spec.others or {}).values()]
    return tuple(dict.fromkeys(filter(None, names)))


def load(
    column: str, split: int = 0, *, shots: int = SHOTS, seed: int = 0, cache: Path | None = None
) -> Task:
    """Load the split ``split`` (from 0) of ``column`` with at most ``shots`` training rows of each class.

    The rows that are held out and drawn depend on the seed and the class alone: fewer shots are a subset of
    more, and the held-out rows are the same for any number. Raises UsageError for an unknown column or split
    and Unavailable if its features are neither cached nor can be made.
    """
    spec = _known(column)
    if not 0 <= split < splits(column):
        raise UsageError(
            f"Column '{column}' has {splits(column)} splits, found number {split}.", "Count from 0."
        )
    if shots < 1:
        raise UsageError(f"Expected 1 shot or more, found {shots}.")
    cache = cache or store.default_cache()
    train, test = store.read_set(spec.train, cache), store.read_set(spec.test, cache)
    inside = tuple(SPLITS[column]["id"][split]) if column in SPLITS else train.classes
    drawn, held = _draw(train, inside, shots, seed)
    return Task(
        column=column,
        split=split,
        shots=shots,
        seed=seed,
        classes=inside,
        train=_rows(train, inside, drawn),
        val=_rows(train, inside, held),
        test_id=_rows(test, inside, np.arange(len(test.labels))),
        test_ood=_outside(column, spec, split, inside, cache),
    )


def validation(task: Task, fold: int = 0, seed: int = 0) -> Task:
    """Return a task with half of the classes as ID and the other half as OOD, on training images only.

    The train rows of the first half train, its val rows are ID, and the val rows of the second half are OOD.
    Folds 0 and 1 swap the halves; 2 and 3 halve in another way, and so on. Where the number of classes is
    odd, an even fold has the smaller half as ID.
    """
    count = len(task.classes)
    if count < 4 or fold < 0:
        raise UsageError(
            f"Expected a fold from 0 and at least 4 classes, found fold {fold} and {count} classes."
        )
    order = np.random.default_rng([seed, fold // 2]).permutation(count)
    first, second = np.sort(order[: count // 2]), np.sort(order[count // 2 :])
    inside, outside = (first, second) if fold % 2 == 0 else (second, first)
    left_out = task.val.features[np.isin(task.val.labels, outside)]
    return Task(
        column=task.column,
        split=task.split,
        shots=task.shots,
        seed=task.seed,
        classes=tuple(task.classes[label] for label in inside),
        train=_only(task.train, inside),
        val=Rows(task.val.features[:0], task.val.labels[:0]),
        test_id=_only(task.val, inside),
        test_ood={"classes left out": left_out},
    )


def _known(column: str) -> Column:
    if column not in COLUMNS:
        raise UsageError(f"There is no column '{column}'.", f"Expected one of {', '.join(COLUMNS)}.")
    return COLUMNS[column]


def _draw(
    train: Split, names: Sequence[str], shots: int, seed: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the row numbers to train on and to hold out, class by class."""
    drawn, held = [], []
    for name in names:
        label = _label(train, name)
        rows = np.flatnonzero(train.labels == label)
        order = np.random.default_rng([seed, label]).permutation(rows)
        kept = round(VAL_FRACTION * len(rows))
        held.append(order[:kept])
        drawn.append(order[kept:][:shots])
    return np.concatenate(drawn), np.concatenate(held)


def _outside(
    column: str, spec: Column, split: int, inside: Sequence[str], cache: Path
) -> dict[str, FloatArray]:
    if spec.others:
        return {title: store.read_set(name, cache).features for title, name in spec.others.items()}
    rest = store.read_set(spec.rest, cache)
    listed = SPLITS[column].get("ood")
    names = listed[split] if listed else [name for name in rest.classes if name not in inside]
    labels = [_label(rest, name) for name in names]
    return {f"{len(names)} other classes": rest.features[np.isin(rest.labels, labels)]}


def _rows(split: Split, names: Sequence[str], numbers: NDArray[np.intp]) -> Rows:
    """Return those of the rows ``numbers`` that belong to ``names``, labelled by their place in it."""
    chosen = Rows(split.features[numbers], split.labels[numbers])
    return _only(chosen, np.array([_label(split, name) for name in names]))


def _only(rows: Rows, labels: NDArray[np.intp]) -> Rows:
    """Return the rows of ``labels`` (C,), which become 0 ... C - 1 in this order."""
    kept = np.flatnonzero(np.isin(rows.labels, labels))
    place = {int(label): number for number, label in enumerate(labels)}
    renamed: Labels = np.array([place[int(label)] for label in rows.labels[kept]], dtype=np.int32)
    return Rows(rows.features[kept], renamed)


def _label(split: Split, name: str) -> int:
    if name not in split.classes:
        raise LsnError(f"The image set '{split.name}' has no class '{name}'.", "Is it the right tar?")
    return split.classes.index(name)
