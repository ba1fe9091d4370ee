"""Estimate the time and disk space of an extraction from the measured speed of a few batches.

Nothing is written. ``ASSUMED`` states the assumptions, for readers of the numbers.
"""

import random
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import cycle, islice
from statistics import fmean

from lsncli import console
from lsncli.backbones import Backbone
from lsncli.backbones.runtime_choice import for_images
from lsncli.errors import LsnError
from lsncli.extraction.encoder import batches_abreast, encode_stream
from lsncli.images.item import ImageItem, Listing
from lsncli.store.staging import PART_ROWS, part_rows_for
from lsncli.types import Failure

PROBE_SECONDS = 8.0
FEWEST = 3
"""Least number of batches that a probe counts, however long they take."""

ENOUGH = 50_000
"""More images than any probe encodes."""

WORKERS = (1, 8, 64, 512)
"""Numbers of workers to estimate for, where there are as many parts."""

ASSUMED = (
    "Estimated from the probe: images like these, every worker as fast as this process, storage that keeps "
    "up with all of them, nothing lost. Not counted: listing, loading the model, and merging, which copies "
    "the store once."
)


@dataclass(frozen=True)
class SpeedProbe:
    """The cost of a few batches.

    ``images`` in ``seconds``, of which ``waiting`` for pixels; how many failed; the mean bytes of an image
    (None if sizes are unknown) and of its key.
    """

    images: int
    seconds: float
    waiting: float
    failures: int
    image_bytes: float | None
    key_bytes: float

    @property
    def images_per_second(self) -> float:
        """Speed of this process."""
        return self.images / self.seconds


@dataclass(frozen=True)
class Forecast:
    """An extraction of ``images`` in ``parts`` of ``part_rows`` by ``workers``, estimated.

    ``read_bytes`` is None where the sizes of images are unknown. ``disk_bytes`` is the peak: the parts, and
    the store that is merged from them.
    """

    images: int
    parts: int
    part_rows: int
    workers: int
    seconds: float
    read_bytes: int | None
    store_bytes: int
    disk_bytes: int


def probe(
    listing: Listing,
    backbone: Backbone,
    *,
    batch_size: int,
    workers: int,
    seconds: float | None = None,
    progress: console.ProgressCallback = console.silent,
) -> SpeedProbe:
    """Encode batches from all over the listing for ``seconds``; the first ones only warm up.

    ``seconds`` None means ``PROBE_SECONDS``. A short listing is repeated.
    Raises LsnError if no image can be read.
    """
    seconds = PROBE_SECONDS if seconds is None else seconds
    images = counted = 0
    waiting = 0.0
    failures: list[Failure] = []
    backbone = for_images(backbone, len(listing.items))
    # Parallel batches begin and end together: a multiple of their number is counted.
    with batches_abreast(backbone.device) as parallel:
        sample = spread(listing.items, batch_size, max(ENOUGH, (parallel + FEWEST) * 2 * batch_size))
        batches = encode_stream(sample, backbone, batch_size=batch_size, workers=workers)
        with closing(batches):
            for batch in islice(batches, parallel):
                progress(batch.stop - batch.start)
            began = time.perf_counter()
            for batch in batches:
                images += batch.stop - batch.start
                failures += batch.failures
                waiting += batch.seconds.waiting / parallel
                counted += 1
                progress(batch.stop - batch.start)
                complete = counted >= FEWEST and counted % parallel == 0
                if complete and time.perf_counter() - began > seconds:
                    break
            spent = time.perf_counter() - began
    if len(failures) == images:
        reason = console.printable(f"{failures[0].key}: {failures[0].reason}")
        raise LsnError(f"None of the {images} images that were tried could be read, such as {reason}.")
    sizes = [item.size for item in listing.items if item.size is not None]
    return SpeedProbe(
        images,
        spent,
        waiting,
        len(failures),
        fmean(sizes) if sizes else None,
        fmean(len(item.key.encode("utf-8", "surrogateescape")) for item in listing.items),
    )


def spread(items: Sequence[ImageItem], batch_size: int, number: int) -> list[ImageItem]:
    """Return ``number`` images for a probe, the same every time.

    They are batches of neighbours, as an extraction reads them, from all over the listing; a short listing is
    repeated.
    """
    starts = list(range(0, max(1, len(items) - batch_size + 1), batch_size))
    random.Random(0).shuffle(starts)
    chosen = starts[: -(-number // batch_size)]
    sample = [item for start in chosen for item in items[start : start + batch_size]]
    return list(islice(cycle(sample), number))


def forecast(
    images: int,
    probed: SpeedProbe,
    *,
    dim: int,
    part_rows: int = PART_ROWS,
    workers: int = 1,
    store_now: int = 0,
) -> Forecast:
    """Estimate an extraction of ``images`` by ``workers``, which take whole parts.

    ``store_now`` bytes of other splits are copied, too.
    """
    parts = -(-images // part_rows)
    rounds = -(-parts // workers)
    # The slowest worker has ``rounds`` parts, the last of which may be smaller.
    most = min(images, rounds * part_rows)
    # A row of the store: float16 features, an int32 label, a key ended by NUL (lsncli/store/README.md).
    store = round(images * (2 * dim + 4 + probed.key_bytes + 1))
    read = None if probed.image_bytes is None else round(images * probed.image_bytes)
    return Forecast(
        images=images,
        parts=parts,
        part_rows=part_rows,
        workers=workers,
        seconds=most / probed.images_per_second,
        read_bytes=read,
        store_bytes=store,
        disk_bytes=2 * store + store_now,
    )


def forecasts(
    counts: Sequence[int],
    probed: SpeedProbe,
    *,
    dim: int,
    batch_size: int,
    part_rows: int = 0,
    store_now: int = 0,
) -> list[Forecast]:
    """Estimate for every number of images, and every number of workers for which there are enough parts.

    ``part_rows`` 0 gives parts as large as an extraction by so many workers would have.
    """
    found = [
        forecast(
            images,
            probed,
            dim=dim,
            part_rows=part_rows_for(batch_size, part_rows, items=images, processes=workers),
            workers=workers,
            store_now=store_now,
        )
        for images in counts
        for workers in WORKERS
    ]
    return [one for one in found if one.workers == 1 or one.workers <= one.parts]
