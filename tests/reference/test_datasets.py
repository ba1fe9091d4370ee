"""The published image sets: counts that add up, and enough said to lay them out."""

import pytest

from lsncli.reference.classes import class_list
from lsncli.reference.datasets import Dataset, published_datasets


def test_the_counts_are_the_published_ones() -> None:
    counts = {name: (one.images, one.classes) for name, one in published_datasets().items()}
    assert counts == {
        "imagenet-train": (1281167, 1000),
        "imagenet-val": (50000, 1000),
        "inaturalist": (10000, 110),
        "sun": (10000, 50),
        "places": (10000, 50),
        "textures": (5640, 47),
        "cifar10-train": (50000, 10),
        "cifar10-test": (10000, 10),
        "cifar100-train": (50000, 100),
        "cifar100-test": (10000, 100),
        "tinyimagenet-train": (100000, 200),
        "tinyimagenet-val": (10000, 200),
    }


@pytest.mark.parametrize("one", published_datasets().values(), ids=lambda one: one.name)
def test_counts_add_up_and_everything_is_said(one: Dataset) -> None:
    assert one.classes
    if one.per_class is not None:
        assert one.images == one.classes * one.per_class
    if one.class_list:
        assert one.classes == len(class_list(one.class_list))
    assert one.labelled == bool(one.class_list)
    assert one.title
    assert one.source
    assert one.address.startswith("http")
    assert one.layout.endswith(".")
