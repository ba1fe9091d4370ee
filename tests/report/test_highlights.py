"""Which images a report shows, and their thumbnails."""

import io

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lsncli.images.listing import list_images
from lsncli.report.contents import SIDE, highlights, thumbnails

SCORES = st.lists(st.floats(-1, 1, width=16), min_size=1, max_size=60)


@given(SCORES, st.floats(-1, 1), st.integers(0, 70), st.integers(1, 5))
def test_rows_are_ascending_distinct_and_as_many_as_allowed(scores, gamma, limit, classes) -> None:
    predicted = (np.arange(len(scores)) % classes).astype(np.int32)
    rows = highlights(np.array(scores), predicted, gamma, limit)
    assert np.array_equal(rows, np.unique(rows))
    assert len(rows) == min(limit, len(scores))


@given(SCORES, st.floats(-1, 1), st.integers(0, 60))
def test_more_rows_are_a_superset_of_fewer(scores, gamma, limit) -> None:
    predicted = (np.arange(len(scores)) % 3).astype(np.int32)
    few, more = (highlights(np.array(scores), predicted, gamma, count) for count in (limit, limit + 1))
    assert set(few) <= set(more)


def test_the_lowest_the_nearest_the_highest_and_every_class_are_there() -> None:
    random = np.random.default_rng(1)
    scores, predicted = random.normal(size=4000), random.integers(0, 20, 4000).astype(np.int32)
    chosen = set(highlights(scores, predicted, 0.5, 120).tolist())
    order = np.argsort(scores)
    near = np.argsort(np.abs(scores - 0.5))
    for wanted in (order[:30], near[:30], order[::-1][:30]):
        assert set(wanted.tolist()) <= chosen
    assert set(predicted[list(chosen)]) == set(range(20))


def test_thumbnails_are_small_and_in_order_and_a_broken_image_has_none(tmp_path) -> None:
    for number, size in enumerate([(1000, 500), (40, 30), (10, 900)]):
        Image.new("RGB", size, (200, 40 * number, 10)).save(tmp_path / f"{number}.png")
    (tmp_path / "3.png").write_bytes(b"no image")
    items = list_images([tmp_path]).items
    (tmp_path / "1.png").unlink()
    found = thumbnails(items, workers=2)
    assert [one is None for one in found] == [False, True, False, True]
    with Image.open(io.BytesIO(found[0])) as wide, Image.open(io.BytesIO(found[2])) as tall:
        assert wide.format == "JPEG"
        assert wide.size == (SIDE, SIDE // 2)
        assert max(tall.size) == SIDE
        assert tall.getpixel((0, 0))[1] > 50
