"""Groups of copies over several splits, what to leave out, and what an evaluation says of leaks."""

from dataclasses import replace

import numpy as np
from workspace_samples import CLASSES, clusters

from lsncli.evaluation import duplicate_groups as use
from lsncli.evaluation.duplicate_groups import Search, cached_pairs, find_groups, leak_warnings, tiles
from lsncli.evaluation.evaluate import choose_splits, plan_evaluation
from lsncli.methods.cache import Cache
from lsncli.methods.spec import parse_method
from lsncli.methods.workspace import Workspace
from lsncli.store.format import Split
from lsncli.store.writer import write_split

TRAIN, TEST, FAR = (
    clusters("train"),
    clusters("test", 21, seed=1),
    clusters("far", 12, seed=2, labelled=False, shift=1.0),
)


def with_rows(split: Split, **copies: np.ndarray) -> Split:
    """Return the split with other features in some rows: ``r5`` is row 5."""
    features = split.features.copy()
    for row, values in copies.items():
        features[int(row[1:])] = values
    return replace(split, features=features)


def slightly(row: np.ndarray, seed: int = 0) -> np.ndarray:
    return (row + 0.02 * np.random.default_rng(seed).normal(size=row.shape)).astype(np.float16)


def places(group) -> list[tuple[str, int]]:
    return [(copy.split, copy.row) for copy in group.copies]


def test_there_are_no_groups_without_copies() -> None:
    assert find_groups([TRAIN, TEST, FAR], "train", Search()) == []
    assert find_groups([], None, Search()) == []


def test_copies_of_copies_are_one_group_over_all_splits() -> None:
    row = TRAIN.features[3]
    train = with_rows(TRAIN, r3=row, r9=slightly(row, 1), r27=row)
    test = with_rows(TEST, r6=slightly(row, 2), r12=row)
    (group,) = find_groups([train, test, FAR], "train", Search())
    assert places(group) == [("test", 6), ("test", 12), ("train", 3), ("train", 9), ("train", 27)]
    assert [copy.leave_out for copy in group.copies] == [False, True, True, True, True]
    assert [copy.exact for copy in group.copies] == [False, True, True, False, True]
    assert [copy.cosine for copy in group.copies if copy.exact] == [1, 1, 1]
    assert all(0.99 < copy.cosine < 1 for copy in group.copies if not copy.exact)
    assert [copy.key for copy in group.copies][:2] == [test.keys[6], test.keys[12]]
    assert group.across
    assert not group.conflict
    (found,) = find_groups([train, test, FAR], "train", Search(near=False))
    assert places(found) == [("test", 12), ("train", 3), ("train", 27)]


def test_without_a_training_split_splits_are_not_compared_with_one_another() -> None:
    train = with_rows(TRAIN, r3=TRAIN.features[0])
    test = with_rows(TEST, r6=TRAIN.features[0], r9=TRAIN.features[0])
    groups = find_groups([train, test], None, Search())
    assert [places(group) for group in groups] == [[("train", 0), ("train", 3)], [("test", 6), ("test", 9)]]
    assert not any(group.across for group in groups)


def test_classes_that_differ_are_told_and_come_first() -> None:
    train = with_rows(TRAIN, r3=TRAIN.features[0], r6=TRAIN.features[0], r4=TRAIN.features[8])
    test = with_rows(TEST, r0=TRAIN.features[10], r1=TRAIN.features[13])
    groups = find_groups([train, test], "train", Search())
    assert [places(group) for group in groups] == [
        [("test", 0), ("train", 10)],
        [("train", 4), ("train", 8)],
        [("test", 1), ("train", 13)],
        [("train", 0), ("train", 3), ("train", 6)],
    ]
    assert [group.conflict for group in groups] == [True, True, False, False]
    assert [copy.class_name for copy in groups[1].copies] == [CLASSES[1], CLASSES[2]]


def test_images_without_a_class_or_of_other_classes_contradict_nobody() -> None:
    far = with_rows(FAR, r2=TRAIN.features[0])
    (group,) = find_groups([TRAIN, far], "train", Search())
    assert [copy.class_name for copy in group.copies] == ["", CLASSES[0]]
    assert not group.conflict
    others = replace(far, labels=np.zeros(12, np.int32), classes=("tabby",))
    (group,) = find_groups([TRAIN, others], "train", Search())
    assert [copy.class_name for copy in group.copies] == ["tabby", CLASSES[0]]
    assert not group.conflict


def test_every_tile_is_counted(monkeypatch) -> None:
    monkeypatch.setattr("lsncli.evaluation.duplicates.TILE", 7)
    counted: list[int] = []
    find_groups([TRAIN, TEST], "train", Search(), progress=lambda step, note="": counted.append(step))
    assert sum(counted) == tiles([TRAIN, TEST], "train") == 15 + 6 + 15


def test_what_was_found_is_kept_and_not_what_is_quick(tmp_path, monkeypatch) -> None:
    cache = Cache(tmp_path / "cache")
    test = with_rows(TEST, r6=TRAIN.features[0], r7=slightly(TRAIN.features[1]))
    cached_pairs(test, TRAIN, Search(), cache)
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr(use, "KEPT", 1)
    for search, count in ((Search(), 2), (Search(near=False), 1), (Search(cosine=0.999), 2)):
        first, again = (cached_pairs(test, TRAIN, search, cache) for _ in range(2))
        assert len(first) == len(again) == count
        for name in ("first", "second", "cosines", "exact"):
            np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
            assert getattr(first, name).dtype == getattr(again, name).dtype
    assert len(list((tmp_path / "cache").iterdir())) == 3
    other = with_rows(test, r8=TRAIN.features[2])
    assert len(cached_pairs(other, TRAIN, Search(), cache)) == 3
    kept = {"first": np.array([20]), "second": np.array([29]), "cosines": np.ones(1), "exact": np.ones(1)}
    cache.put(use._key(test, TRAIN, Search(), cache), kept, {})
    assert cached_pairs(test, TRAIN, Search(), cache).second.tolist() == [29]


def test_an_evaluation_says_how_many_tested_images_are_copies() -> None:
    test = with_rows(TEST, r6=TRAIN.features[0], r7=slightly(TRAIN.features[1]))
    far = with_rows(FAR, r2=TRAIN.features[5])
    (text,) = leak_warnings(TRAIN, test, [far, clusters("near", 9, seed=3)])
    assert text.startswith("2 of 21 images of test and 1 of 12 images of far are copies of images of train, ")
    assert f"such as {test.keys[6]} of {TRAIN.keys[0]}." in text
    assert "`lsn store duplicates --split train`" in text
    hostile = replace(test, keys=tuple(f"\x1b[31m{key}\n" for key in test.keys))
    (text,) = leak_warnings(TRAIN, hostile, [])
    assert text.isprintable()
    assert leak_warnings(TRAIN, TEST, [FAR]) == []
    assert leak_warnings(TRAIN, TRAIN, [FAR]) == []
    empty = replace(TRAIN, features=TRAIN.features[:0], labels=TRAIN.labels[:0], keys=())
    assert leak_warnings(empty, test, [far]) == []


def test_many_images_are_searched_for_exact_copies_until_the_command_was_run(tmp_path, monkeypatch) -> None:
    cache = Cache(tmp_path / "cache")
    test = with_rows(TEST, r6=TRAIN.features[0], r7=slightly(TRAIN.features[1]))
    monkeypatch.setattr(use, "QUICK", 21 * 30 - 1)
    monkeypatch.setattr(use, "KEPT", 1)
    found, left_out = leak_warnings(TRAIN, test, [FAR], cache)
    assert found.startswith("1 of 21 images of test are copies")
    assert left_out.startswith("test and train have many images: only copies with identical features")
    find_groups([TRAIN, test], "train", Search(), cache=cache)
    (found,) = leak_warnings(TRAIN, test, [FAR], cache)
    assert found.startswith("2 of 21 images of test are copies")


def test_features_that_cannot_be_compared_stop_no_evaluation() -> None:
    broken = with_rows(FAR, r2=np.full(32, np.nan))
    found, text = leak_warnings(TRAIN, with_rows(TEST, r6=TRAIN.features[0]), [broken])[::-1]
    assert found.startswith("1 of 21 images of test are")
    assert text.startswith(
        "far was not searched for copies of images of train: 1 of 12 feature rows hold NaN"
    )


def test_the_plan_of_an_evaluation_doubts_its_numbers(work: Workspace, tiny_backbone) -> None:
    def doubts() -> tuple[str, ...]:
        inside, outside = choose_splits(work, "test", (), None)
        methods = [parse_method("knn,k=3")]
        return plan_evaluation(
            work, methods, inside, outside, None, model=lambda: tiny_backbone, keep=False
        ).doubts

    assert doubts() == ()
    leaked = with_rows(TEST, r6=TRAIN.features[0])
    write_split(work.features, leaked, tiny_backbone.fingerprint, replace=True)
    (text,) = doubts()
    assert text.startswith(
        "1 of 21 images of test are copies of images of train, such as test/006.jpg of train/000"
    )
