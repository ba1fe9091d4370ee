"""Collect the contents of a report: scored sets, calibration scores, thumbnails and provenance.

Thumbnails show the lowest, the borderline and the highest scores, and some images of every class.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lsncli import __version__
from lsncli.artefacts.detector import SavedDetector
from lsncli.artefacts.prompts import HeadSource
from lsncli.backbones import Backbone
from lsncli.console import ProgressCallback, silent
from lsncli.detection.calibrate import known_rows
from lsncli.detection.drift import Drift
from lsncli.detection.rates import FalseAlarms
from lsncli.detection.scored_sets import Kind, ScoredSet, Scorer, VerdictArrays
from lsncli.errors import LsnError
from lsncli.explanation.evidence import Neighbour, nearest_by_row
from lsncli.explanation.saliency import Explanation, explain
from lsncli.images import decode_process
from lsncli.images.columns import AUTOMATIC, Columns
from lsncli.images.decode import decode
from lsncli.images.item import ImageItem, Listing
from lsncli.images.listing import check_not_empty, list_images, named
from lsncli.images.read import Undecodable, read_bytes
from lsncli.methods.heads import head_from
from lsncli.methods.spec import Method
from lsncli.methods.workspace import Workspace
from lsncli.report.decision import decide, kept_calibration
from lsncli.store.format import Split
from lsncli.store.reader import find_split, read_fingerprint, read_split
from lsncli.threshold import margin_of
from lsncli.types import Float64Array, Labels

SIDE = 224
"""The longer side of a thumbnail in pixels."""
QUALITY = 72


def highlights(scores: Float64Array, predicted: Labels, gamma: float, limit: int) -> NDArray[np.int64]:
    """Return at most ``limit`` rows that are worth a look, ascending.

    They are the lowest scores, those nearest to ``gamma``, the highest, and the nearest to ``gamma`` of each
    predicted class, in equal shares.

    A larger limit gives a superset. Equal inputs give equal rows.
    """
    if len(scores) <= limit:
        return np.arange(len(scores))
    rising = np.argsort(scores, kind="stable")
    away = np.abs(scores - gamma)
    near = np.argsort(away, kind="stable")
    by_class = np.lexsort((away, predicted))
    counts = np.bincount(predicted)
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    place_in_class = np.arange(len(scores)) - starts
    rounds = by_class[np.argsort(place_in_class, kind="stable")]
    orders = [rising[:limit], near[:limit], rising[::-1][:limit], rounds[:limit]]
    turns = np.stack(orders, axis=1).ravel()
    _, first = np.unique(turns, return_index=True)
    chosen: NDArray[np.int64] = np.sort(turns[np.sort(first)[:limit]])
    return chosen


def thumbnails(items: Sequence[ImageItem], workers: int, side: int = SIDE) -> list[bytes | None]:
    """Return small JPEGs of ``items``, in order; None for an image that cannot be read."""

    def thumbnail(item: ImageItem) -> bytes | None:
        try:
            image = decode(read_bytes(item))
            image.thumbnail((side, side), Image.Resampling.LANCZOS)
            buffer = io.BytesIO()
            image.save(buffer, "JPEG", quality=QUALITY, optimize=True)
            return buffer.getvalue()
        except Exception:  # a missing picture must not fail the report
            return None

    with decode_process.threads(workers, "lsn-thumbnails") as pool:
        return list(pool.map(thumbnail, items))


def explanations(
    items: Sequence[ImageItem], backbone: Backbone, source: HeadSource
) -> list[Explanation | None]:
    """Return the heat maps of each image's predicted class; None for an image that cannot be read.

    Raises as ``explain`` does.
    """
    head = head_from(source, lambda: backbone)
    maps: list[Explanation | None] = []
    for item in items:
        try:
            maps.append(explain(backbone, head, decode(read_bytes(item))))
        except Undecodable:
            maps.append(None)
    return maps


LISTED = 50_000
"""Most images that are listed; all are counted."""
ALIKE = 3
"""Nearest training images that an image with a picture lists."""


@dataclass(frozen=True, eq=False)
class SetRequest:
    """A set to score: listed images, or a split with the folders of its images (None for its source)."""

    name: str
    kind: Kind
    source: str
    images: Listing | Split
    folders: Sequence[Path] | None = None

    def __len__(self) -> int:
        return len(self.images.items if isinstance(self.images, Listing) else self.images.labels)


@dataclass(frozen=True, eq=False)
class Report:
    """The contents of the page.

    For each set: ``listed`` rows, ``pictures`` as JPEG by row, ``maps`` with the heat maps of some rows, and
    the ``nearest`` training images of rows with a picture.

    ``gamma`` decides about the scores of the sets (``decision.decide``).
    ``calibration`` are held-out ID images: those that set gamma (``same_rows``), without the parts of their
    scores if the store lacks them; for a detector of an older file others, or None if unavailable. ``notes``
    are warnings, ``facts`` is provenance.
    """

    detector: SavedDetector
    gamma: float
    sets: tuple[ScoredSet, ...]
    calibration: VerdictArrays | None
    same_rows: bool
    listed: tuple[Sequence[int], ...]
    pictures: tuple[Mapping[int, bytes], ...]
    maps: tuple[Mapping[int, Explanation], ...]
    notes: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    nearest: tuple[Mapping[int, tuple[Neighbour, ...]], ...] = ()

    @property
    def failed(self) -> int:
        """The number of unreadable images."""
        return sum(len(scored.failures) for scored in self.sets)


def want_images(name: str, kind: Kind, paths: Sequence[Path], columns: Columns = AUTOMATIC) -> SetRequest:
    """List images as a set. Raises as ``list_images`` does, and LsnError if there are none."""
    source = named(paths)
    # Only images known to be ID have classes to compare with the predicted ones.
    columns = replace(columns, labelled=kind == "id" or bool(columns.label))
    listing = list_images(paths, columns=columns)
    check_not_empty(listing, source)
    return SetRequest(name, kind, source, listing)


def want_split(work: Workspace, name: str, kind: Kind, folders: Sequence[Path] | None = None) -> SetRequest:
    """Read a split as a set. Raises as ``read_split`` does."""
    split = read_split(work.features, name)
    return SetRequest(name, kind, split.source, split, folders)


def make_report(
    requests: Sequence[SetRequest],
    work: Workspace,
    scorer: Scorer,
    *,
    train: str = "train",
    pictures: int = 480,
    explained: int = 0,
    alarms: FalseAlarms | None = None,
    rate: bool = False,
    progress: ProgressCallback = silent,
) -> Report:
    """Score every set and collect the contents of the page; ``progress`` counts scored images.

    ``train`` is the split whose held-out rows are the calibration. At most ``pictures`` images get a
    thumbnail and ``explained`` of them heat maps. ``alarms`` decide about images of unknown truth.
    ``rate`` says whether a rate was asked for, which drift can break.
    Raises FingerprintMismatch for a split of another model than the detector's, and as scoring does.
    """
    detector = scorer.detector
    drift = Drift(detector)
    scored_sets: list[ScoredSet] = []
    for request in requests:
        if isinstance(request.images, Split):
            made_by = read_fingerprint(work.features)
            scored_sets.append(scorer.split(request.images, made_by, request.kind, request.folders, progress))
        else:
            watching = drift if request.kind == "input" else None
            scored_sets.append(
                scorer.listing(request.images, request.name, request.kind, request.source, watching, progress)
            )
    calibration = calibration_rows(work, scorer, train)
    if not set_on(calibration, detector) and detector.held_out is not None:
        calibration = kept_calibration(detector)
    same_rows = detector.held_out is not None or set_on(calibration, detector)
    decision = decide(detector, scored_sets, calibration, alarms)
    sets, gamma = decision.sets, decision.gamma
    share = LISTED // len(sets)
    progress(0, "pictures")
    maps, warnings = explain_images(sets, scorer, explained, gamma)
    thumbs = illustrate(sets, gamma, pictures=pictures, workers=scorer.workers)
    training = training_images(work, detector, train)
    return Report(
        detector=detector,
        gamma=gamma,
        sets=sets,
        calibration=decision.calibration,
        same_rows=same_rows and alarms is None and detector.class_thresholds is None,
        listed=tuple(highlights(s.judged.scores, s.judged.predicted, gamma, share).tolist() for s in sets),
        pictures=thumbs,
        maps=maps,
        notes=(*decision.notes, *_notes(sets), *warnings, *drift.warnings(rate=rate)),
        facts=tuple(_facts(detector, sets, work, decision.fact)),
        nearest=nearest_by_row(sets, thumbs, training, ALIKE) if training is not None else (),
    )


def training_images(work: Workspace, detector: SavedDetector, name: str) -> Split | None:
    """Return a split of the workspace; None without one, or if it has another model or other classes."""
    path = work.features
    if not path.is_file() or read_fingerprint(path).digest != detector.fingerprint.digest:
        return None
    info = find_split(path, name)
    if info is None or not info.classes or not set(info.classes) <= set(detector.head.classes):
        return None
    return read_split(path, name)


def calibration_rows(work: Workspace, scorer: Scorer, split_name: str) -> VerdictArrays | None:
    """Return scores of the held-out rows of a split; None without such rows of this model and classes."""
    split = training_images(work, scorer.detector, split_name)
    if split is None:
        return None
    held_out = known_rows(work, split).held_out
    return scorer.features(held_out.features) if len(held_out) else None


def set_on(calibration: VerdictArrays | None, detector: SavedDetector) -> bool:
    """Return whether gamma was set on these rows: as many, and one of them scores just above gamma."""
    threshold = detector.threshold
    if calibration is None or len(calibration) != threshold.n:
        return False
    gap = float(np.abs(calibration.scores - threshold.gamma).min())
    return gap <= 1.1 * margin_of(calibration.scores)


def illustrate(
    sets: Sequence[ScoredSet], gamma: float, *, pictures: int, workers: int
) -> tuple[Mapping[int, bytes], ...]:
    """Return thumbnails by row, at most ``pictures`` in all, in equal shares per set with images."""
    share = pictures // max(1, sum(scored.items is not None for scored in sets))
    pictures_by_set: list[Mapping[int, bytes]] = []
    for scored in sets:
        if scored.items is None or share == 0:
            pictures_by_set.append({})
            continue
        rows = highlights(scored.judged.scores, scored.judged.predicted, gamma, share).tolist()
        small = thumbnails([scored.items[row] for row in rows], workers)
        pictures_by_set.append({row: data for row, data in zip(rows, small, strict=True) if data is not None})
    return tuple(pictures_by_set)


def explain_images(
    sets: Sequence[ScoredSet], scorer: Scorer, count: int, gamma: float
) -> tuple[tuple[Mapping[int, Explanation], ...], list[str]]:
    """Return heat maps by row, of at most ``count`` images in equal shares per set with images, and warnings.

    A failure, such as a model without saliency, is a warning: all images are scored by now.
    """
    nothing: tuple[Mapping[int, Explanation], ...] = tuple({} for _ in sets)
    share = count // max(1, sum(scored.items is not None for scored in sets))
    if not share:
        return nothing, []
    maps: list[Mapping[int, Explanation]] = []
    try:
        for scored in sets:
            rows = highlights(scored.judged.scores, scored.judged.predicted, gamma, share).tolist()
            items = [scored.items[row] for row in rows] if scored.items is not None else []
            explained = explanations(items, scorer.model(), scorer.detector.head)
            maps.append(
                {
                    row: explanation
                    for row, explanation in zip(rows, explained, strict=False)
                    if explanation is not None
                }
            )
    except LsnError as error:
        return nothing, [f"There are no heat maps: {error}"]
    return tuple(maps), []


def _notes(sets: Sequence[ScoredSet]) -> list[str]:
    """Return warnings about the pictures."""
    notes = []
    bare = [scored.name for scored in sets if scored.items is None]
    if bare:
        notes.append(
            f"The images of {', '.join(bare)} are not where they were: there are no pictures of them."
        )
    return notes


def _facts(
    detector: SavedDetector, sets: Sequence[ScoredSet], work: Workspace, rule: str
) -> list[tuple[str, str]]:
    names = detector.head.classes
    method = Method(detector.method, detector.head_name, detector.settings)
    few = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    return [
        *[(_TITLES[scored.kind], _origin(scored)) for scored in sets],
        ("Detector", f"{detector.label} (method {method}); higher score = more ID"),
        ("Threshold γ", rule),
        (f"{len(names)} classes", few),
        ("Model", str(detector.fingerprint)),
        ("Workspace", str(work.folder)),
        ("Made", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC by lsn {__version__}"),
    ]


_TITLES: dict[Kind, str] = {"input": "Images", "id": "Known ID", "ood": "Known OOD"}


def _origin(scored: ScoredSet) -> str:
    source = scored.source or "no source known"
    return source if scored.kind == "input" else f"{scored.name}, from {source}"
