"""Read the recorded failures of a finished split again, and put what is recovered where it belongs."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from lsncli import console
from lsncli.errors import LsnError
from lsncli.extraction.encoder import EncodedBatch, Encoder
from lsncli.images.item import ImageItem, Listing
from lsncli.store.format import Split
from lsncli.store.reader import read_split
from lsncli.store.staging import FINISH_WAIT, split_lock
from lsncli.store.writer import write_split


def retry_failures(
    store: Path, split: str, listing: Listing, classes: tuple[str, ...], encoder: Encoder, source: str
) -> int:
    """Encode the failed images of ``split`` again and write the split with those recovered.

    Returns how many images were left alone because they are in the split. What was done before an
    interruption is kept. Raises LsnError if anything but failed images has changed since.
    """
    with split_lock(store, split):
        stored = read_split(store, split)
        todo = failed_items(stored, listing, classes)
        kept = len(listing.items) - len(todo)
        encoder.progress(kept)
        unchanged = stored.failures == listing.problems and stored.listing == listing.digest
        if not todo and unchanged:
            return kept
        fresh: list[EncodedBatch] = []
        batches = encoder.stream(todo)
        try:
            with closing(batches):
                for batch in batches:
                    fresh.append(batch)
        finally:
            tried = {item.key for item in todo[: fresh[-1].stop if fresh else 0]}
            merged = _merged(stored, listing, fresh, tried, source)
            write_split(store, merged, encoder.fingerprint, replace=True, wait=FINISH_WAIT)
    return kept


def failed_items(stored: Split, listing: Listing, classes: tuple[str, ...]) -> list[ImageItem]:
    """The items of ``listing`` that are not in the split.

    Raises LsnError unless each is a recorded failure (or lies in a folder that is one) and nothing else has
    changed. The sizes of failed images may: that is what repairing them does.
    """
    label_of = dict(zip(stored.keys, stored.labels.tolist(), strict=True))
    failed = {failure.key for failure in stored.failures}
    folders = tuple(key for key in failed if key.endswith("/"))
    todo = [item for item in listing.items if item.key not in label_of]
    changes = {
        "new": [one.key for one in todo if one.key not in failed and not one.key.startswith(folders)],
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
    return todo


def _merged(
    stored: Split, listing: Listing, fresh: Sequence[EncodedBatch], tried: set[str], source: str
) -> Split:
    """The stored split with the recovered rows at their place in the listing."""
    position = {item.key: index for index, item in enumerate(listing.items)}
    keys = [*stored.keys, *(key for batch in fresh for key in batch.keys)]
    order = np.argsort(np.array([position[key] for key in keys], dtype=np.int64))
    still = [one for one in stored.failures if one.key in position and one.key not in tried]
    still += [one for batch in fresh for one in batch.failures]
    return Split(
        name=stored.name,
        features=np.concatenate([stored.features, *(batch.features for batch in fresh)])[order],
        labels=np.concatenate([stored.labels, *(batch.labels for batch in fresh)])[order],
        keys=tuple(keys[index] for index in order),
        classes=stored.classes,
        failures=(*listing.problems, *sorted(still, key=lambda one: position[one.key])),
        source=source,
        listing=listing.digest,
    )
