"""The mini benchmark's tasks: the protocol's splits, rows that never meet, validation without a test row."""

import json
import os
from functools import cache as cache_of_calls
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from mini_samples import write_store

from benchmarks.mini import store, suite
from benchmarks.mini.suite import COLUMNS, SPLITS, columns, load, sets_of, splits, validation
from lsncli.errors import LsnError, UsageError
from lsncli.images.class_names import class_names
from lsncli.images.listing import list_images
from lsncli.reference.classes import open_sets
from lsncli.store.format import Split

IMAGES = os.environ.get("LSN_IMAGES", "")
ALL = [(column, split) for column in columns() for split in range(splits(column))]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mini-bench")
    write_store(folder)
    return folder


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real listings in place of features: every image is a row, its number the only feature."""
    needed = [f"{name}.tar" for name in store.SETS]
    if not IMAGES or not all((Path(IMAGES) / name).is_file() for name in needed):
        pytest.skip(f"LSN_IMAGES must name a folder with {', '.join(needed)}: real counts are NOT checked")

    monkeypatch.setattr(store, "read_set", listed)


@cache_of_calls
def listed(name: str, cache: Path) -> Split:
    listing = list_images([Path(IMAGES) / f"{name}.tar"])
    labels = np.array([item.label for item in listing.items], dtype=np.int32)
    numbers = np.arange(1, len(labels) + 1, dtype=np.float64)[:, None]
    keys = tuple(item.key for item in listing.items)
    return Split(name, numbers, labels, keys, class_names(listing.folders, None))


def rows_of(features: np.ndarray) -> set[bytes]:
    return {row.tobytes() for row in features}


def test_the_columns_are_those_of_table_3_and_a_stand_in() -> None:
    assert columns() == ("cifar10", "cifar100", "cifar+10", "cifar+50", "tinyimagenet", "imagenette")
    assert [splits(column) for column in columns()] == [5, 5, 5, 1, 5, 1]


def test_the_splits_are_zocs() -> None:
    assert [len(names) for names in SPLITS["cifar10"]["id"]] == [6] * 5
    twenties = SPLITS["cifar100"]["id"]
    assert [len(names) for names in twenties] == [20] * 5
    assert [name for names in twenties for name in names] == sorted({n for names in twenties for n in names})
    assert all(names == sorted(names) for names in twenties)  # split k is the k-th twenty of the alphabet
    assert all(names == ["airplane", "automobile", "ship", "truck"] for names in SPLITS["cifar+10"]["id"])
    assert SPLITS["cifar+50"]["id"] == SPLITS["cifar+10"]["id"][:1]
    assert [len(names) for names in SPLITS["cifar+10"]["ood"]] == [10] * 5
    assert [len(names) for names in SPLITS["cifar+50"]["ood"]] == [50]
    assert [len(names) for names in SPLITS["tinyimagenet"]["id"]] == [20] * 5
    for sides in SPLITS.values():
        for names in (names for lists in sides.values() for names in lists):
            assert len(set(names)) == len(names)
            assert not any("_" in name for name in names)


def test_the_ten_of_cifar_plus_10_are_animals_of_the_fifty_or_man_and_woman() -> None:
    fifty = set(SPLITS["cifar+50"]["ood"][0])
    strays = {name for names in SPLITS["cifar+10"]["ood"] for name in names} - fifty
    vehicles = {"bicycle", "bus", "motorcycle", "pickup truck", "streetcar", "tank", "tractor", "train"}
    assert not (fifty | strays) & vehicles


@pytest.mark.usefixtures("counted")
def test_real_test_sets_have_the_protocols_counts() -> None:
    expected = {
        "cifar10": (6000, [4000]),
        "cifar100": (2000, [8000]),
        "cifar+10": (4000, [1000]),
        "cifar+50": (4000, [5000]),
        "tinyimagenet": (1000, [9000]),
        "imagenette": (600, [800, 1300, 990]),
    }
    there = {"cifar10-train": 750, "cifar100-train": 75, "tinyimagenet-train": 36, "imagenette-train": 48}
    for column, (inside, outside) in expected.items():
        for split in {0, splits(column) - 1}:
            task = load(column, split, cache=Path())
            assert len(task.test_id) == inside
            assert [len(features) for features in task.test_ood.values()] == outside
            shots = min(suite.SHOTS, there[COLUMNS[column].train])
            assert np.bincount(task.train.labels).tolist() == [shots] * len(task.classes)


@pytest.mark.usefixtures("counted")
def test_real_class_names_are_written_as_a_person_would() -> None:
    assert load("cifar10", 0, cache=Path()).classes[1] == "automobile"
    assert "golf ball" in load("imagenette", 0, cache=Path()).classes
    assert "German shepherd" in load("tinyimagenet", 0, cache=Path()).classes
    assert "aquarium fish" in load("cifar100", 0, cache=Path()).classes


@pytest.mark.parametrize(("column", "split"), ALL)
def test_train_validation_and_test_rows_never_meet(cache: Path, column: str, split: int) -> None:
    task = load(column, split, shots=3, cache=cache)
    parts = [rows_of(part.features) for part in (task.train, task.val, task.test_id)]
    parts += [rows_of(features) for features in task.test_ood.values()]
    assert sum(map(len, parts)) == len(set().union(*parts))
    assert np.bincount(task.train.labels).tolist() == [3] * len(task.classes)
    assert np.bincount(task.val.labels).tolist() == [2] * len(task.classes)


@pytest.mark.parametrize(("column", "split"), ALL)
def test_labels_say_which_class_a_row_is_of(cache: Path, column: str, split: int) -> None:
    task = load(column, split, shots=3, cache=cache)
    for source, rows in ((COLUMNS[column].train, task.train), (COLUMNS[column].test, task.test_id)):
        whole = store.read_set(source, cache)
        named = {
            row.tobytes(): whole.classes[label]
            for row, label in zip(whole.features, whole.labels, strict=True)
        }
        assert [named[row.tobytes()] for row in rows.features] == [task.classes[k] for k in rows.labels]


@pytest.mark.parametrize("column", ["cifar10", "cifar100", "tinyimagenet"])
def test_every_test_image_is_either_id_or_ood(cache: Path, column: str) -> None:
    task = load(column, 1, cache=cache)
    (outside,) = task.test_ood.values()
    assert rows_of(task.test_id.features) | rows_of(outside) == rows_of(
        store.read_set(COLUMNS[column].test, cache).features
    )


def test_fewer_shots_are_a_subset_and_hold_out_the_same(cache: Path) -> None:
    tasks = [load("cifar100", 2, shots=shots, seed=1, cache=cache) for shots in (1, 2, 5, 100)]
    for fewer, more in pairwise(tasks):
        assert rows_of(fewer.train.features) < rows_of(more.train.features) or fewer.shots == 5
        assert fewer.val.features.tobytes() == more.val.features.tobytes()
    assert len(tasks[-1].train) == 6 * 20  # all that are not held out


def test_the_seed_decides_which_rows(cache: Path) -> None:
    same, again, other = (load("cifar10", 0, shots=2, seed=seed, cache=cache) for seed in (0, 0, 1))
    assert same.train.features.tobytes() == again.train.features.tobytes()
    assert same.train.features.tobytes() != other.train.features.tobytes()
    assert same.val.features.tobytes() != other.val.features.tobytes()
    assert same.test_id.features.tobytes() == other.test_id.features.tobytes()


@pytest.mark.parametrize(("column", "split"), ALL)
@pytest.mark.parametrize("fold", [0, 1, 2])
def test_a_validation_fold_holds_training_images_only(
    cache: Path, column: str, split: int, fold: int
) -> None:
    task = load(column, split, shots=3, cache=cache)
    inner = validation(task, fold)
    used = [inner.train.features, inner.test_id.features, *inner.test_ood.values()]
    train_images = rows_of(store.read_set(COLUMNS[column].train, cache).features)
    assert all(rows_of(features) <= train_images for features in used)
    assert rows_of(inner.train.features) <= rows_of(task.train.features)
    (outside,) = inner.test_ood.values()
    assert rows_of(inner.test_id.features) | rows_of(outside) == rows_of(task.val.features)
    assert not rows_of(inner.test_id.features) & rows_of(outside)
    assert len(inner.classes) == len(task.classes) // 2
    assert set(inner.classes) < set(task.classes)


def test_a_validation_fold_keeps_labels_and_leaves_no_class_half_out(cache: Path) -> None:
    task = load("cifar10", 0, shots=3, cache=cache)
    names = {
        row.tobytes(): task.classes[label]
        for rows in (task.train, task.val)
        for row, label in zip(rows.features, rows.labels, strict=True)
    }
    inner = validation(task, 0)
    for rows in (inner.train, inner.test_id):
        assert [names[row.tobytes()] for row in rows.features] == [inner.classes[k] for k in rows.labels]
    outside = {names[row.tobytes()] for row in inner.test_ood["classes left out"]}
    assert outside == set(task.classes) - set(inner.classes)


def test_folds_0_and_1_swap_sides_and_2_halves_anew(cache: Path) -> None:
    task = load("cifar100", 0, shots=2, cache=cache)
    first, second, third = (set(validation(task, fold).classes) for fold in range(3))
    assert first | second == set(task.classes)
    assert not first & second
    assert third not in (first, second)
    assert set(validation(task, 0, seed=1).classes) != first


def test_a_column_names_the_sets_it_needs() -> None:
    assert sets_of(["cifar+10", "cifar10"]) == ("cifar10-train", "cifar10-test", "cifar100-test")
    assert len(sets_of(["imagenette"])) == 5
    assert set(sets_of(columns())) == set(store.SETS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"column": "svhn"}, "no column 'svhn'"),
        ({"column": "cifar+50", "split": 1}, "1 splits, found number 1"),
        ({"column": "cifar10", "shots": 0}, "1 shot or more"),
    ],
)
def test_what_cannot_be_meant_is_refused(cache: Path, arguments: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load(**arguments, cache=cache)


def test_a_fold_needs_classes_to_leave_out(cache: Path) -> None:
    inner = validation(load("cifar+10", 0, cache=cache), 0)
    with pytest.raises(UsageError, match="at least 4 classes"):
        validation(inner, 0)


def test_a_set_without_a_class_of_the_protocol_is_refused(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = store.read_set("imagenette-train", cache)
    monkeypatch.setattr(store, "read_set", lambda name, cache: whole)
    with pytest.raises(LsnError, match="no class 'airplane'"):
        load("cifar10", 0, cache=cache)


def test_the_splits_are_plain_data_and_the_facts() -> None:
    assert json.loads(json.dumps(SPLITS)) == SPLITS
    assert tuple(SPLITS) == open_sets() == ("cifar10", "cifar100", "cifar+10", "cifar+50", "tinyimagenet")
    assert "ood" not in SPLITS["cifar10"]
