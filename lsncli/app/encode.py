"""Images -> features, batch by batch, without a store: decoding in threads, encoding in this one."""

import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from lsncli import console
from lsncli.backbones import Backbone
from lsncli.errors import LsnError
from lsncli.images.loader import Batch, load_batches
from lsncli.images.sources import ImageItem
from lsncli.store.format import Piece
from lsncli.types import Failure


@dataclass(frozen=True, eq=False)
class EncodedBatch(Piece):
    """A batch of features, and how long it was waited for (decoding) and computed, in seconds."""

    wait_seconds: float = 0.0
    encode_seconds: float = 0.0


def encode_stream(
    items: Sequence[ImageItem], backbone: Backbone, *, batch_size: int, workers: int, start: int = 0
) -> Generator[EncodedBatch, None, None]:
    """Encode ``items[start:]`` in order; ``start`` is a border of batches.

    Features are (B, D) float16, raw. An image that cannot be read, and one whose features are not finite or
    all zero (no direction, so no cosine), is among the batch's failures instead. Close the iterator to stop
    its threads early. Raises UsageError for sizes that cannot be meant, LsnError if memory runs out.
    """
    batches = load_batches(items, backbone.preprocess, batch_size=batch_size, workers=workers, start=start)
    began = time.perf_counter()
    with closing(batches):
        for batch in batches:
            yield encode_batch(batch, backbone, time.perf_counter() - began)
            began = time.perf_counter()


def encode_batch(batch: Batch, backbone: Backbone, wait_seconds: float = 0.0) -> EncodedBatch:
    """Encode pixels that were read, as ``encode_stream`` does."""
    began = time.perf_counter()
    features = _features(backbone, batch.pixels)
    return _sound_rows(batch, features, wait_seconds, time.perf_counter() - began)


class Encoder:
    """How one command encodes, and where its time went."""

    def __init__(self, backbone: Backbone, batch_size: int, workers: int, tick: console.Tick) -> None:
        self.fingerprint = backbone.fingerprint
        self.batch_size = batch_size
        self.wait_seconds = self.encode_seconds = 0.0
        self.images = 0
        self.tick = tick
        self._backbone, self._workers = backbone, workers

    @property
    def images_per_second(self) -> float:
        """Of the images encoded so far; 0 if none were."""
        seconds = self.wait_seconds + self.encode_seconds
        return self.images / seconds if seconds else 0.0

    def stream(self, items: Sequence[ImageItem], start: int = 0) -> Generator[EncodedBatch, None, None]:
        """``encode_stream``, counting; ``tick`` hears of a batch once the caller is done with it."""
        batches = encode_stream(
            items, self._backbone, batch_size=self.batch_size, workers=self._workers, start=start
        )
        with closing(batches):
            for batch in batches:
                self.wait_seconds += batch.wait_seconds
                self.encode_seconds += batch.encode_seconds
                self.images += batch.stop - batch.start
                yield batch
                self.tick(batch.stop - batch.start)


def _features(backbone: Backbone, pixels: torch.Tensor) -> NDArray[np.float16]:
    if not len(pixels):
        return np.empty((0, backbone.fingerprint.dim), dtype=np.float16)
    try:
        return backbone.encode(pixels)
    except torch.cuda.OutOfMemoryError as error:
        raise LsnError(
            f"The device has no memory for a batch of {len(pixels)} images.",
            "Use a smaller --batch-size, or --precision fp16.",
        ) from error


def _sound_rows(
    batch: Batch, features: NDArray[np.float16], wait_seconds: float, encode_seconds: float
) -> EncodedBatch:
    """The rows that can be used; the others are failures, sorted by key with the rest."""
    finite = np.asarray(np.isfinite(features).all(axis=1))
    good = finite & features.any(axis=1)
    unsound = tuple(
        Failure(key, "the features are all zero" if is_finite else "the features are not finite")
        for key, is_good, is_finite in zip(batch.keys, good, finite, strict=True)
        if not is_good
    )
    return EncodedBatch(
        start=batch.start,
        stop=batch.stop,
        features=features[good],
        labels=batch.labels[good],
        keys=tuple(key for key, is_good in zip(batch.keys, good, strict=True) if is_good),
        failures=tuple(sorted(batch.failures + unsound, key=lambda failure: failure.key)),
        wait_seconds=wait_seconds,
        encode_seconds=encode_seconds,
    )
