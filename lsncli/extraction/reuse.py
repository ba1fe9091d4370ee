"""Encode only images without stored features: new images, and the recorded failures of a finished split.

Recovered rows are inserted in the order of the listing.
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lsncli import console
from lsncli.backbones import Backbone
from lsncli.errors import LsnError
from lsncli.extraction.encoder import Encoder
from lsncli.images.item import ImageItem, Listing
from lsncli.store.format import Chunk, Split
from lsncli.store.reader import read_split
from lsncli.store.staging import FINISH_WAIT, split_lock
from lsncli.store.writer import write_split
from lsncli.types import Failure, Seconds

Features = NDArray[np.float16]


class ReusingEncoder(Encoder):
    """An ``Encoder`` that reuses the features in ``known``, by key."""

    def __init__(
        self,
        backbone: Backbone,
        batch_size: int,
        workers: int,
        progress: console.ProgressCallback,
        known: Mapping[str, Features],
    ) -> None:
        super().__init__(backbone, batch_size, workers, progress)
        self._known = known

    def stream(self, items: Sequence[ImageItem], start: int = 0) -> Generator[Chunk, None, None]:
        """Yield the same batches as ``Encoder.stream``; ``progress`` counts every image."""
        new = [item for item in items[start:] if item.key not in self._known]
        encoded = super().stream(new)
        features: dict[str, Features] = {}
        failures: dict[str, Failure] = {}
        with closing(encoded):
            for first in range(start, len(items), self.batch_size):
                batch = items[first : first + self.batch_size]
                missing = {item.key for item in batch if item.key not in self._known}
                seconds = Seconds()
                while not missing <= features.keys() | failures.keys():
                    chunk = next(encoded)
                    features |= dict(zip(chunk.keys, chunk.features, strict=True))
                    failures |= {failure.key: failure for failure in chunk.failures}
                    seconds += chunk.seconds
                yield self._join(first, batch, features, failures, seconds)
                self.progress(len(batch) - len(missing))
            for _ in encoded:  # the generator counts its last batch when it is resumed
                pass

    def _join(
        self,
        first: int,
        batch: Sequence[ImageItem],
        features: dict[str, Features],
        failures: dict[str, Failure],
        seconds: Seconds,
    ) -> Chunk:
        """Join known and new rows in the order of the batch; removes the new ones from their dictionaries."""
        rows, good = [], []
        for item in batch:
            row = self._known.get(item.key)
            row = features.pop(item.key, None) if row is None else row
            if row is not None:
                rows.append(row)
                good.append(item)
        return Chunk(
            start=first,
            stop=first + len(batch),
            features=np.stack(rows) if rows else np.empty((0, self.fingerprint.dim), dtype=np.float16),
            labels=np.array([item.label for item in good], dtype=np.int32),
            keys=tuple(item.key for item in good),
            failures=tuple(failures.pop(item.key) for item in batch if item.key in failures),
            seconds=seconds,
        )


def retry_failures(
    store: Path, split: str, listing: Listing, classes: tuple[str, ...], encoder: Encoder, source: str
) -> int:
    """Encode the failed images of ``split`` again and write the split with those recovered.

    Returns the number of images that are in the split already. An interruption keeps the rows recovered so
    far. Raises LsnError if anything but failed images has changed since.
    """
    with split_lock(store, split):
        stored = read_split(store, split)
        failed = failed_items(stored, listing, classes)
        unaffected = len(listing.items) - len(failed)
        encoder.progress(unaffected)
        unchanged = stored.failures == listing.problems and stored.listing == listing.digest
        if not failed and unchanged:
            return unaffected
        new: list[Chunk] = []
        batches = encoder.stream(failed)
        try:
            with closing(batches):
                for batch in batches:
                    new.append(batch)
        finally:
            tried = {item.key for item in failed[: new[-1].stop if new else 0]}
            merged = _merge(stored, listing, new, tried, source)
            write_split(store, merged, encoder.fingerprint, replace=True, wait=FINISH_WAIT)
    return unaffected


def failed_items(stored: Split, listing: Listing, classes: tuple[str, ...]) -> list[ImageItem]:
    """Return the items of ``listing`` that are not in the split.

    Raises LsnError unless each is a recorded failure (or lies in a folder that is one) and nothing else has
    changed. The sizes of failed images may change, since repairing an image changes its size.
    """
    label_of = dict(zip(stored.keys, stored.labels.tolist(), strict=True))
    failed = {failure.key for failure in stored.failures}
    folders = tuple(key for key in failed if key.endswith("/"))
    missing = [item for item in listing.items if item.key not in label_of]
    changes = {
        "new": [item.key for item in missing if item.key not in failed and not item.key.startswith(folders)],
        "gone": sorted(label_of.keys() - {item.key for item in listing.items}),
        "of another class": [
            item.key for item in listing.items if label_of.get(item.key, item.label) != item.label
        ],
    }
    for what, keys in changes.items():
        if keys:
            raise LsnError(
                f"--retry-failed: {len(keys)} images are {what} ({console.printable(keys[0])}).",
                "Extract all of them again with --overwrite, or into another --split.",
            )
    if stored.classes != classes:
        raise LsnError(
            "--retry-failed: the class names have changed.", "Give the --classes file of the first run."
        )
    return missing


def _merge(stored: Split, listing: Listing, new: Sequence[Chunk], tried: set[str], source: str) -> Split:
    """Return the stored split with the recovered rows, in the order of the listing."""
    position = {item.key: index for index, item in enumerate(listing.items)}
    keys = [*stored.keys, *(key for batch in new for key in batch.keys)]
    order = np.argsort(np.array([position[key] for key in keys], dtype=np.int64))
    failures = [row for row in stored.failures if row.key in position and row.key not in tried]
    failures += [failure for batch in new for failure in batch.failures]
    return Split(
        name=stored.name,
        features=np.concatenate([stored.features, *(batch.features for batch in new)])[order],
        labels=np.concatenate([stored.labels, *(batch.labels for batch in new)])[order],
        keys=tuple(keys[index] for index in order),
        classes=stored.classes,
        failures=(*listing.problems, *sorted(failures, key=lambda failure: position[failure.key])),
        source=source,
        listing=listing.digest,
    )
