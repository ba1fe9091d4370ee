"""Which rows are learned from and which only set the threshold."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsncli.errors import LsnError, UsageError
from lsncli.methods.holdout import check_held_out, hold_out, hold_out_again, labels_as
from lsncli.store.format import Split

CLASSES = ("a", "b", "c")


def split_of(labels: list[int], classes: tuple[str, ...] = CLASSES) -> Split:
    """Row i has the feature i, so that a row can be recognised."""
    rows = len(labels)
    return Split(
        name="train",
        features=np.arange(rows, dtype=np.float16)[:, None],
        labels=np.array(labels, dtype=np.int32),
        keys=tuple(f"{row}.jpg" for row in range(rows)),
        classes=classes,
    )


def ids(rows) -> list[int]:
    return rows.features[:, 0].astype(int).tolist()


labellings = st.lists(st.integers(-1, 2), max_size=40).map(lambda extra: [0, 1, 2, *extra])


@given(labellings, st.floats(0.01, 0.99), st.none() | st.integers(1, 5), st.integers(0, 9))
def test_parts_are_disjoint_labelled_and_of_the_right_size(labels, fraction, shots, seed) -> None:
    split = split_of(labels)
    parts = hold_out(split, fraction, shots, seed)
    train, held = ids(parts.train), ids(parts.held_out)
    assert not set(train) & set(held)
    for rows, part in ((parts.train, train), (parts.held_out, held)):
        assert part == sorted(set(part))
        assert rows.labels.tolist() == [labels[row] for row in part]
    for label in range(3):
        count = labels.count(label)
        held_count = sum(labels[row] == label for row in held)
        expected = min(count - 1, max(1, round(fraction * count)))
        assert held_count == expected
        left = count - expected
        assert sum(labels[row] == label for row in train) == (left if shots is None else min(left, shots))


@given(labellings, st.integers(0, 9))
def test_the_same_seed_finds_the_same_rows_and_the_rule_finds_them_again(labels, seed) -> None:
    split = split_of(labels)
    parts = hold_out(split, 0.3, 4, seed)
    for again in (hold_out(split, 0.3, 4, seed), hold_out_again(split, parts.rule)):
        assert ids(again.train) == ids(parts.train)
        assert ids(again.held_out) == ids(parts.held_out)
        assert again.rule == parts.rule


def test_another_seed_chooses_other_rows() -> None:
    split = split_of([0, 1, 2] * 30)
    chosen = {tuple(ids(hold_out(split, 0.2, None, seed).held_out)) for seed in range(5)}
    assert len(chosen) == 5


def test_another_class_does_not_change_which_rows_a_class_gives() -> None:
    small, large = split_of([0] * 10 + [1] * 4 + [2]), split_of([0] * 10 + [1] * 30 + [2])
    of_class_0 = [
        [row for row in ids(hold_out(s, 0.2, None, 5).held_out) if row < 10] for s in (small, large)
    ]
    assert of_class_0[0] == of_class_0[1]


def test_shots_never_change_what_is_held_out() -> None:
    split = split_of([0, 1, 2] * 20)
    few, all_of_them = hold_out(split, 0.2, 2, 0), hold_out(split, 0.2, None, 0)
    assert ids(few.held_out) == ids(all_of_them.held_out)
    assert len(few.train) == 6
    assert set(ids(few.train)) <= set(ids(all_of_them.train))


def test_a_class_with_one_row_keeps_it_for_learning() -> None:
    parts = hold_out(split_of([0, 1, 2, 2]), 0.2, None, 0)
    assert len(parts.train) == 3
    assert parts.held_out.labels.tolist() == [2]
    check_held_out(split_of([0, 1, 2, 2]), parts)


def test_with_one_row_in_every_class_none_can_set_the_threshold() -> None:
    split = split_of([0, 1, 2])
    with pytest.raises(LsnError, match="one image per class"):
        check_held_out(split, hold_out(split, 0.2, None, 0))


def test_a_class_without_a_row_is_named() -> None:
    with pytest.raises(LsnError, match="no image of class 'b'"):
        hold_out(split_of([0, 2, 2]), 0.2, None, 0)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 20.0, float("nan")])
def test_a_fraction_that_leaves_nothing_is_refused(fraction: float) -> None:
    with pytest.raises(UsageError, match=r"--val-fraction: expected a fraction between 0 and 1"):
        hold_out(split_of([0, 1, 2]), fraction, None, 0)


def test_however_large_the_fraction_one_row_of_each_class_is_learned_from() -> None:
    parts = hold_out(split_of([0, 0, 1, 1, 2, 2]), 0.99, None, 0)
    assert parts.train.labels.tolist() == parts.held_out.labels.tolist() == [0, 1, 2]


def test_no_shots_are_refused() -> None:
    with pytest.raises(UsageError, match="--shots: expected at least 1, found 0"):
        hold_out(split_of([0, 1, 2]), 0.2, 0, 0)


@pytest.mark.parametrize("change", ["keys", "labels", "classes", "fewer"])
def test_a_split_that_changed_since_is_not_split_again(change: str) -> None:
    split = split_of([0, 1, 2, 0, 1, 2])
    rule = hold_out(split, 0.2, None, 0).rule
    changed = {
        "keys": replace(split, keys=(*split.keys[:-1], "other.jpg")),
        "labels": replace(split, labels=split.labels[::-1].copy()),
        "classes": replace(split, classes=("a", "b", "d")),
        "fewer": split_of([0, 1, 2, 0, 1]),
    }[change]
    with pytest.raises(LsnError, match="holds other images than the positive prompts") as caught:
        hold_out_again(changed, rule)
    assert "lsn train-pos" in caught.value.hint
    same = replace(split, source="elsewhere", listing="ab" * 32)  # neither says which rows there are
    assert ids(hold_out_again(same, rule).held_out) == ids(hold_out(split, 0.2, None, 0).held_out)


def test_labels_are_matched_by_name() -> None:
    split = split_of([0, 1, 2, -1], classes=("c", "a", "b"))
    assert labels_as(split, CLASSES).tolist() == [2, 0, 1, -1]
    unlabelled = replace(split, labels=np.full(4, -1, np.int32), classes=())
    assert labels_as(unlabelled, CLASSES).tolist() == [-1] * 4


def test_a_class_that_is_not_known_is_named_unless_no_row_has_it() -> None:
    split = split_of([0, 1, 0], classes=("a", "x", "y"))
    with pytest.raises(LsnError, match="1 classes that the prompts do not know, such as 'x'"):
        labels_as(split, CLASSES)
    assert labels_as(split_of([0, 0], classes=("a", "x")), CLASSES).tolist() == [0, 0]
