"""Encode only images whose features are not known yet."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing

import numpy as np
from numpy.typing import NDArray

from lsncli import console
from lsncli.backbones import Backbone
from lsncli.extraction.encoder import EncodedBatch, Encoder
from lsncli.images.item import ImageItem
from lsncli.types import Failure, Seconds

Features = NDArray[np.float16]


class ReusingEncoder(Encoder):
    """An ``Encoder`` that takes the features in ``known``, by key, as they are."""

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

    def stream(self, items: Sequence[ImageItem], start: int = 0) -> Generator[EncodedBatch, None, None]:
        """Batches of the same borders as ``Encoder.stream`` makes; ``progress`` counts every image."""
        new = [item for item in items[start:] if item.key not in self._known]
        encoded = super().stream(new)
        features: dict[str, Features] = {}
        failures: dict[str, Failure] = {}
        with closing(encoded):
            for first in range(start, len(items), self.batch_size):
                batch = items[first : first + self.batch_size]
                asked = {item.key for item in batch if item.key not in self._known}
                seconds = Seconds()
                while not asked <= features.keys() | failures.keys():
                    made = next(encoded)
                    features |= dict(zip(made.keys, made.features, strict=True))
                    failures |= {one.key: one for one in made.failures}
                    seconds += made.seconds
                yield self._joined(first, batch, features, failures, seconds)
                self.progress(len(batch) - len(asked))
            for _ in encoded:  # nothing is left but to count the last batch
                pass

    def _joined(
        self,
        first: int,
        batch: Sequence[ImageItem],
        features: dict[str, Features],
        failures: dict[str, Failure],
        seconds: Seconds,
    ) -> EncodedBatch:
        """Known and new rows of one batch in its order; what is handed on is forgotten."""
        rows, good = [], []
        for item in batch:
            row = self._known.get(item.key)
            row = features.pop(item.key, None) if row is None else row
            if row is not None:
                rows.append(row)
                good.append(item)
        return EncodedBatch(
            start=first,
            stop=first + len(batch),
            features=np.stack(rows) if rows else np.empty((0, self.fingerprint.dim), dtype=np.float16),
            labels=np.array([item.label for item in good], dtype=np.int32),
            keys=tuple(item.key for item in good),
            failures=tuple(failures.pop(item.key) for item in batch if item.key in failures),
            seconds=seconds,
        )
