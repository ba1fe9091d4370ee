"""Score images with a calibrated detector, and give their verdicts.

Includes how ``lsn score`` selects, sorts and counts verdicts.
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
from lsncli.methods.heads import LoadBackbone, head_from
from lsncli.scores import load_score
from lsncli.scores.common import predict
from lsncli.store.format import Split
from lsncli.threshold import is_ood
from lsncli.types import Failure, Fingerprint, FloatArray

ROWS = 256
"""Stored rows judged at a time: few enough that progress is seen where each costs a text pass."""


@dataclass(frozen=True)
class Verdict:
    """One image: its most likely ID class, its score (higher = more ID) and whether score < gamma.

    ``positive`` and ``negative`` are what positive and negative prompts say; their sum is the score. None for
    a score that is no such sum.
    """

    path: str
    predicted: str
    score: float
    threshold: float
    is_ood: bool
    positive: float | None = None
    negative: float | None = None


DetectFunction = Callable[[Sequence[str], FloatArray], list[Verdict]]
"""The paths of images (N,) and their raw features (N, D) to verdicts, in order."""


def judge_of(detector: SavedDetector, model: LoadBackbone, device: str = "cpu") -> DetectFunction:
    """How ``detector`` judges features; ``model`` is asked for only if its prompts depend on the image.

    ``device`` is where scores that are worth it compute. Raises LsnError for a detector that lacks something.
    """
    head = head_from(detector.head, model)
    method = load_score(detector.method, **detector.settings)
    try:
        scorer = method.scorer(head, detector.learned, device)
    except KeyError as missing:
        raise LsnError(
            f"The detector is damaged: it lacks {missing}, which the score '{detector.method}' learned.",
            f"Make it again with `lsn calibrate --method {detector.method}`.",
        ) from missing
    gamma = detector.threshold.gamma

    def judge(paths: Sequence[str], features: FloatArray) -> list[Verdict]:
        if not len(features):
            return []
        both = method.parts(head, features)
        scores = scorer(features) if both is None else both[0] + both[1]
        none = [None] * len(scores)
        columns = (
            paths,
            [head.classes[label] for label in predict(head, features)],
            scores.tolist(),
            [gamma] * len(scores),
            is_ood(scores, gamma).tolist(),
            *((none, none) if both is None else (both[0].tolist(), both[1].tolist())),
        )
        return [Verdict(*row) for row in zip(*columns, strict=True)]

    return judge


def detect(
    listing: Listing,
    detector: SavedDetector,
    backbone: Backbone,
    *,
    batch_size: int,
    workers: int,
    device: str = "cpu",
    keep: Callable[[FloatArray], object] | None = None,
) -> Iterator[tuple[int, Sequence[Verdict | Failure]]]:
    """Score the listed images batch by batch: (images done, their verdicts and failures in order).

    What could not even be listed (a loop of links, an unreadable folder) comes first. The text tower of
    ``backbone`` works only for prompts that depend on the image. ``keep`` gets the raw features of each
    batch's verdicts.
    """
    if listing.problems:
        pairs = zip(listing.problem_paths, listing.problems, strict=True)
        yield 0, [Failure(path, one.reason) for path, one in pairs]
    judge = judge_of(detector, lambda: backbone, device)
    for batch in encode_stream(listing.items, backbone, batch_size=batch_size, workers=workers):
        items = listing.items[batch.start : batch.stop]
        shown = {item.key: shown_path(item) for item in items}
        found: dict[str, Verdict | Failure] = {
            failure.key: Failure(shown[failure.key], failure.reason) for failure in batch.failures
        }
        verdicts = judge([shown[key] for key in batch.keys], batch.features)
        if keep:
            keep(batch.features)
        found |= dict(zip(batch.keys, verdicts, strict=True))
        yield len(items), [found[item.key] for item in items]


def detect_split(
    split: Split, made_by: Fingerprint, detector: SavedDetector, model: LoadBackbone, *, device: str = "cpu"
) -> Iterator[tuple[int, Sequence[Verdict | Failure]]]:
    """Score stored features, as ``detect`` does images; paths are the split's keys. No image is read.

    The failures of the extraction come first. Raises FingerprintMismatch if ``made_by``, the model of the
    store, is not the detector's.
    """
    if made_by.digest != detector.fingerprint.digest:
        raise FingerprintMismatch(
            f"The features of split '{split.name}' are of another model: the detector expects "
            f"{detector.fingerprint}, found {made_by}.",
            "Score the images themselves, or extract them with the detector's model.",
        )
    judge = judge_of(detector, model, device)
    if split.failures:
        yield len(split.failures), split.failures
    for start in range(0, len(split.keys), ROWS):
        keys = split.keys[start : start + ROWS]
        yield len(keys), judge(keys, split.features[start : start + ROWS])


def shown_path(item: ImageItem) -> str:
    """The image's own path or URL, or for one inside a tar or table that and its name in it."""
    return item.path if item.member is None else f"{item.path}:{item.member}"


Kind = Literal["ood", "id", "failed"]
Order = Literal["score", "path"]

Found = tuple[Verdict | Failure, ImageItem | None]
"""A verdict, or the reason why there is none, and the image it is about where there is one."""


def kind_of(one: Verdict | Failure) -> Kind:
    """What an image turned out to be."""
    if isinstance(one, Failure):
        return "failed"
    return "ood" if one.is_ood else "id"


def select(
    found: Iterable[Found], kinds: Collection[str], order: Order | None, top: int | None
) -> Iterator[Found]:
    """Those of ``kinds`` in ``order``; None is the order they come in, and only then they come at once.

    By score the lowest, which belongs least, comes first, and failures last. With ``top``, which needs an
    order, no more rows than that are held, whatever the number of images; ``found`` is always read to its
    end.
    """
    kept = (pair for pair in found if kind_of(pair[0]) in kinds)
    if order is None:
        yield from kept
    elif top is None:
        yield from sorted(kept, key=KEYS[order])
    else:
        yield from heapq.nsmallest(top, kept, key=KEYS[order])


def _by_score(pair: Found) -> tuple[bool, float]:
    one = pair[0]
    return (True, 0.0) if isinstance(one, Failure) else (False, one.score)


def _by_path(pair: Found) -> str:
    one = pair[0]
    return one.key if isinstance(one, Failure) else one.path


KEYS: dict[Order, Callable[[Found], Any]] = {"score": _by_score, "path": _by_path}


def row_of(one: Verdict | Failure) -> dict[str, Any]:
    """The fields of a row; a failure has only two."""
    return {"path": one.key, "error": one.reason} if isinstance(one, Failure) else dict(vars(one))


class VerdictCounts:
    """How many images were ID, OOD and unreadable, and of which predicted classes."""

    def __init__(self) -> None:
        self.kinds: Counter[Kind] = Counter()
        self._classes: dict[Kind, Counter[str]] = {"id": Counter(), "ood": Counter()}

    @property
    def total(self) -> int:
        """All images."""
        return self.kinds.total()

    def count(self, one: Verdict | Failure) -> None:
        """Take an image into account."""
        kind = kind_of(one)
        self.kinds[kind] += 1
        if not isinstance(one, Failure):
            self._classes[kind][one.predicted] += 1

    def by_class(self, shown: int = 20) -> list[dict[str, Any]]:
        """``class``, ``id``, ``ood`` of the classes with most images, and of the others in one row."""
        both = self._classes["id"] + self._classes["ood"]
        names = [name for name, _ in sorted(both.items(), key=lambda pair: (-pair[1], pair[0]))]
        rows = [self._row(name, [name]) for name in names[:shown]]
        rest = names[shown:]
        return rows + ([self._row(f"({len(rest)} more)", rest)] if rest else [])

    def _row(self, title: str, names: list[str]) -> dict[str, Any]:
        return {"class": title} | {
            kind: sum(of[name] for name in names) for kind, of in self._classes.items()
        }
