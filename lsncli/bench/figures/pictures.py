"""The images behind stored rows, for figures that show some of them."""

from collections.abc import Sequence

import numpy as np
from PIL.Image import Image

from lsncli.images.dataset_layouts import DatasetLayout
from lsncli.images.decode import decode
from lsncli.images.read import Undecodable, read_bytes
from lsncli.store.format import Split


def spread_rows(split: Split, count: int) -> list[int]:
    """The first row of each of ``count`` classes, spread over all classes; fewer if there are not so many."""
    labels = np.unique(split.labels[split.labels >= 0])
    chosen = labels[np.linspace(0, len(labels) - 1, min(count, len(labels))).astype(int)]
    return [int(np.flatnonzero(split.labels == label)[0]) for label in chosen]


def pictures(source: DatasetLayout | None, keys: Sequence[str]) -> dict[str, Image]:
    """The images of ``keys`` in a set, RGB; those that are not there or broken are left out."""
    if source is None:
        return {}
    found = {}
    items = {item.key: item for item in source.listing().items if item.key in set(keys)}
    for key, item in items.items():
        try:
            found[key] = decode(read_bytes(item))
        except Undecodable:
            continue
    return found
