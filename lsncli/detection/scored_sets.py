"""Sets of images with the verdicts of a detector: listed images, or the stored rows of a split."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from lsncli.artefacts.detector import SavedDetector
from lsncli.console import ProgressCallback, silent
from lsncli.detection.detect import Verdict, detect, detect_function, detect_split, shown_path
from lsncli.detection.drift import Drift
from lsncli.errors import LsnError
from lsncli.images.class_names import class_names
from lsncli.images.item import ImageItem, Listing
from lsncli.methods.heads import LoadBackbone
from lsncli.methods.holdout import labels_as
from lsncli.methods.inputs import images_of
from lsncli.store.format import Split
from lsncli.types import UNLABELLED, Failure, Fingerprint, Float64Array, FloatArray, Labels

Kind = Literal["input", "id", "ood"]
"""Images of unknown truth, images known to be ID, images known to be OOD."""

CHUNK = 256
"""Rows scored at a time where no images are read."""
MOST_FEATURES = 100_000
"""The largest number of listed images whose features are kept; more would take over 100 MB or so."""


@dataclass(frozen=True, eq=False)
class VerdictArrays:
    """Verdicts of N images as arrays.

    ``scores`` (N,), higher = more ID; ``predicted`` (N,) class indices; and the parts of the positive and the
    negative prompts, (N,) each, whose sum is the score. Both parts are None for a score that has none.
    """

    scores: Float64Array
    predicted: Labels
    positive: Float64Array | None = None
    negative: Float64Array | None = None

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True, eq=False)
class ScoredSet:
    """A set of scored images.

    ``names`` (keys of a split) or ``items`` (listed images) identify the image of a row. ``labels`` (N,) are
    true classes, -1 where unknown. ``items`` is None where the images are not available. ``features`` (N, D)
    are raw, None where they were not kept.
    """

    name: str
    kind: Kind
    source: str
    judged: VerdictArrays
    labels: Labels
    names: Sequence[str] | None = None
    items: Sequence[ImageItem] | None = None
    failures: tuple[Failure, ...] = ()
    features: FloatArray | None = None

    def path(self, row: int) -> str:
        """Return the name of the image of ``row``. It is untrusted text: escape it before it is shown."""
        if self.names is not None:
            return self.names[row]
        return shown_path(self.items[row]) if self.items is not None else str(row)


@dataclass(frozen=True)
class Scorer:
    """A detector and the options of a run; ``model`` is called only for images or prompts that need it."""

    detector: SavedDetector
    model: LoadBackbone
    device: str = "cpu"
    batch_size: int = 16
    workers: int = 1

    def listing(
        self,
        listing: Listing,
        name: str,
        kind: Kind,
        source: str,
        drift: Drift | None = None,
        progress: ProgressCallback = silent,
    ) -> ScoredSet:
        """Score listed images and pass them to ``drift``; class folders of ID images are true classes."""
        chunks: list[VerdictArrays] = []
        items: list[ImageItem] = []
        failures: list[Failure] = []
        features: list[FloatArray] = []
        backbone, start = self.model(), 0
        for images, verdicts in detect(
            listing,
            self.detector,
            drift.watching(backbone) if drift else backbone,
            batch_size=self.batch_size,
            workers=self.workers,
            device=self.device,
            keep=features.append if len(listing.items) <= MOST_FEATURES else None,
        ):
            failures += [
                Failure(verdict.path or "", verdict.error)
                for verdict in verdicts
                if verdict.error is not None
            ]
            if images:  # the first batch can be the paths that could not be listed, and no image
                pairs = zip(listing.items[start : start + images], verdicts, strict=True)
                items += [item for item, verdict in pairs if verdict.error is None]
                chunks.append(self._arrays(verdicts))
            if drift:
                drift.count(verdicts)
            start += images
            progress(images)
        labels = self._true_classes(listing, items) if kind == "id" else _unlabelled(len(items))
        return ScoredSet(
            name,
            kind,
            source,
            join_verdicts(chunks),
            labels,
            items=items,
            failures=tuple(failures),
            features=np.concatenate(features) if features else None,
        )

    def split(
        self,
        split: Split,
        made_by: Fingerprint,
        kind: Kind,
        sources: Sequence[Path] | None,
        progress: ProgressCallback = silent,
    ) -> ScoredSet:
        """Score the stored rows of ``split``, and find their images in ``sources``.

        Without ``sources``, look for the images at the recorded source of the split; they are optional there.
        Raises LsnError if ``sources`` lack an image or an ID split has other classes, FingerprintMismatch if
        ``made_by``, the model of the store, is not the detector's.
        """
        labels = _unlabelled(len(split.labels))
        if kind == "id" and split.classes:
            labels = labels_as(split, self.detector.head.classes)
        chunks = []
        for rows, verdicts in detect_split(split, made_by, self.detector, self.model, device=self.device):
            chunks.append(self._arrays(verdicts))
            progress(rows)
        items = find_images(split, sources)
        return ScoredSet(
            split.name,
            kind,
            split.source,
            join_verdicts(chunks),
            labels,
            split.keys,
            items,
            split.failures,
            split.features,
        )

    def features(self, features: FloatArray) -> VerdictArrays:
        """Score raw ``features`` (N, D)."""
        verdicts_of = detect_function(self.detector, self.model, self.device)
        parts = (features[start : start + CHUNK] for start in range(0, len(features), CHUNK))
        return join_verdicts([self._arrays(verdicts_of([None] * len(part), part)) for part in parts])

    def _arrays(self, verdicts: Iterable[Verdict]) -> VerdictArrays:
        """Return the verdicts of the images that could be scored, as arrays."""
        scored = [verdict for verdict in verdicts if verdict.error is None]
        number = {name: label for label, name in enumerate(self.detector.head.classes)}
        columns = [(verdict.positive, verdict.negative) for verdict in scored]
        both = not any(None in pair for pair in columns)
        parts = np.array(columns, dtype=np.float64).reshape(-1, 2).T if both else None
        return VerdictArrays(
            np.array([verdict.score for verdict in scored], dtype=np.float64),
            np.array([number[verdict.predicted or ""] for verdict in scored], dtype=np.int32),
            *((None, None) if parts is None else parts),
        )

    def _true_classes(self, listing: Listing, items: Sequence[ImageItem]) -> Labels:
        classes = self.detector.head.classes
        names = class_names(listing.folders, None)
        table = [classes.index(name) if name in classes else UNLABELLED for name in names]
        lookup = np.array(
            [*table, UNLABELLED], dtype=np.int32
        )  # index -1, the label of no class, is the last
        labels: Labels = lookup[np.array([item.label for item in items], dtype=np.int32)]
        return labels


def join_verdicts(chunks: Sequence[VerdictArrays]) -> VerdictArrays:
    """Concatenate ``VerdictArrays`` in order."""
    filled = [chunk for chunk in chunks if len(chunk)]
    if not filled:
        return VerdictArrays(np.empty(0), np.empty(0, dtype=np.int32))
    positive = [chunk.positive for chunk in filled if chunk.positive is not None]
    negative = [chunk.negative for chunk in filled if chunk.negative is not None]
    return VerdictArrays(
        np.concatenate([chunk.scores for chunk in filled]),
        np.concatenate([chunk.predicted for chunk in filled]),
        np.concatenate(positive) if positive else None,
        np.concatenate(negative) if negative else None,
    )


def _unlabelled(rows: int) -> Labels:
    return np.full(rows, UNLABELLED, dtype=np.int32)


def find_images(split: Split, sources: Sequence[Path] | None) -> Sequence[ImageItem] | None:
    """Return the images of the rows of ``split`` from ``sources``, or else from where they were extracted.

    None if they are not all there any more. Raises LsnError if ``sources`` lack an image.
    """
    if sources is not None:
        return images_of(split, sources)
    path = Path(split.source)
    try:
        return images_of(split, [path]) if split.source and path.exists() else None
    except (LsnError, OSError):
        return None
