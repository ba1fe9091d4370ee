"""Splits and chunks: their fields, their validation and their checksums (see README.md)."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from lsncli.errors import UsageError
from lsncli.types import UNLABELLED, Failure, Fingerprint, FloatArray, Labels, Rows, Seconds

FORMAT = "lsn-features"
FORMAT_VERSION = 1
EXTERNAL_ROWS_VERSION = 2  # of a store with external rows, which older versions cannot read
SOURCE_BYTES = 32768  # an HDF5 attribute has at most 64 KiB
MAX_COSINE_LOSS = 1e-6
"""Largest allowed difference from 1 of the cosine between a feature and its float16 version.

Rounding to 11 bits costs at most 1.2e-7. More is lost by values that float16 stores with fewer bits (below
6.1e-5) or not at all (below 3e-8)."""
RowBatch = tuple[FloatArray, Labels, Sequence[str]]
"""A batch of rows: features (n, D), labels (n,), keys."""

SPLIT_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,64}")


def shortest_safe_length(dim: int) -> float:
    """Return the norm above which no feature (dim,) loses more than MAX_COSINE_LOSS in float16."""
    return float(2.0**-25 * np.sqrt(dim / (2 * MAX_COSINE_LOSS)))


@dataclass(frozen=True, eq=False)
class Chunk:
    """The encoded items ``start`` to ``stop`` of a listing.

    ``features`` (n, D) float16, ``labels`` (n,) and ``keys`` of the items that could be encoded, the
    ``failures`` of the others, and the ``seconds`` that all of them took.
    """

    start: int
    stop: int
    features: NDArray[np.float16]
    labels: Labels
    keys: tuple[str, ...]
    failures: tuple[Failure, ...]
    seconds: Seconds = field(default_factory=Seconds)


@dataclass(frozen=True, eq=False)
class Split:
    """A named set of rows with its classes and failures.

    ``features`` (N, D) float16, not normalised; ``labels`` (N,) int32, indices into ``classes`` (-1:
    unlabelled); unique ``keys``; the ``failures``; a description of the ``source``; the digest of its
    ``listing`` ("" if there was none).
    """

    name: str
    features: FloatArray
    labels: Labels
    keys: Sequence[str]
    classes: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()
    source: str = ""
    listing: str = ""

    @cached_property
    def rows(self) -> Rows:
        """Features and labels."""
        return Rows(self.features, self.labels)


@dataclass(frozen=True)
class SplitInfo:
    """The description of a split: all but its rows."""

    name: str
    rows: int
    dim: int
    classes: tuple[str, ...]
    failures: tuple[Failure, ...]
    source: str
    listing: str
    created_by: str


def check_split_name(name: str) -> None:
    """Raise UsageError unless ``name`` is 1 to 64 letters, digits, '-', '_' or '.'.

    Names of dots alone are folders, and ``*.lock`` is the lock file of a split: both are refused.
    """
    if not SPLIT_NAME.fullmatch(name) or not name.strip(".") or name.endswith(".lock"):
        raise UsageError(
            f"'{name}' cannot be the name of a split.", "Use 1 to 64 letters, digits, '-', '_' or '.'."
        )


def to_bytes(text: str) -> bytes:
    """Encode as UTF-8; undecodable bytes of file names are restored (surrogateescape)."""
    return text.encode("utf-8", "surrogateescape")


def is_storable(text: str) -> bool:
    """Return whether ``text`` survives storage: no NUL, no surrogate that is not an escaped byte."""
    try:
        return "\0" not in text and to_bytes(text).decode("utf-8", "surrogateescape") == text
    except UnicodeEncodeError:
        return False


class Checksum:
    """The checksum of rows: sha256 of the sha256s of features, labels and keys (each followed by NUL).

    The three are updated in parallel, so that rows can be added in blocks.
    """

    def __init__(self) -> None:
        self._digests = (hashlib.sha256(), hashlib.sha256(), hashlib.sha256())

    def add(self, features: FloatArray, labels: Labels, keys: Sequence[str]) -> None:
        """Add rows: ``features`` (n, D), ``labels`` (n,), ``keys`` n."""
        of_features, of_labels, of_keys = self._digests
        of_features.update(np.ascontiguousarray(features, dtype="<f2").data)
        of_labels.update(np.ascontiguousarray(labels, dtype="<i4").data)
        of_keys.update(b"".join(to_bytes(key) + b"\0" for key in keys))

    def hexdigest(self) -> str:
        """Return the checksum of all rows added so far, hexadecimal."""
        return joined_digest(digest.digest() for digest in self._digests)


def joined_digest(parts: Iterable[bytes]) -> str:
    """Return the checksum of rows from the sha256 digests of features, labels and keys, hexadecimal."""
    return hashlib.sha256(b"".join(parts)).hexdigest()


def digest_texts(texts: Iterable[str]) -> str:
    """Return the sha256 of texts, each followed by NUL, hexadecimal."""
    return hashlib.sha256(b"".join(to_bytes(text) + b"\0" for text in texts)).hexdigest()


def metadata_checksum(info: SplitInfo, fingerprint: Fingerprint) -> str:
    """Return the checksum of a split's description and of the model of its features."""
    failures = (text for failure in info.failures for text in (failure.key, failure.reason))
    counts = (str(info.rows), str(len(info.classes)), str(len(info.failures)))
    texts = (*info.classes, *failures, info.source, info.listing, info.created_by)
    return digest_texts((fingerprint.to_json(), info.name, *counts, *texts))


def text_checksum(classes: Sequence[str], features: FloatArray) -> str:
    """Return the checksum of text features (C, D) and their classes."""
    return digest_texts(
        (hashlib.sha256(np.ascontiguousarray(features, dtype="<f4").data).hexdigest(), *classes)
    )


class RowCheck:
    """Validate rows block by block; ``classes`` is the number of classes."""

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self._labels: list[int] = []  # lowest and highest
        self._bad = self._zero = 0

    def add(self, features: FloatArray, labels: Labels) -> None:
        """Add rows: ``features`` (n, D), ``labels`` (n,)."""
        if len(labels):
            seen = (*self._labels, int(labels.min()), int(labels.max()))
            self._labels = [min(seen), max(seen)]
        self._bad += int((~np.isfinite(features)).any(axis=1).sum())
        self._zero += int((~features.any(axis=1)).sum())

    def problems(self) -> list[str]:
        """Return a sentence for each problem."""
        problems = []
        if self._labels and (self._labels[0] < UNLABELLED or self._labels[1] >= self._classes):
            low, high = self._labels
            problems.append(f"labels must lie in -1..{self._classes - 1}, found {low}..{high}")
        if self._bad:
            problems.append(f"{self._bad} rows are not finite")
        if self._zero:
            problems.append(f"{self._zero} rows are all zero")
        return problems


def split_problems(split: Split, dim: int) -> list[str]:
    """Validate a split of features of ``dim`` dimensions: return a sentence for each problem."""
    problems = _shape_problems(split, dim)
    if problems:
        return problems
    check = RowCheck(len(split.classes))
    # One block at a time: a mask of a million rows would be as large as the features.
    for start in range(0, len(split.features), 65536):
        block = slice(start, start + 65536)
        check.add(split.features[block], split.labels[block])
    texts = text_problems(split.keys, split.classes, split.failures, split.source, split.listing)
    return check.problems() + texts


def text_problems(
    keys: Sequence[str],
    classes: Sequence[str],
    failures: Sequence[Failure],
    source: str,
    listing: str,
) -> list[str]:
    """Validate the texts of a split: return a sentence for each problem."""
    problems = []
    for what, texts in (("key", keys), ("class", classes)):
        if len(set(texts)) < len(texts):
            repeated, count = Counter(texts).most_common(1)[0]
            problems.append(f"the {what} {repeated!r} occurs {count} times")
    if len(source.encode("utf-8", "replace")) > SOURCE_BYTES:
        problems.append(f"the source must be at most {SOURCE_BYTES} bytes long")
    of_failures = (text for failure in failures for text in (failure.key, failure.reason))
    for text in chain(keys, classes, of_failures, (source, listing)):
        if not is_storable(text):
            problems.append(f"{text!r} holds a character that cannot be stored")
            break
    return problems


def _shape_problems(split: Split, dim: int) -> list[str]:
    shape = split.features.shape
    if len(shape) != 2 or shape[1] != dim:
        return [f"features must be (rows, {dim}), found {shape}"]
    if split.features.dtype != np.float16:
        return [f"features must be float16, found {split.features.dtype}"]
    if split.labels.dtype != np.int32:
        return [f"labels must be int32, found {split.labels.dtype}"]
    if split.labels.shape != (shape[0],) or len(split.keys) != shape[0]:
        return [
            f"features, labels and keys must be equally many, "
            f"found {shape[0]}, {split.labels.shape} and {len(split.keys)}"
        ]
    return []
