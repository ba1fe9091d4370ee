"""Types that every layer shares: array aliases and records."""

import json
from collections.abc import Callable
from dataclasses import asdict, astuple, dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsncli.validation import parse_json, validate

FloatArray = NDArray[np.floating[Any]]
"""Features (N, D), text features (C, D) or scores (N,), in any float precision."""

Float64Array = NDArray[np.float64]
"""The precision in which scores and metrics are computed and returned."""

CosineFunction = Callable[[FloatArray], Float64Array]
"""Raw features (N, D) to cosines (N, C), or for K sets of negative prompts (K, N, C)."""

Labels = NDArray[np.int32]
"""Class indices (N,); -1 means unlabelled."""

UNLABELLED = -1

LearnedArrays = dict[str, NDArray[Any]]
"""The arrays that a score learned from training rows, by name; a detector stores them."""


@dataclass(frozen=True)
class Failure:
    """An image that could not be used: its key and the reason, in one line each."""

    key: str
    reason: str


def content(array: NDArray[Any]) -> str:
    """Return the sha256 of the type, shape and bytes of an array."""
    digest = sha256(f"{array.dtype.str}{array.shape}".encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


@dataclass(frozen=True)
class Seconds:
    """The time spent in each stage from images to rows, in seconds. The stages overlap.

    ``read``, ``decode`` (with the model's preprocessing) and ``encode`` are sums over threads; ``waiting`` is
    the time in which the encoder had no pixels, ``write`` the time in which its batches were consumed.
    """

    read: float = 0.0
    decode: float = 0.0
    waiting: float = 0.0
    encode: float = 0.0
    write: float = 0.0

    def __add__(self, other: "Seconds") -> "Seconds":
        return Seconds(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class Rows:
    """Labelled feature rows: ``features`` (N, D) raw (not normalised), ``labels`` (N,)."""

    features: FloatArray
    labels: Labels

    @cached_property
    def content(self) -> str:
        """The digest of the features, computed once because many methods need it."""
        return content(self.features)

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Head:
    """A classifier on unit features x: logits = ``scale`` * ``weights`` x + ``bias``.

    ``weights`` are unit text features (C, D), one row a class, so that ``weights`` x are cosines; for prompts
    that depend on the image (CoCoOp) a function from raw features to cosines; or the rows of a linear probe,
    whose ``scale`` is 1. ``scale`` of text is CLIP's logit scale (100, not its logarithm), ``bias`` (C,) is
    None for no bias. ``negative`` are K sets of negative prompts, (K, C, D) or a function to cosines, None
    where none were learned. ``scores.common`` computes cosines and logits.
    """

    classes: tuple[str, ...]
    weights: Float64Array | CosineFunction
    scale: float = 100.0
    negative: Float64Array | CosineFunction | None = None
    bias: Float64Array | None = None

    @property
    def conditional(self) -> bool:
        """Whether some prompts depend on the image, so that every image needs a pass of the text tower."""
        return callable(self.weights) or callable(self.negative)


def unit(vectors: FloatArray) -> Float64Array:
    """Scale rows to length one along the last axis, in float64. A zero row stays zero."""
    wide = np.asarray(vectors, dtype=np.float64)
    norms = np.linalg.norm(wide, axis=-1, keepdims=True)
    return wide / np.where(norms == 0, 1.0, norms)


@dataclass(frozen=True)
class Fingerprint:
    """The identity, to the bit, of the model that made features.

    Features of models with different digests must not be mixed. ``pretrained`` (the location of the weights)
    is stored so that the model can be loaded again, but is not part of the digest: the same weights at
    another path are the same model.
    """

    model: str
    pretrained: str
    weights: str  # sha256 of all weights, hexadecimal
    dim: int
    image_size: int
    interpolation: str
    resize_mode: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    precision: str
    logit_scale: float
    decode: str = "exact"  # or "fast": see ``lsncli.images.fast_decode``; other pixels, so other features

    @property
    def digest(self) -> str:
        """The first 16 hexadecimal digits of the sha256 over every field but ``pretrained``."""
        fields = {name: value for name, value in self._fields().items() if name != "pretrained"}
        return sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """Return the fields as one line of JSON, for a store or an artefact."""
        return json.dumps(self._fields(), sort_keys=True)

    def _fields(self) -> dict[str, Any]:
        """Return the fields, without an exact ``decode``, so that older files stay valid."""
        fields = asdict(self)
        if self.decode == "exact":
            del fields["decode"]
        return fields

    @classmethod
    def from_json(cls, text: str) -> "Fingerprint":
        """Read the fields from the JSON of ``to_json``. Raises ValueError or TypeError for invalid text."""
        return validate(cls, parse_json(text), "fingerprint")

    def __str__(self) -> str:
        weights = f":{self.pretrained}" if self.pretrained else ""
        decode = "" if self.decode == "exact" else f" {self.decode} decoding"
        return f"{self.model}{weights} {self.precision}{decode} [{self.digest}]"
