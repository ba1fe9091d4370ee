"""Score images with a calibrated detector: images or stored features in, verdicts out.

Also selects, sorts and counts verdicts, as ``lsn score`` shows them.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lsncli.artefacts.detector import SavedDetector
from lsncli.backbones import Backbone
from lsncli.errors import FingerprintMismatch, LsnError
from lsncli.extraction.encoder import encode_stream
from lsncli.images.item import ImageItem, Listing
from lsncli.memory import InParts
from lsncli.methods.heads import LoadBackbone, head_from
from lsncli.scores import load_score
from lsncli.scores.common import predict
from lsncli.store.format import Split
from lsncli.threshold import is_ood, p_values
from lsncli.types import Fingerprint, Float64Array, FloatArray, Head, Labels

ROWS = 256
"""Stored rows per batch: few enough to show progress where each row costs a pass of the text tower."""

Kind = Literal["ood", "id", "failed"]
Order = Literal["score", "path"]


@dataclass(frozen=True)
class Verdict:
    """The verdict on one image, with the fields of a row of ``lsn score``.

    ``predicted`` is the most likely ID class, ``score`` the score (higher = more ID), and ``is_ood`` is
    ``score < threshold``, which can be that of the predicted class. ``positive`` and ``negative`` are the two
    parts of an LSN score, whose sum is the score; None for other scores. ``p_value`` is the conformal p-value
    (``threshold.p_values``), the place of the score among those of held-out ID images, of the predicted class
    if each has a threshold: of new ID images, at most 5 % are expected to have 0.05 or less. It is None if no
    images have set the threshold, or if the detector's file is older. For an image that could not be scored,
    ``error`` is the reason and all fields but ``path`` are None. ``path`` is None for an image that is not a
    file.

    >>> Verdict("a.jpg", "cat", 0.2, 0.25, True).kind
    'ood'
    >>> Verdict("b.jpg", error="an empty file").kind
    'failed'
    """

    path: str | None
    predicted: str | None = None
    score: float | None = None
    threshold: float | None = None
    is_ood: bool | None = None
    positive: float | None = None
    negative: float | None = None
    p_value: float | None = None
    error: str | None = None

    @property
    def kind(self) -> Kind:
        """``id``, ``ood``, or ``failed`` for an image with an ``error``."""
        if self.error is not None:
            return "failed"
        return "ood" if self.is_ood else "id"


PartsFunction = Callable[[FloatArray], tuple[Float64Array, Float64Array | None, Float64Array | None]]
"""Raw features (N, D) to scores (N,) and their positive and negative parts, None where there are none."""


def load_scorer(
    detector: SavedDetector, model: LoadBackbone, device: str = "cpu"
) -> tuple[Head, PartsFunction]:
    """Return the head of ``detector`` and the function that scores features.

    ``model`` is called only if prompts depend on the image. ``device`` is where expensive scores compute.
    Raises LsnError for a detector that lacks an array.
    """
    head = head_from(detector.head, model)
    method = load_score(detector.method, **detector.settings)
    try:
        scorer = InParts(method.scorer(head, detector.learned, device))
    except KeyError as missing:
        raise LsnError(
            f"The detector is damaged: it lacks {missing}, which the score '{detector.method}' learned.",
            f"Make it again with `lsn calibrate --method {detector.method}`.",
        ) from missing

    def scores_of(
        features: FloatArray,
    ) -> tuple[Float64Array, Float64Array | None, Float64Array | None]:
        parts = method.parts(head, features)
        return (scorer(features), None, None) if parts is None else (parts[0] + parts[1], *parts)

    return head, scores_of


def rates_of(
    detector: SavedDetector, scores: Float64Array, predicted: Labels
) -> tuple[Float64Array, Float64Array | None]:
    """Return the gamma that decides about each of ``scores`` (N,), and their p-values if there are any.

    ``predicted`` (N,) are the predicted classes, which can have thresholds of their own.
    """
    gammas, by_class = detector.gammas[predicted], detector.class_thresholds
    if by_class is not None:
        return gammas, by_class.p_values(scores, predicted)
    return gammas, None if detector.held_out is None else p_values(scores, detector.held_out)


DetectFunction = Callable[[Sequence[str | None], FloatArray], list[Verdict]]
"""The paths of images (N,) and their raw features (N, D) to verdicts, in order."""


def detect_function(detector: SavedDetector, model: LoadBackbone, device: str = "cpu") -> DetectFunction:
    """Return the function that turns features into the verdicts of ``detector``; see ``load_scorer``."""
    head, scores_of = load_scorer(detector, model, device)

    def verdicts(paths: Sequence[str | None], features: FloatArray) -> list[Verdict]:
        if not len(features):
            return []
        scores, positive, negative = scores_of(features)
        labels, none = predict(head, features), [None] * len(scores)
        gammas, found = rates_of(detector, scores, labels)
        columns = (
            paths,
            [head.classes[label] for label in labels],
            scores.tolist(),
            gammas.tolist(),
            is_ood(scores, gammas).tolist(),
            none if positive is None else positive.tolist(),
            none if negative is None else negative.tolist(),
            none if found is None else found.tolist(),
        )
        return [Verdict(*row) for row in zip(*columns, strict=True)]

    return verdicts


def detect(
    listing: Listing,
    detector: SavedDetector,
    backbone: Backbone,
    *,
    batch_size: int,
    workers: int,
    device: str = "cpu",
    keep: Callable[[FloatArray], object] | None = None,
) -> Iterator[tuple[int, list[Verdict]]]:
    """Score the listed images batch by batch; yield the number of images and their verdicts, in order.

    What could not be listed (a loop of links, an unreadable folder) comes first, as 0 images with their
    errors. The text tower of ``backbone`` is used only for prompts that depend on the image. ``keep`` is
    called with the raw features of each batch.
    """
    if listing.problems:
        problems = zip(listing.problem_paths, listing.problems, strict=True)
        yield 0, [Verdict(path, error=problem.reason) for path, problem in problems]
    verdicts_of = detect_function(detector, lambda: backbone, device)
    for batch in encode_stream(listing.items, backbone, batch_size=batch_size, workers=workers):
        items = listing.items[batch.start : batch.stop]
        paths = {item.key: shown_path(item) for item in items}
        verdicts = {
            failure.key: Verdict(paths[failure.key], error=failure.reason) for failure in batch.failures
        }
        scored = verdicts_of([paths[key] for key in batch.keys], batch.features)
        verdicts |= dict(zip(batch.keys, scored, strict=True))
        if keep:
            keep(batch.features)
        yield len(items), [verdicts[item.key] for item in items]


def detect_split(
    split: Split, made_by: Fingerprint, detector: SavedDetector, model: LoadBackbone, *, device: str = "cpu"
) -> Iterator[tuple[int, list[Verdict]]]:
    """Score stored features, as ``detect`` scores images; paths are the keys of the split. Read no image.

    The failures of the extraction come first. Raises FingerprintMismatch if ``made_by``, the model of the
    store, is not the model of the detector.
    """
    if made_by.digest != detector.fingerprint.digest:
        raise FingerprintMismatch(
            f"The features of split '{split.name}' are of another model: the detector expects "
            f"{detector.fingerprint}, found {made_by}.",
            "Score the images themselves, or extract them with the detector's model.",
        )
    verdicts_of = detect_function(detector, model, device)
    if split.failures:
        failures = [Verdict(failure.key, error=failure.reason) for failure in split.failures]
        yield len(failures), failures
    for start in range(0, len(split.keys), ROWS):
        keys = split.keys[start : start + ROWS]
        yield len(keys), verdicts_of(keys, split.features[start : start + ROWS])


def shown_path(item: ImageItem) -> str:
    """Return the path or URL of an image, with the name of the member for one in a tar or table."""
    return item.path if item.member is None else f"{item.path}:{item.member}"


ItemVerdict = tuple[Verdict, ImageItem | None]
"""A verdict and its image; None for a row of a split."""


def select(
    verdicts: Iterable[ItemVerdict], kinds: Collection[str], order: Order | None, top: int | None
) -> Iterator[ItemVerdict]:
    """Yield the verdicts of ``kinds`` in ``order``; without an order as they come, without waiting.

    ``score`` puts the lowest score first and failures last. ``top``, which needs an order, holds at most that
    many rows in memory, whatever the number of images. All of ``verdicts`` is consumed.
    """
    selected = (pair for pair in verdicts if pair[0].kind in kinds)
    if order is None:
        yield from selected
    elif top is None:
        yield from sorted(selected, key=SORT_KEYS[order])
    else:
        yield from heapq.nsmallest(top, selected, key=SORT_KEYS[order])


SORT_KEYS: dict[Order, Callable[[ItemVerdict], Any]] = {
    "score": lambda pair: (pair[0].score is None, pair[0].score or 0.0),
    "path": lambda pair: pair[0].path,
}


class VerdictCounts:
    """Counts of ID, OOD and unreadable images, and of predicted classes."""

    def __init__(self) -> None:
        self.kinds: Counter[Kind] = Counter()
        self._classes: dict[Kind, Counter[str]] = {"id": Counter(), "ood": Counter()}

    @property
    def total(self) -> int:
        """The number of images."""
        return self.kinds.total()

    def count(self, verdict: Verdict) -> None:
        """Count one image."""
        self.kinds[verdict.kind] += 1
        if verdict.predicted is not None:
            self._classes[verdict.kind][verdict.predicted] += 1

    def counting(self, verdicts: Iterable[ItemVerdict]) -> Iterator[ItemVerdict]:
        """Yield ``verdicts`` and count them."""
        for verdict, item in verdicts:
            self.count(verdict)
            yield verdict, item

    def by_class(self, shown: int = 20) -> list[dict[str, Any]]:
        """Return ``class``, ``id`` and ``ood`` of the most frequent classes, and of the others in one row."""
        both = self._classes["id"] + self._classes["ood"]
        names = [name for name, _ in sorted(both.items(), key=lambda pair: (-pair[1], pair[0]))]
        rows = [self._row(name, [name]) for name in names[:shown]]
        rest = names[shown:]
        return rows + ([self._row(f"({len(rest)} more)", rest)] if rest else [])

    def _row(self, title: str, names: list[str]) -> dict[str, Any]:
        counts = {kind: sum(classes[name] for name in names) for kind, classes in self._classes.items()}
        return {"class": title} | counts
