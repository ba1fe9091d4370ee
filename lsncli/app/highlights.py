"""Which images a report shows: the least ID, the borderline, the most ID, and some of every class."""

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lsncli.app.binding import head_from
from lsncli.app.explain import Explanation, explain
from lsncli.artefacts.prompts import HeadSource
from lsncli.backbones import Backbone
from lsncli.images import watched
from lsncli.images.decode import decode
from lsncli.images.read import Undecodable, read_bytes
from lsncli.images.sources import ImageItem
from lsncli.types import Float64s, Labels

SIDE = 224
"""The longer side of a thumbnail in pixels."""
QUALITY = 72


def highlights(scores: Float64s, predicted: Labels, gamma: float, limit: int) -> NDArray[np.int64]:
    """At most ``limit`` rows, ascending: those with the lowest scores, those nearest to ``gamma``, those with
    the highest, and the nearest of each predicted class, in equal shares where they differ.

    More rows are a superset of fewer. Equal inputs give equal rows.
    """
    if len(scores) <= limit:
        return np.arange(len(scores))
    rising = np.argsort(scores, kind="stable")
    away = np.abs(scores - gamma)
    near = np.argsort(away, kind="stable")
    by_class = np.lexsort((away, predicted))
    counts = np.bincount(predicted)
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    place_in_class = np.arange(len(scores)) - starts
    rounds = by_class[np.argsort(place_in_class, kind="stable")]
    orders = [rising[:limit], near[:limit], rising[::-1][:limit], rounds[:limit]]
    turns = np.stack(orders, axis=1).ravel()
    _, first = np.unique(turns, return_index=True)
    chosen: NDArray[np.int64] = np.sort(turns[np.sort(first)[:limit]])
    return chosen


def thumbnails(items: Sequence[ImageItem], workers: int, side: int = SIDE) -> list[bytes | None]:
    """Small JPEGs of ``items``, in order; None for one that cannot be read (any more)."""

    def made(item: ImageItem) -> bytes | None:
        try:
            image = decode(read_bytes(item))
            image.thumbnail((side, side), Image.Resampling.LANCZOS)
            buffer = io.BytesIO()
            image.save(buffer, "JPEG", quality=QUALITY, optimize=True)
            return buffer.getvalue()
        except Exception:  # a picture is a help, and whatever hinders it must not cost the report
            return None

    with watched.threads(workers, "lsn-thumbnails") as pool:
        return list(pool.map(made, items))


def explanations(
    items: Sequence[ImageItem], backbone: Backbone, source: HeadSource
) -> list[Explanation | None]:
    """Where the prompts of each image's predicted class look; None for one that cannot be read (any more).

    Raises as ``explain`` does.
    """
    head = head_from(source, lambda: backbone)
    found: list[Explanation | None] = []
    for item in items:
        try:
            found.append(explain(backbone, head, decode(read_bytes(item))))
        except Undecodable:
            found.append(None)
    return found
