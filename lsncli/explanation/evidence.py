"""Evidence for and against one image: likely classes, its verdict, parts of its score, similar images."""

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
"""Features compared at a time with ``CHUNK`` stored rows: 16 MB of cosines."""


@dataclass(frozen=True)
class Neighbour:
    """A stored image: its key, which comes from anywhere and is not to be shown as it is; its class, empty if
    it has none; and its cosine with the image asked about."""

    key: str
    class_name: str
    cosine: float


def find_nearest(split: Split, features: FloatArray, count: int) -> list[tuple[Neighbour, ...]]:
    """The ``count`` images of ``split``, or all if there are fewer, with the largest cosine, largest first,
    for each row of raw ``features`` (N, D).

    Exact and in float64, in some 100 MB beside the split whatever its size. Raises LsnError for features of
    another width, and for rows that are not finite.
    """
    width, kept = split.features.shape[1], max(0, min(count, len(split.labels)))
    check_features(features, width)
    queries = unit(features)
    best = np.full((len(queries), kept), -np.inf)
    rows = np.zeros((len(queries), kept), dtype=np.int64)
    for start in range(0, len(split.labels) if kept else 0, CHUNK):
        part = split.features[start : start + CHUNK]
        check_features(part, width)
        bank = unit(part)
        for at in range(0, len(queries), ROWS):
            block = slice(at, at + ROWS)
            best[block], rows[block] = _merged(best[block], rows[block], queries[block] @ bank.T, start)
    order = np.argsort(-best, axis=1, kind="stable")
    return [
        tuple(_neighbour(split, int(rows[at, place]), float(best[at, place])) for place in order[at])
        for at in range(len(queries))
    ]


def nearest_by_row(
    sets: Sequence[ScoredSet], shown: Sequence[Collection[int]], split: Split, count: int
) -> tuple[Mapping[int, tuple[Neighbour, ...]], ...]:
    """The ``count`` nearest images of ``split`` by row, for the ``shown`` rows of each set that has features.

    An image of ``split`` is not its own neighbour.
    """
    found: list[Mapping[int, tuple[Neighbour, ...]]] = []
    for one, chosen in zip(sets, shown, strict=True):
        rows = sorted(chosen)
        if one.features is None or not rows:
            found.append({})
            continue
        own = {row: one.names[row] for row in rows} if one.names and one.name == split.name else {}
        made = find_nearest(split, one.features[rows], count + bool(own))
        others = (
            [each for each in like if each.key != own.get(row)] for row, like in zip(rows, made, strict=True)
        )
        found.append({row: tuple(like[:count]) for row, like in zip(rows, others, strict=True)})
    return tuple(found)


def _merged(
    best: Float64Array, rows: NDArray[np.int64], cosines: Float64Array, start: int
) -> tuple[Float64Array, NDArray[np.int64]]:
    """The k largest of ``best`` (N, k), of ``rows``, and of ``cosines`` (N, M), from row ``start`` on."""
    kept = best.shape[1]
    everything = np.concatenate([best, cosines], axis=1)
    place = np.argpartition(-everything, kept - 1, axis=1)[:, :kept]
    before = np.take_along_axis(rows, np.minimum(place, kept - 1), 1)
    found = np.where(place < kept, before, place - kept + start)
    return np.take_along_axis(everything, place, 1), found


def _neighbour(split: Split, row: int, cosine: float) -> Neighbour:
    label = int(split.labels[row])
    return Neighbour(split.keys[row], "" if label == UNLABELLED else split.classes[label], cosine)


HELD_OUT = 1000
"""At most so many held-out ID images say how unusual a score is."""


@dataclass(frozen=True)
class LikelyClass:
    """A class, its probability among all classes (softmax of the logits, at the model's own temperature), and
    the cosine of its positive prompt with the image."""

    name: str
    probability: float
    cosine: float


@dataclass(frozen=True)
class Measure:
    """The score, one of its parts, or gamma, and the fraction of held-out ID images that have less; None
    where these are unavailable."""

    name: str
    value: float
    below: float | None


@dataclass(frozen=True)
class Evidence:
    """A verdict, what a table calls the detector, and the numbers behind it: the score, what the positive and
    the negative prompts say where it is their sum, and gamma."""

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
    """The likeliest classes first; a judgement if there is a detector; the nearest images of ``split``."""

    likely: tuple[LikelyClass, ...]
    judgement: Evidence | None
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
    """What ``head`` and ``detector`` say of an image, and the ``count`` images of ``split`` most like it.

    The verdict is that of ``lsn score``, to the bit: features are rounded as stored ones are. ``detector``
    and ``split`` must be of the model ``backbone``; ``held_out`` are the detector's scores of held-out ID
    images. Raises LsnError if the image gives no features, and as the detector's method does.
    """
    features = _features(path, image, backbone)
    judgement = None
    if detector is not None:
        (verdict,) = detect_function(detector, lambda: backbone, device)([path], features)
        judgement = Evidence(verdict, detector.label, _measures(verdict, held_out))
    found = find_nearest(split, features, count)[0] if split is not None else ()
    return Reasons(likely_classes(head, features, top), judgement, found, split.name if split else "")


def held_out_scores(work: Workspace, scorer: Scorer, split: Split) -> VerdictArrays | None:
    """Scores of held-out ID rows of ``split``, evenly taken; None where they are unavailable.

    That is where other images or classes are in the split than prompts learned from, none was held out, or
    every row would cost a pass of the text tower.
    """
    head = scorer.detector.head
    if head.conditional or not split.classes or not set(split.classes) <= set(head.classes):
        return None
    try:
        features = known_rows(work, split).held_out.features
    except LsnError:  # how unusual a score is, is a help; its absence must not cost the rest
        return None
    step = max(1, -(-len(features) // HELD_OUT))
    return scorer.features(features[::step]) if len(features) else None


def likely_classes(head: Head, features: FloatArray, top: int) -> tuple[LikelyClass, ...]:
    """The ``top`` likeliest classes of one image with raw ``features`` (1, D), likeliest first."""
    cosines = positive_cosines(head, features)[0]
    values = logits(head, features)[0]
    values = np.exp(values - values.max())
    shares = values / values.sum()
    order = np.argsort(-shares, kind="stable")[:top]
    return tuple(LikelyClass(head.classes[at], float(shares[at]), float(cosines[at])) for at in order)


def _features(path: str, image: Image, backbone: Backbone) -> FloatArray:
    """Raw features (1, D), float16."""
    pixels = backbone.preprocess(image)[None]
    batch = encode_batch(Batch(0, 1, pixels, (path,), np.array([UNLABELLED], np.int32), ()), backbone)
    if batch.failures:
        raise LsnError(f"The image '{path}' cannot be used: {batch.failures[0].reason}.")
    return batch.features


def _measures(verdict: Verdict, held_out: VerdictArrays | None) -> tuple[Measure, ...]:
    scores, yes, no = (
        (held_out.scores, held_out.positive, held_out.negative) if held_out else (None, None, None)
    )
    assert verdict.score is not None
    assert verdict.threshold is not None
    found = [_measure("score", verdict.score, scores)]
    if verdict.positive is not None and verdict.negative is not None:
        found += [_measure("positive", verdict.positive, yes), _measure("negative", verdict.negative, no)]
    return (*found, _measure("gamma", verdict.threshold, scores))


def _measure(name: str, value: float, others: Float64Array | None) -> Measure:
    return Measure(name, value, None if others is None else float((others < value).mean()))
