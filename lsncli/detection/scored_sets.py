"""Sets of images with what a detector says of each: listed images, or the stored rows of a split."""

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
"""Rows judged at a time, where no images are read."""
KEPT = 100_000
"""Features of more listed images than these are not kept: they would take more than some 100 MB."""


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
    """Scored images that belong together.

    ``names`` or ``items`` say which image a row is: keys of a split, or images that were listed. ``labels``
    (N,) are true classes, -1 where not known. ``items`` are None where the images are not at hand.
    ``features`` (N, D) are raw, None where they were not kept.
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
        """What the image of ``row`` is called; from anywhere, so not to be shown as it is."""
        if self.names is not None:
            return self.names[row]
        return shown_path(self.items[row]) if self.items is not None else str(row)


@dataclass(frozen=True)
class Scorer:
    """A detector and how it is run; ``model`` is asked for only where images are read or prompts need it."""

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
        """Score listed images; ``drift`` sees them. Class folders of ID images are true classes, by name."""
        pieces: list[VerdictArrays] = []
        items: list[ImageItem] = []
        failures: list[Failure] = []
        features: list[FloatArray] = []
        backbone, start = self.model(), 0
        for done, found in detect(
            listing,
            self.detector,
            drift.watching(backbone) if drift else backbone,
            batch_size=self.batch_size,
            workers=self.workers,
            device=self.device,
            keep=features.append if len(listing.items) <= KEPT else None,
        ):
            failures += [Failure(one.path or "", one.error) for one in found if one.error is not None]
            if done:  # before the first image: what could not even be listed
                about = zip(listing.items[start : start + done], found, strict=True)
                items += [item for item, verdict in about if verdict.error is None]
                pieces.append(self._arrays(found))
            if drift:
                drift.count(found)
            start += done
            progress(done)
        labels = self._true_classes(listing, items) if kind == "id" else _unlabelled(len(items))
        return ScoredSet(
            name,
            kind,
            source,
            joined(pieces),
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
        """Score the stored rows of ``split``; their images are looked for in ``sources``.

        Without ``sources`` they are looked for where the split says it came from, and done without where they
        are no longer there. Raises LsnError if ``sources`` lack one or an ID split has other classes,
        FingerprintMismatch if ``made_by``, the model of the store, is not the detector's.
        """
        labels = _unlabelled(len(split.labels))
        if kind == "id" and split.classes:
            labels = labels_as(split, self.detector.head.classes)
        pieces = []
        for done, found in detect_split(split, made_by, self.detector, self.model, device=self.device):
            pieces.append(self._arrays(found))
            progress(done)
        items = _images(split, sources)
        source, failed, rows = split.source, split.failures, split.features
        return ScoredSet(split.name, kind, source, joined(pieces), labels, split.keys, items, failed, rows)

    def features(self, features: FloatArray) -> VerdictArrays:
        """Score raw ``features`` (N, D)."""
        verdicts_of = detect_function(self.detector, self.model, self.device)
        parts = (features[start : start + CHUNK] for start in range(0, len(features), CHUNK))
        return joined([self._arrays(verdicts_of([None] * len(part), part)) for part in parts])

    def _arrays(self, found: Iterable[Verdict]) -> VerdictArrays:
        verdicts = [verdict for verdict in found if verdict.error is None]
        number = {name: label for label, name in enumerate(self.detector.head.classes)}
        columns = [(one.positive, one.negative) for one in verdicts]
        both = not any(None in pair for pair in columns)
        parts = np.array(columns, dtype=np.float64).reshape(-1, 2).T if both else None
        return VerdictArrays(
            np.array([one.score for one in verdicts], dtype=np.float64),
            np.array([number[one.predicted or ""] for one in verdicts], dtype=np.int32),
            *((None, None) if parts is None else parts),
        )

    def _true_classes(self, listing: Listing, items: Sequence[ImageItem]) -> Labels:
        classes = self.detector.head.classes
        names = class_names(listing.folders, None)
        table = [classes.index(name) if name in classes else UNLABELLED for name in names]
        lookup = np.array([*table, UNLABELLED], dtype=np.int32)  # the last is also label -1
        found: Labels = lookup[np.array([item.label for item in items], dtype=np.int32)]
        return found


def joined(pieces: Sequence[VerdictArrays]) -> VerdictArrays:
    """Several ``VerdictArrays`` as one, in order."""
    kept = [piece for piece in pieces if len(piece)]
    if not kept:
        return VerdictArrays(np.empty(0), np.empty(0, dtype=np.int32))
    yes = [piece.positive for piece in kept if piece.positive is not None]
    no = [piece.negative for piece in kept if piece.negative is not None]
    return VerdictArrays(
        np.concatenate([piece.scores for piece in kept]),
        np.concatenate([piece.predicted for piece in kept]),
        np.concatenate(yes) if yes else None,
        np.concatenate(no) if no else None,
    )


def _unlabelled(rows: int) -> Labels:
    return np.full(rows, UNLABELLED, dtype=np.int32)


def _images(split: Split, sources: Sequence[Path] | None) -> Sequence[ImageItem] | None:
    if sources is not None:
        return images_of(split, sources)
    path = Path(split.source)
    try:
        return images_of(split, [path]) if split.source and path.exists() else None
    except (LsnError, OSError):
        return None
