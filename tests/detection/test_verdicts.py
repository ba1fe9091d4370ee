"""Which verdicts are shown, in which order, and how many there were of each."""

import random

import pytest

from lsncli.detection.detect import Verdict, VerdictCounts, select

ALL = ("ood", "id", "failed")


def verdict(path: str, score: float, predicted: str = "cat") -> Verdict:
    return Verdict(path, predicted, score, 0.5, score < 0.5)


FOUND = [
    (verdict("c", 0.9), None),
    (Verdict("b", error="an empty file"), None),
    (verdict("a", 0.1, "dog"), None),
    (verdict("d", 0.5), None),
    (Verdict("e", error="truncated"), None),
]


def names(*options) -> str:
    return "".join(one.path for one, _ in select(iter(FOUND), *options))


@pytest.mark.parametrize(
    ("kinds", "order", "top", "shown"),
    [
        (ALL, None, None, "cbade"),
        (["ood"], None, None, "a"),
        (["id", "failed"], None, None, "cbde"),
        (ALL, "score", None, "adcbe"),
        (ALL, "path", None, "abcde"),
        (ALL, "score", 2, "ad"),
        (["id"], "score", 1, "d"),
        (ALL, "path", 9, "abcde"),
        (["failed"], "score", 1, "b"),
    ],
)
def test_rows_are_chosen_then_sorted_then_cut(kinds, order, top, shown) -> None:
    assert names(kinds, order, top) == shown


def test_in_the_order_of_the_input_rows_come_at_once() -> None:
    def endless():
        while True:
            yield FOUND[0]

    assert next(select(endless(), ALL, None, None)) == FOUND[0]


def test_top_of_many_is_the_beginning_of_all_sorted_and_all_are_read() -> None:
    random.seed(0)
    found = [(verdict(str(i), random.choice([0.1, 0.2, 0.3])), None) for i in range(500)]
    tally = VerdictCounts()

    def counted():
        for pair in found:
            tally.count(pair[0])
            yield pair

    assert list(select(counted(), ALL, "score", 20)) == list(select(found, ALL, "score", None))[:20]
    assert tally.total == 500


def test_counts_by_kind_and_class() -> None:
    tally = VerdictCounts()
    for one, _ in FOUND:
        tally.count(one)
    assert (tally.kinds["id"], tally.kinds["ood"], tally.kinds["failed"], tally.total) == (2, 1, 2, 5)
    assert tally.by_class() == [{"class": "cat", "id": 2, "ood": 0}, {"class": "dog", "id": 0, "ood": 1}]
    assert tally.by_class(shown=1) == [
        {"class": "cat", "id": 2, "ood": 0},
        {"class": "(1 more)", "id": 0, "ood": 1},
    ]
