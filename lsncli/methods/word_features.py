"""Text features of many words, computed once for each model and kept in the user's cache folder.

WordNet has 70,000 words: minutes for a text tower on a CPU. They are encoded in chunks. Each chunk is a file
that is named by everything it depends on, so a killed run goes on where it was, and all workspaces share the
files.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from lsncli.console import ProgressCallback, silent
from lsncli.machine import cache_folder
from lsncli.methods.cache import Cache, digest
from lsncli.methods.source_digest import code_of
from lsncli.prompts.layout import TextTower
from lsncli.prompts.text_features import text_features
from lsncli.types import unit

AT_ONCE = 1024
"""Words of a chunk: what a kill loses."""
FEATURES = "features"


@dataclass(frozen=True)
class WordEncoder:
    """Text features with one model. ``model`` is the digest of its fingerprint and ``code`` its loader."""

    tower: TextTower
    model: str
    code: tuple[str, ...] = ()
    cache: Cache | None = None
    """None keeps chunks in the user's cache folder."""

    def encode(self, texts: Sequence[Sequence[str]]) -> NDArray[np.float32]:
        """Return unit text features (V, D) of a few words, without the cache."""
        return encode(self.tower, texts)

    def __call__(
        self, texts: Sequence[Sequence[str]], progress: ProgressCallback = silent
    ) -> NDArray[np.float32]:
        """Return unit text features (V, D) of words given by their ``texts``, of which it takes the mean.

        As in CSP, the mean is of raw text features and not of unit ones. ``progress`` counts words. Raises
        LsnError for a text that is too long for the tower.
        """
        chunks = []
        for start, key in self.chunks(texts):
            part = texts[start : start + AT_ONCE]
            found = self._kept.get(key)
            features = encode(self.tower, part) if found is None else found[0][FEATURES]
            if found is None:
                self.keep(key, features)
            chunks.append(features)
            progress(len(part))
        return np.concatenate(chunks) if chunks else np.empty((0, 0), np.float32)

    def chunks(self, texts: Sequence[Sequence[str]]) -> list[tuple[int, str]]:
        """Return the first word and the key in the cache of each chunk."""
        source = code_of(encode, *self.code)
        depends = "words", source, self.model, self.tower.path
        return [
            (start, digest(*depends, [list(each) for each in texts[start : start + AT_ONCE]]))
            for start in range(0, len(texts), AT_ONCE)
        ]

    def missing(self, texts: Sequence[Sequence[str]]) -> int:
        """Return how many of the words are in no chunk of the cache."""
        kept = [start for start, key in self.chunks(texts) if self._kept.get(key) is not None]
        return len(texts) - sum(len(texts[start : start + AT_ONCE]) for start in kept)

    def keep(self, key: str, features: NDArray[np.float32]) -> None:
        """Write the features of a chunk to the cache."""
        self._kept.put(key, {FEATURES: features}, {"what": f"text features of {len(features)} words"})

    @property
    def _kept(self) -> Cache:
        return self.cache if self.cache is not None else Cache(cache_folder() / "words")


@torch.no_grad()
def encode(tower: TextTower, texts: Sequence[Sequence[str]]) -> NDArray[np.float32]:
    """Return the unit mean (V, D) of the raw text features of each word's texts."""
    flat = [text for each in texts for text in each]
    counts = np.array([len(each) for each in texts])
    features = text_features(tower, flat, raw=True).cpu().numpy().astype(np.float64)
    sums = np.add.reduceat(features, np.concatenate([[0], np.cumsum(counts)[:-1]]), axis=0)
    return unit(sums / counts[:, None]).astype(np.float32)
