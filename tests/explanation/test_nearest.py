"""Nearest stored images: those of a plain search, in order, with their classes, in pieces of any size."""

from dataclasses import replace

import numpy as np
import pytest
from workspace_samples import CLASSES, clusters

from lsncli.detection.scored_sets import ScoredSet, VerdictArrays
from lsncli.errors import LsnError
from lsncli.explanation import evidence as use
from lsncli.explanation.evidence import find_nearest, nearest_by_row
from lsncli.types import unit


def scored(name: str, features, names=None) -> ScoredSet:
    rows = len(features)
    judged = VerdictArrays(np.zeros(rows), np.zeros(rows, np.int32))
    return ScoredSet(name, "input", "", judged, np.zeros(rows, np.int32), names, features=features)


def test_they_are_those_of_a_plain_search(monkeypatch) -> None:
    split = clusters("train", 50)
    asked = np.random.default_rng(5).normal(size=(9, 32))
    cosines = unit(asked) @ unit(split.features).T
    for chunk, rows in ((8192, 256), (7, 2), (1, 1)):
        monkeypatch.setattr(use, "CHUNK", chunk)
        monkeypatch.setattr(use, "ROWS", rows)
        for found, row in zip(find_nearest(split, asked, 4), cosines, strict=True):
            order = np.argsort(-row)[:4]
            assert [one.key for one in found] == [split.keys[at] for at in order]
            assert [one.cosine for one in found] == pytest.approx(row[order])
            assert [one.class_name for one in found] == [CLASSES[split.labels[at]] for at in order]


def test_length_does_not_matter_and_a_stored_image_is_nearest_to_itself() -> None:
    split = clusters("train")
    (found,) = find_nearest(split, 7 * split.features[11:12].astype(np.float64), 1)[0]
    assert (found.key, found.cosine) == (split.keys[11], pytest.approx(1))


def test_there_are_no_more_than_the_split_holds_and_unlabelled_ones_have_no_class() -> None:
    split = clusters("far", 3, labelled=False)
    (found,) = find_nearest(split, split.features[:1], 5)
    assert sorted(one.key for one in found) == list(split.keys)
    assert {one.class_name for one in found} == {""}
    assert find_nearest(split, split.features[:2], 0) == [(), ()]
    assert find_nearest(split, split.features[:0], 3) == []
    empty = replace(split, features=split.features[:0], labels=split.labels[:0], keys=())
    assert find_nearest(empty, split.features[:1], 3) == [()]


def test_features_that_cannot_be_compared_are_refused() -> None:
    split = clusters("train")
    with pytest.raises(LsnError, match="32 dimensions"):
        find_nearest(split, np.ones((1, 8)), 1)
    broken = replace(split, features=np.full_like(split.features, np.nan))
    with pytest.raises(LsnError, match="NaN"):
        find_nearest(broken, np.ones((1, 32)), 1)


def test_of_sets_only_what_is_shown_and_an_image_is_not_its_own_neighbour() -> None:
    split = clusters("train")
    own = scored("train", split.features, split.keys)
    other = scored("train", split.features)  # images that were listed, under the same name
    bare = replace(own, features=None)
    first, second, third, none = nearest_by_row([own, other, bare, own], [{5, 2}, {5}, {5}, {}], split, 2)
    assert list(first) == [2, 5]
    assert all(len(like) == 2 for like in first.values())
    assert split.keys[5] not in [one.key for one in first[5]]
    assert second[5][0].key == split.keys[5]
    # Both cosines are of float64 vectors of length 1, but of products of other shapes, so of sums in another
    # order: 32 terms differ by some 1e-16.
    assert second[5][1] == replace(first[5][0], cosine=pytest.approx(first[5][0].cosine, abs=1e-14))
    assert third == none == {}
