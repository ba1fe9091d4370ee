"""Images -> features, batch by batch, without a store: reading, decoding and encoding go on at once."""

import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from lsncli import console
from lsncli.app.abreast import batches_abreast, compute_alone
from lsncli.app.memory import keep_freed_memory
from lsncli.app.prefetch import ENCODERS, mover, own_stream
from lsncli.app.stages import in_threads
from lsncli.backbones import Backbone
from lsncli.errors import LsnError
from lsncli.images.decode import decode
from lsncli.images.fast import fast_decoder
from lsncli.images.loader import Batch, Pixels, load_batches
from lsncli.images.sources import ImageItem
from lsncli.images.watched import Together
from lsncli.store.format import Piece, shortest
from lsncli.types import Failure, Seconds


@dataclass(frozen=True, eq=False)
class EncodedBatch(Piece):
    """A batch of features, and what its images cost; ``write`` is 0, only the caller knows it."""

    seconds: Seconds = field(default_factory=Seconds)


def pixels_of(backbone: Backbone) -> Pixels:
    """How bytes become the pixels of this model: exactly or fast, as its fingerprint says.

    Raises Unavailable if fast decoding is not installed.
    """
    rgb = fast_decoder() if backbone.fingerprint.decode == "fast" else decode
    return lambda data: backbone.preprocess(rgb(data))


def encode_stream(
    items: Sequence[ImageItem], backbone: Backbone, *, batch_size: int, workers: int, start: int = 0
) -> Generator[EncodedBatch, None, None]:
    """Encode ``items[start:]`` in order; ``start`` is a border of batches.

    Encoding goes on in threads of its own while the caller is busy with a batch, one or two ahead; on a CPU a
    batch is one thread's work, so that features do not depend on how many threads there are. Features are
    (B, D) float16, raw. An image that cannot be read, and one whose features are not finite, all zero (no
    direction, so no cosine) or too small for float16, is among the batch's failures instead. Close the
    iterator to stop its threads early. Raises UsageError for invalid sizes, Unavailable if fast decoding is
    not installed, LsnError if memory runs out.
    """
    keep_freed_memory()
    device = backbone.device
    on_cuda = device.type == "cuda"
    together = Together()
    batches = load_batches(
        items,
        pixels_of(backbone),
        batch_size=batch_size,
        workers=workers,
        start=start,
        pinned=on_cuda,
        together=together,
    )
    if on_cuda:
        batches = in_threads(batches, mover(device), name="lsn-move")

    def encode(waited: tuple[float, Batch]) -> EncodedBatch:
        seconds, batch = waited
        compute_alone(device)
        with own_stream(device):
            encoded = encode_batch(batch, backbone, seconds)
        batch.release()
        return encoded

    with batches_abreast(device) as abreast:
        threads = ENCODERS if on_cuda else abreast
        waited_for = _waited_for(batches)
        # Whoever is interrupted does not wait for an image that takes long.
        yield from in_threads(waited_for, encode, threads=threads, name="lsn-encode", stop=together.end)


def encode_batch(batch: Batch, backbone: Backbone, wait_seconds: float = 0.0) -> EncodedBatch:
    """Encode pixels that were read, as ``encode_stream`` does."""
    began = time.perf_counter()
    features = _features(backbone, batch.pixels)
    took = Seconds(waiting=wait_seconds, encode=time.perf_counter() - began)
    return _sound_rows(batch, features, batch.seconds + took)


class Encoder:
    """How one command encodes, and where its time went."""

    def __init__(self, backbone: Backbone, batch_size: int, workers: int, tick: console.Tick) -> None:
        self.fingerprint = backbone.fingerprint
        self.batch_size = batch_size
        self.seconds = Seconds()
        self.elapsed = 0.0
        self.images = 0
        self.tick = tick
        self._backbone, self._workers = backbone, workers
        pixels_of(backbone)  # what is not installed is said before anything is begun

    @property
    def device(self) -> str:
        """What it computes on."""
        return str(self._backbone.device)

    @property
    def images_per_second(self) -> float:
        """Of the images encoded so far; 0 if none were."""
        return self.images / self.elapsed if self.elapsed else 0.0

    def stream(self, items: Sequence[ImageItem], start: int = 0) -> Generator[EncodedBatch, None, None]:
        """``encode_stream``, counting; ``tick`` hears of a batch once the caller is done with it."""
        began = time.perf_counter()
        batches = encode_stream(
            items, self._backbone, batch_size=self.batch_size, workers=self._workers, start=start
        )
        with closing(batches):
            for batch in batches:
                given = time.perf_counter()
                yield batch
                now = time.perf_counter()
                self.seconds += replace(batch.seconds, write=now - given)
                self.elapsed, began = self.elapsed + now - began, now
                self.images += batch.stop - batch.start
                self.tick(batch.stop - batch.start)


def _waited_for(batches: Generator[Batch, None, None]) -> Generator[tuple[float, Batch], None, None]:
    """Each batch with the seconds until it came."""
    began = time.perf_counter()
    with closing(batches):
        for batch in batches:
            yield time.perf_counter() - began, batch
            del batch
            began = time.perf_counter()


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


def _sound_rows(batch: Batch, features: NDArray[np.float16], seconds: Seconds) -> EncodedBatch:
    """The rows that can be used; the others are failures, sorted by key with the rest."""
    wide = features.astype(np.float32)
    lengths = np.linalg.norm(np.where(np.isfinite(wide), wide, 0), axis=1)
    reasons = np.select(
        [~np.isfinite(wide).all(axis=1), lengths == 0, lengths < shortest(features.shape[1])],
        ["not finite", "all zero", "too small for float16, in which they are stored"],
        default="",
    )
    good = reasons == ""
    unsound = tuple(
        Failure(key, f"the features are {reason}")
        for key, reason in zip(batch.keys, reasons, strict=True)
        if reason
    )
    return EncodedBatch(
        start=batch.start,
        stop=batch.stop,
        features=features[good],
        labels=batch.labels[good],
        keys=tuple(key for key, is_good in zip(batch.keys, good, strict=True) if is_good),
        failures=tuple(sorted(batch.failures + unsound, key=lambda failure: failure.key)),
        seconds=seconds,
    )
