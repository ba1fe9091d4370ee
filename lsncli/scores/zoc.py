"""ZOC: how much of the softmax goes to labels that a caption decoder proposes for the image itself."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from lsncli.errors import LsnError
from lsncli.scores.common import CHUNK, check_features, cosines, logits
from lsncli.scores.score import Score, Scorer
from lsncli.types import Float64Array, FloatArray, Head, LearnedArrays

PROMPT = "This is a photo of a {}"
"""ZOC's prompt, for classes and candidates alike."""

CELLS = 1 << 24
"""Cosines (128 MB) at a time."""


@dataclass(frozen=True)
class Zoc(Score):
    """Minus the probability of labels that are no class; higher = more ID, in [-1, 0].

    Formula: S(x) = -sum_{u in U(x)} softmax_u(s cos(x, t)), the softmax over the C classes and the candidate
    labels U(x) of this very image, t the text features of "This is a photo of a {}", s = 100. U(x) are the
    words that a decoder which reads the image proposes, less the names of the classes.

    U(x) differs from image to image and cannot be told from a feature, so this is no function of features:
    whoever has the candidates (`lsn candidates`) calls ``zoc_scores``.

    Paper: Esmaeilpour et al., Zero-shot out-of-distribution detection based on the pre-trained model CLIP,
    AAAI 2022.
    Source: github.com/sesmae/ZOC, cifar100_eval.py.
    Default: s is the head's scale, CLIP's 100.
    """

    NEEDS: ClassVar[frozenset[str]] = frozenset({"candidates"})
    REDUCED: ClassVar[str] = "candidates from CoCa or your own lists, not from ZOC's BERT decoder"

    def inputs(self) -> str:
        """Return the required input; see ``Score.inputs``."""
        return "candidates"

    def scorer(self, head: Head, learned: LearnedArrays, device: str = "cpu") -> Scorer:
        """Raise LsnError: a feature alone does not determine the candidates of its image."""
        raise LsnError(
            "The score 'zoc' needs candidate labels of each image; features alone do not tell them.",
            "Run `lsn candidates` for every split, then `lsn eval --method zoc`.",
        )


@dataclass(frozen=True, eq=False)
class Candidates:
    """Candidate labels of N images: those of image i are ``words[indices[indptr[i] : indptr[i + 1]]]``.

    ``words`` differ from one another, and so do those of one image; an image may have none.
    """

    words: tuple[str, ...]
    indptr: NDArray[np.int64]
    indices: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def without(self, labels: Collection[str]) -> "Candidates":
        """Return the candidates without ``labels``, in any case, and without words of no image."""
        seen = {_plain(label) for label in labels}
        remaining = np.array([_plain(word) not in seen for word in self.words], dtype=bool)[self.indices]
        indptr = np.concatenate([[0], np.cumsum(remaining)])[self.indptr]
        used, indices = np.unique(self.indices[remaining], return_inverse=True)
        return Candidates(tuple(self.words[i] for i in used), indptr, indices.reshape(-1))


def zoc_scores(
    head: Head, features: FloatArray, candidates: Candidates, vocabulary: FloatArray
) -> Float64Array:
    """Return scores (N,) of raw ``features`` (N, D); higher = more ID.

    ``vocabulary`` (V, D) are the unit text features of ``candidates.words``. An image without candidates has
    score 0, the highest. Memory is bounded for any N and V. Raises LsnError unless there are as many features
    as images and as many words as text features, and for a linear probe, whose logits have another scale.
    """
    if len(candidates) != len(features) or len(candidates.words) != len(vocabulary):
        raise LsnError(
            f"Candidates of {len(candidates)} images in {len(candidates.words)} words do not belong to "
            f"{len(features)} features and {len(vocabulary)} text features."
        )
    if head.bias is not None:
        raise LsnError(
            "The score 'zoc' compares candidate words with words of classes, and a linear probe has none.",
            "Take zoc, zoc:ensemble or zoc:positive.",
        )
    if not len(candidates.words):
        check_features(features, features.shape[-1])
        return np.zeros(len(features))
    rows = max(1, min(CHUNK, CELLS // (len(vocabulary) + len(head.classes))))
    parts = [
        _scores(head, features, candidates, vocabulary, slice(start, min(start + rows, len(features))))
        for start in range(0, len(features), rows)
    ]
    return np.concatenate([np.empty(0), *parts])


def _scores(
    head: Head, features: FloatArray, candidates: Candidates, vocabulary: FloatArray, rows: slice
) -> Float64Array:
    classes, part = logits(head, features[rows]), features[rows]
    counts = np.diff(candidates.indptr[rows.start : rows.stop + 1])
    indices = candidates.indices[candidates.indptr[rows.start] : candidates.indptr[rows.stop]]
    used, column = np.unique(indices, return_inverse=True)
    row = np.repeat(np.arange(len(part)), counts)
    words = head.scale * cosines(part, vocabulary[used])[row, column.reshape(-1)]
    top = classes.max(axis=1)
    np.maximum.at(top, row, words)
    inside = np.exp(classes - top[:, None]).sum(axis=1)
    outside = np.bincount(row, np.exp(words - top[row]), minlength=len(part))
    scores: Float64Array = -outside / (inside + outside)
    return scores


def _plain(label: str) -> str:
    return " ".join(label.casefold().split())
