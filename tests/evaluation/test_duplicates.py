"""Copies of images, found in tiles: those of a plain search over all pairs, exact and near."""

import io
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from lsncli.errors import LsnError
from lsncli.evaluation import duplicates as use
from lsncli.evaluation.duplicates import find_duplicates, mean_distance, tiles_of
from lsncli.store.format import Split
from lsncli.store.reader import read_split
from lsncli.store.writer import write_split
from lsncli.types import unit

DIM = 24
IMAGES = os.environ.get("LSN_IMAGES", "")


def split_of(features, name: str = "train", labels=None, classes=("cat", "dog")) -> Split:
    features = np.asarray(features, np.float16)
    labels = np.arange(len(features)) % len(classes) if labels is None else labels
    keys = tuple(f"{name}/{row}.jpg" for row in range(len(features)))
    return Split(name, features, np.asarray(labels, np.int32), keys, classes)


def rows_with_copies(seed: int, rows: int, exact: int, near: int) -> np.ndarray:
    """Return rows in a random order, some with copies of the same bytes and some with slight changes."""
    random = np.random.default_rng(seed)
    rows_of = random.normal(size=(rows, DIM)).astype(np.float16)
    same = rows_of[random.integers(rows, size=exact)]
    close = rows_of[random.integers(rows, size=near)] + 0.05 * random.normal(size=(near, DIM))
    together = np.concatenate([rows_of, same, close.astype(np.float16)])
    return together[random.permutation(len(together))]


def plain_search(
    one: np.ndarray, two: np.ndarray | None, cosine: float | None = None
) -> set[tuple[int, int]]:
    """Return the pairs that are near duplicates or have the same bytes, of first occurrences only."""

    def firsts(rows: np.ndarray) -> list[int]:
        seen: dict[bytes, int] = {}
        return sorted(seen.setdefault(row.tobytes(), at) for at, row in enumerate(rows) if row.any())

    def distances(rows: np.ndarray) -> list[float]:
        kept = unit(rows[sorted(set(firsts(rows)))])
        return [1 - kept[i] @ kept[j] for i in range(len(kept)) for j in range(len(kept)) if i != j]

    other = one if two is None else two
    sides = [one] if two is None else [one, two]
    total = sum(sum(distances(side)) / max(len(set(firsts(side))), 1) for side in sides)
    count = sum(max(len(set(firsts(side))) - 1, 0) for side in sides)
    mean = total / count if count else 0.0
    cut = 1 - cosine if cosine is not None else use.SPACING * mean
    a, b = sorted(set(firsts(one))), sorted(set(firsts(other)))
    gaps = {
        (i, j): 1 - float(unit(one[i : i + 1])[0] @ unit(other[j : j + 1])[0])
        for i in a
        for j in b
        if two is not None or i != j
    }
    found = set()
    for (i, j), gap in gaps.items():
        if gap > cut or (two is None and i > j) or one[i].tobytes() == other[j].tobytes():
            continue
        around = [d for (k, m), d in gaps.items() if d > cut and (k == i or m == j)]
        if two is None:
            around += [d for (k, _), d in gaps.items() if d > cut and k == j]
        if cosine is not None or gap <= use.CLOSER * min(around, default=np.inf):
            found.add((i, j))
    for i, row in enumerate(one):
        same = [j for j, each in enumerate(other) if each.tobytes() == row.tobytes() and row.any()]
        if two is None and same and same[0] != i:
            found.add((same[0], i))
        if two is not None and same:
            found.add((i, same[0]))
    return found


def found_in(one, two=None, **more) -> set[tuple[int, int]]:
    pairs = find_duplicates(split_of(one), None if two is None else split_of(two, "test"), **more)
    assert len(set(zip(pairs.first, pairs.second, strict=True))) == len(pairs)
    return {(int(i), int(j)) for i, j in zip(pairs.first, pairs.second, strict=True)}


@pytest.fixture(params=[2048, 16, 7, 1])
def tile(request, monkeypatch) -> int:
    monkeypatch.setattr(use, "TILE", request.param)
    return request.param


def test_copies_within_a_split_are_those_of_a_plain_search(tile) -> None:
    rows = rows_with_copies(0, 40, 9, 8)
    expected = plain_search(rows, None)
    assert len(expected) >= 15
    assert found_in(rows) == expected


def test_copies_in_two_splits_are_those_of_a_plain_search(tile) -> None:
    rows = rows_with_copies(1, 40, 9, 12)
    one, two = rows[:35], rows[35:]
    expected = plain_search(one, two)
    assert len(expected) >= 5
    assert found_in(one, two) == expected


def test_a_cosine_of_ones_own_is_a_plain_threshold(tile) -> None:
    rows = rows_with_copies(2, 40, 5, 5)
    expected = plain_search(rows, None, 0.5)
    assert len(expected) > len(plain_search(rows, None))
    assert found_in(rows, cosine=0.5) == expected


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(0, 20),
    extra=st.integers(0, 6),
    tile=st.integers(1, 9),
    cut=st.integers(0, 26),
)
def test_any_rows_in_any_tiles_give_what_a_plain_search_gives(seed, rows, extra, tile, cut) -> None:
    features = rows_with_copies(seed, rows, extra if rows else 0, extra if rows else 0)
    features[: cut // 9] = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(use, "TILE", tile)
        assert found_in(features) == plain_search(features, None)
        assert found_in(features[:cut], features[cut:]) == plain_search(features[:cut], features[cut:])


@pytest.mark.parametrize("places", [(0, 1), (6, 7), (0, 20), (13, 14)], ids=str)
def test_a_copy_is_found_wherever_the_tiles_end(places, monkeypatch) -> None:
    monkeypatch.setattr(use, "TILE", 7)
    rows = np.random.default_rng(3).normal(size=(21, DIM)).astype(np.float16)
    near = rows.copy()
    near[places[1]] = (rows[places[0]].astype(np.float32) * 1.001 + 0.01).astype(np.float16)
    rows[places[1]] = rows[places[0]]
    assert found_in(rows) == {places}
    assert found_in(near) == {places}
    assert find_duplicates(split_of(rows)).exact.all()
    assert not find_duplicates(split_of(near)).exact.any()


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0), (2, 0, 1)], ids=str)
def test_a_third_image_that_is_near_to_either_of_two_makes_them_no_copies(order, tile) -> None:
    """On a circle: the third image is far from the first one, but not much farther from the second."""
    angles = np.radians([0, 25, 63])
    circle = np.zeros((3, DIM))
    circle[:, 0], circle[:, 1] = np.cos(angles), np.sin(angles)
    others = np.zeros((2 * (DIM - 2), DIM))
    others[:, 2:] = np.concatenate([np.eye(DIM - 2), -np.eye(DIM - 2)])
    rows = np.concatenate([circle[list(order)], others])
    assert found_in(rows) == set()
    between = set() if order[0] else {(0, 0)}  # images of the same split are not looked at
    assert found_in(rows[:1], rows[1:]) == found_in(rows[1:], rows[:1]) == between
    assert len(found_in(np.delete(rows, order.index(2), axis=0))) == 1


def test_exact_copies_alone_can_be_asked_for() -> None:
    rows = rows_with_copies(4, 30, 6, 6)
    pairs = find_duplicates(split_of(rows), near=False)
    assert len(pairs) == 6
    assert pairs.exact.all()
    assert (pairs.cosines == 1).all()
    assert (rows[pairs.first] == rows[pairs.second]).all()


def test_rows_of_zeros_are_copies_of_nothing() -> None:
    rows = np.random.default_rng(5).normal(size=(9, DIM)).astype(np.float16)
    rows[[2, 3, 8]] = 0
    rows[8] *= -1  # minus zero
    assert found_in(rows) == found_in(rows, rows[2:4]) == found_in(rows, cosine=0.9) == set()


def test_few_rows_and_none(tile) -> None:
    rows = np.random.default_rng(6).normal(size=(3, DIM)).astype(np.float16)
    assert (
        found_in(rows[:0])
        == found_in(rows[:1])
        == found_in(rows[:0], rows)
        == found_in(rows, rows[:0])
        == set()
    )
    assert found_in(rows[:1], rows) == {(0, 0)}
    assert found_in(np.stack([rows[0], rows[0]])) == {(0, 1)}


def test_a_crowd_of_copies_is_found_without_all_of_its_pairs(monkeypatch) -> None:
    random = np.random.default_rng(7)
    monkeypatch.setattr(use, "TILE", 32)
    centre = random.normal(size=DIM)
    crowd = centre + 0.02 * random.normal(size=(100, DIM))
    rows = np.concatenate([random.normal(size=(100, DIM)), crowd])
    pairs = find_duplicates(split_of(rows))
    assert len(pairs) <= 100 * use.NEAREST
    assert pairs.first.min() == 100
    assert set(pairs.first.tolist()) | set(pairs.second.tolist()) == set(range(100, 200))
    assert found_in(rows) == found_in(rows, cosine=0.9)


def test_the_mean_distance_is_that_of_all_pairs_of_a_split() -> None:
    rows = np.random.default_rng(8).normal(size=(12, DIM))
    sides = [use._side(part, use.row_digests(part)) for part in (rows, rows[:5] + 3, rows[:1])]
    cosines = unit(rows) @ unit(rows).T
    assert mean_distance(sides[:1]) == pytest.approx(1 - (cosines.sum() - 12) / (12 * 11))
    apart = [mean_distance([side]) for side in sides]
    assert mean_distance(sides) == pytest.approx((11 * apart[0] + 4 * apart[1]) / 15)
    assert mean_distance(sides[2:]) == mean_distance([]) == 0


class Watched:
    """Features on a disk: it remembers how many rows were read at a time, and never gives all of them."""

    def __init__(self, rows: np.ndarray, taken: list[int]) -> None:
        self._rows, self._taken = rows, taken
        self.shape = rows.shape

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, where):
        rows = self._rows[where]
        self._taken.append(len(rows))
        return rows


def test_only_tiles_of_rows_are_read(monkeypatch) -> None:
    monkeypatch.setattr(use, "TILE", 16)
    rows, taken = rows_with_copies(9, 90, 5, 5), []
    expected = found_in(rows), found_in(rows[:60], rows[60:])
    for seen, parts in zip(expected, ([rows], [rows[:60], rows[60:]]), strict=True):
        splits = [replace(split_of(part), features=Watched(part, taken)) for part in parts]
        pairs = find_duplicates(*splits)
        assert {(int(i), int(j)) for i, j in zip(pairs.first, pairs.second, strict=True)} == seen
    assert max(taken) == 16


def test_a_stored_split_gives_what_its_rows_give(tmp_path: Path, tiny_backbone) -> None:
    rows = np.tile(rows_with_copies(10, 60, 6, 6).astype(np.float16), (1, 2))[:, :32]
    write_split(tmp_path / "features.h5", split_of(rows), tiny_backbone.fingerprint)
    pairs = find_duplicates(read_split(tmp_path / "features.h5", "train"))
    assert {(int(i), int(j)) for i, j in zip(pairs.first, pairs.second, strict=True)} == found_in(rows)
    assert len(pairs) >= 10


def test_tiles_are_counted_before_they_are_compared(monkeypatch) -> None:
    monkeypatch.setattr(use, "TILE", 16)
    rows = np.random.default_rng(11).normal(size=(70, DIM))
    counted: list[int] = []

    def progress(step: int, note: str = "") -> None:
        counted.append(step)

    find_duplicates(split_of(rows), progress=progress)
    assert sum(counted) == tiles_of(70) == 15
    find_duplicates(split_of(rows), split_of(rows[:20], "test"), progress=progress)
    assert sum(counted) - 15 == tiles_of(70, 20) == 10


def test_features_that_are_not_finite_are_refused() -> None:
    rows = np.ones((3, DIM))
    rows[1, 1] = np.nan
    with pytest.raises(LsnError, match="NaN"):
        find_duplicates(split_of(rows))


@pytest.mark.skipif(not IMAGES, reason="LSN_IMAGES is not set: copies of real images are NOT looked for")
def test_copies_of_photographs_are_found_and_other_photographs_are_not() -> None:
    from lsncli.backbones import load_backbone
    from lsncli.images.decode import decode
    from lsncli.images.listing import list_images
    from lsncli.images.read import read_bytes

    def encoded_again(image: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=75)
        return Image.open(buffer)

    items = list_images([Path(IMAGES) / "imagenette-val.tar"]).items[::20]
    photos = [decode(read_bytes(item)).convert("RGB") for item in items]
    copies = [
        encoded_again(photos[0]),
        photos[3].resize((112, 112), Image.Resampling.BICUBIC),
        photos[6].crop((4, 4, 220, 220)),
        ImageOps.mirror(photos[9]),
    ]
    backbone = load_backbone("mini", device="cpu")
    import torch

    features = [
        backbone.encode(torch.stack([backbone.preprocess(image) for image in images]))
        for images in (photos, copies)
    ]
    assert found_in(features[0]) == set()
    assert found_in(features[1], features[0]) == {(0, 0), (1, 3), (2, 6), (3, 9)}
