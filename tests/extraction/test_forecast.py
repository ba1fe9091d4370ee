"""What an extraction will take: the arithmetic, and where the probe looks."""

from dataclasses import replace
from pathlib import Path

import pytest
from fake_backbone import DIM, FakeBackbone, make_images

from lsncli.errors import LsnError
from lsncli.extraction.estimate import FEWEST, SpeedProbe, forecast, forecasts, probe, spread
from lsncli.images.item import Listing
from lsncli.images.listing import list_images

PROBED = SpeedProbe(
    images=200, seconds=4.0, waiting=0.1, failures=0, image_bytes=100_000.0, key_bytes=19.0
)  # 50 images a second


@pytest.fixture(scope="module")
def listing(tmp_path_factory: pytest.TempPathFactory) -> Listing:
    return list_images([make_images(tmp_path_factory.mktemp("planned") / "photos", 60, broken=(5,))])


def test_a_hundred_million_images() -> None:
    found = forecast(100_000_000, PROBED, dim=512, part_rows=65_536, workers=1)
    assert found.parts == 1526
    assert found.seconds == 2_000_000
    assert found.read_bytes == 10**13
    assert found.store_bytes == 100_000_000 * (1024 + 4 + 19 + 1)
    assert found.disk_bytes == 2 * found.store_bytes


def test_workers_take_whole_parts_and_the_slowest_decides() -> None:
    alone, eight = (
        forecast(1_000, PROBED, dim=8, part_rows=100, workers=workers).seconds for workers in (1, 8)
    )
    assert (alone, eight) == (20, 4)  # two rounds of 100 images at 50 a second
    assert forecast(90, PROBED, dim=8, part_rows=100, workers=8).seconds == 90 / 50


def test_there_are_no_more_workers_than_parts() -> None:
    found = forecasts([1_000, 60], PROBED, dim=8, batch_size=10, part_rows=100, store_now=7)
    assert [(one.images, one.workers) for one in found] == [(1_000, 1), (1_000, 8), (60, 1)]
    assert found[0].disk_bytes == 2 * found[0].store_bytes + 7


def test_parts_suit_the_workers_unless_their_size_is_given() -> None:
    found = forecasts([50_000], PROBED, dim=8, batch_size=128)
    assert [(one.workers, one.parts) for one in found] == [(1, 1), (8, 23)]  # 64 would have 56


def test_unknown_sizes_stay_unknown() -> None:
    found = forecast(10, replace(PROBED, image_bytes=None), dim=8, part_rows=100, workers=1)
    assert found.read_bytes is None


def test_the_probe_counts_what_it_encoded_and_writes_nothing(listing: Listing) -> None:
    probed = probe(listing, FakeBackbone(), batch_size=60, workers=2, seconds=0)
    assert (probed.images, probed.failures) == (60 * FEWEST, FEWEST)  # the first round warms up
    assert 0 <= probed.waiting <= probed.seconds
    assert probed.key_bytes == len("class_0/0000.png")
    sizes = [Path(item.path).stat().st_size for item in listing.items]
    assert probed.image_bytes == pytest.approx(sum(sizes) / len(sizes))


def test_the_probe_stops_when_its_time_is_over_but_not_before_a_few_batches(listing: Listing) -> None:
    backbone = FakeBackbone(pause=0.01)
    assert probe(listing, backbone, batch_size=4, workers=1, seconds=0).images == 4 * FEWEST


def test_nothing_is_estimated_from_images_that_cannot_be_read(tmp_path: Path) -> None:
    broken = list_images([make_images(tmp_path, 3, broken=(0, 1, 2))])
    with pytest.raises(LsnError, match=r"None of the 12 images .* class_0/0000\.png: "):
        probe(broken, FakeBackbone(), batch_size=4, workers=1, seconds=0)


@pytest.mark.parametrize("count", [1, 3, 9])
def test_few_images_are_gone_through_several_times(listing: Listing, count: int) -> None:
    few = replace(listing, items=listing.items[:count])
    probed = probe(few, FakeBackbone(), batch_size=4, workers=1, seconds=0)
    assert probed.images == 4 * FEWEST


def test_the_probe_looks_all_over_the_listing_in_an_order_that_stays(listing: Listing) -> None:
    items = listing.items
    found = spread(items, 4, 24)
    assert found == spread(items, 4, 24)
    assert len({item.key for item in found}) == 24
    starts = [items.index(found[i]) for i in range(0, 24, 4)]
    assert starts != sorted(starts)
    assert max(starts) - min(starts) > 30
    assert {item.key for item in spread(items, 4, 100)} == {item.key for item in items}
    for at, start in enumerate(starts):
        assert tuple(found[4 * at : 4 * at + 4]) == items[start : start + 4]


def test_a_row_of_a_store_has_the_bytes_that_are_planned(listing: Listing, tmp_path: Path) -> None:
    from lsncli.extraction.extract import extract

    store = tmp_path / "features.h5"
    extract(listing, source="", store=store, split="a", backbone=FakeBackbone(), batch_size=4)
    probed = probe(listing, FakeBackbone(), batch_size=4, workers=1, seconds=0)
    planned = forecast(len(listing.items), probed, dim=DIM, part_rows=64, workers=1)
    assert planned.store_bytes < store.stat().st_size < planned.store_bytes + 20_000
