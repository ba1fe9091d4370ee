"""Explain the verdict on one image: likely classes, the parts of its score, and similar images."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from lsncli.artefacts.detector import SavedDetector
from lsncli.backbones import Backbone
from lsncli.detection.calibrate import known_rows
from lsncli.detection.detect import Verdict, detect_function
from lsncli.detection.scored_sets import ScoredSet, Scorer, VerdictArrays
from lsncli.errors import LsnError
from lsncli.extraction.encoder import encode_batch
from lsncli.images.loader import Batch
from lsncli.methods.workspace import Workspace
from lsncli.scores.common import CHUNK, check_features, logits, positive_cosines
from lsncli.store.format import Split
from lsncli.types import UNLABELLED, Float64Array, FloatArray, Head, unit

ROWS = 256
"""Features that are compared at a time with ``CHUNK`` stored rows: 16 MB of cosines."""


@dataclass(frozen=True)
class Neighbour:
    """A stored image near the explained one.

    Its key (untrusted text: escape it before printing), its class ("" if unlabelled), and its cosine with the
    explained image.
    """

    key: str
    class_name: str
    cosine: float


def find_nearest(split: Split, features: FloatArray, count: int) -> list[tuple[Neighbour, ...]]:
    """Return the ``count`` images of ``split`` with the largest cosine to each row of ``features`` (N, D).

    The largest comes first; a smaller split gives all its images. Exact, in float64; memory is about 100 MB
    beside the split. Raises LsnError for features of another width, and for rows that are not finite.
    """
    width, size = split.features.shape[1], max(0, min(count, len(split.labels)))
    check_features(features, width)
    queries = unit(features)
    best = np.full((len(queries), size), -np.inf)
    rows = np.zeros((len(queries), size), dtype=np.int64)
    for start in range(0, len(split.labels) if size else 0, CHUNK):
        part = split.features[start : start + CHUNK]
        check_features(part, width)
        bank = unit(part)
        for at in range(0, len(queries), ROWS):
            block = slice(at, at + ROWS)
            best[block], rows[block] = _merge(best[block], rows[block], queries[block] @ bank.T, start)
    order = np.argsort(-best, axis=1, kind="stable")
    return [
        tuple(_neighbour(split, int(rows[at, nearest]), float(best[at, nearest])) for nearest in order[at])
        for at in range(len(queries))
    ]


def nearest_by_row(
    sets: Sequence[ScoredSet], shown: Sequence[Collection[int]], split: Split, count: int
) -> tuple[Mapping[int, tuple[Neighbour, ...]], ...]:
    """Return the ``count`` nearest images of ``split`` by row, for the ``shown`` rows of each set.

    A set without features has none. An image of ``split`` is not its own neighbour.
    """
    neighbours: list[Mapping[int, tuple[Neighbour, ...]]] = []
    for scored, chosen in zip(sets, shown, strict=True):
        rows = sorted(chosen)
        if scored.features is None or not rows:
            neighbours.append({})
            continue
        own = {row: scored.names[row] for row in rows} if scored.names and scored.name == split.name else {}
        nearest = find_nearest(split, scored.features[rows], count + bool(own))
        others = (
            [neighbour for neighbour in candidates if neighbour.key != own.get(row)]
            for row, candidates in zip(rows, nearest, strict=True)
        )
        neighbours.append({row: tuple(near[:count]) for row, near in zip(rows, others, strict=True)})
    return tuple(neighbours)


def _merge(
    best: Float64Array, rows: NDArray[np.int64], cosines: Float64Array, start: int
) -> tuple[Float64Array, NDArray[np.int64]]:
    """Return the k largest of ``best`` (N, k) and ``cosines`` (N, M), and their rows.

    ``rows`` are those of ``best``; ``cosines`` begin at row ``start``.
    """
    size = best.shape[1]
    candidates = np.concatenate([best, cosines], axis=1)
    largest = np.argpartition(-candidates, size - 1, axis=1)[:, :size]
    before = np.take_along_axis(rows, np.minimum(largest, size - 1), 1)
    merged = np.where(largest < size, before, largest - size + start)
    return np.take_along_axis(candidates, largest, 1), merged


def _neighbour(split: Split, row: int, cosine: float) -> Neighbour:
    label = int(split.labels[row])
    return Neighbour(split.keys[row], "" if label == UNLABELLED else split.classes[label], cosine)


HELD_OUT = 1000
"""The most held-out ID images with which a score is compared."""


@dataclass(frozen=True)
class LikelyClass:
    """A class that the image is likely to be of.

    Its probability (softmax of the logits at the model's temperature), and the cosine of its positive prompt
    with the image.
    """

    name: str
    probability: float
    cosine: float


@dataclass(frozen=True)
class Measure:
    """The score, one of its parts, or gamma.

    With the fraction of held-out ID images below it, None without such images.
    """

    name: str
    value: float
    below: float | None


@dataclass(frozen=True)
class Evidence:
    """A verdict with its numbers, and the name of the detector in tables.

    The numbers are the score, its positive and negative part if it is their sum, and gamma.
    """

    verdict: Verdict
    label: str
    measures: tuple[Measure, ...]

    @property
    def sentence(self) -> str:
        """The verdict in a few words, such as "OOD: the score is 0.004904 below gamma"."""
        gap = self.measures[0].value - self.measures[-1].value
        where = f"{abs(gap):.6f} {'below' if gap < 0 else 'above'}"
        return f"{'OOD' if self.verdict.is_ood else 'ID'}: the score is {where} gamma"


@dataclass(frozen=True)
class Reasons:
    """The most likely classes first; the evidence if there is a detector; the nearest images of ``split``."""

    likely: tuple[LikelyClass, ...]
    evidence: Evidence | None
    nearest: tuple[Neighbour, ...]
    split: str = ""


def explain_verdict(
    path: str,
    image: Image,
    backbone: Backbone,
    head: Head,
    *,
    detector: SavedDetector | None = None,
    held_out: VerdictArrays | None = None,
    split: Split | None = None,
    top: int = 5,
    count: int = 5,
    device: str = "cpu",
) -> Reasons:
    """Explain the verdict on an image by ``detector``, likely classes of ``head`` and its nearest images.

    The verdict equals that of ``lsn score`` bit for bit: features are rounded as stored ones are.
    ``detector`` and ``split``, whose ``count`` nearest images are returned, must be of the model
    ``backbone``; ``held_out`` are held-out ID images with the parts of their scores. Raises LsnError if the
    image has no features, and as the detector's method does.
    """
    features = _encode(path, image, backbone)
    evidence = None
    if detector is not None:
        (verdict,) = detect_function(detector, lambda: backbone, device)([path], features)
        kept = detector.held_out_of(verdict.predicted or "")
        evidence = Evidence(verdict, detector.label, _measures(verdict, kept, held_out))
    nearest = find_nearest(split, features, count)[0] if split is not None else ()
    return Reasons(likely_classes(head, features, top), evidence, nearest, split.name if split else "")


def held_out_scores(work: Workspace, scorer: Scorer, split: Split) -> VerdictArrays | None:
    """Return the scores of evenly chosen held-out ID rows of ``split``; None if they are unavailable.

    They are if the split has other images or classes than the prompts were learned from, if no image was held
    out, or if every row would need a pass of the text tower.
    """
    head = scorer.detector.head
    if head.conditional or not split.classes or not set(split.classes) <= set(head.classes):
        return None
    try:
        features = known_rows(work, split).held_out.features
    except LsnError:  # the comparison is optional: the explanation goes on without it
        return None
    step = max(1, -(-len(features) // HELD_OUT))
    return scorer.features(features[::step]) if len(features) else None


def likely_classes(head: Head, features: FloatArray, top: int) -> tuple[LikelyClass, ...]:
    """Return the ``top`` most likely classes of one image with raw ``features`` (1, D), in order."""
    cosines = positive_cosines(head, features)[0]
    values = logits(head, features)[0]
    values = np.exp(values - values.max())
    shares = values / values.sum()
    order = np.argsort(-shares, kind="stable")[:top]
    return tuple(LikelyClass(head.classes[at], float(shares[at]), float(cosines[at])) for at in order)


def _encode(path: str, image: Image, backbone: Backbone) -> FloatArray:
    """Return raw features (1, D) as float16."""
    pixels = backbone.preprocess(image)[None]
    batch = encode_batch(Batch(0, 1, pixels, (path,), np.array([UNLABELLED], np.int32), ()), backbone)
    if batch.failures:
        raise LsnError(f"The image '{path}' cannot be used: {batch.failures[0].reason}.")
    return batch.features


def _measures(
    verdict: Verdict, kept: Float64Array | None, held_out: VerdictArrays | None
) -> tuple[Measure, ...]:
    """Compare the score with the ``kept`` scores of the images that set gamma, or else with ``held_out``."""
    scores, positive, negative = (
        (held_out.scores, held_out.positive, held_out.negative) if held_out else (None, None, None)
    )
    scores = scores if kept is None else kept
    assert verdict.score is not None
    assert verdict.threshold is not None
    measures = [_measure("score", verdict.score, scores)]
    if verdict.positive is not None and verdict.negative is not None:
        measures.append(_measure("positive", verdict.positive, positive))
        measures.append(_measure("negative", verdict.negative, negative))
    return (*measures, _measure("gamma", verdict.threshold, scores))


def _measure(name: str, value: float, others: Float64Array | None) -> Measure:
    return Measure(name, value, None if others is None else float((others < value).mean()))
