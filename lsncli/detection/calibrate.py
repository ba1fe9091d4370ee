"""Calibrate a detector: choose gamma from held-out ID rows of a split, or from a folder of ID images."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lsncli.artefacts.detector import SavedDetector, save_detector
from lsncli.backbones import Backbone
from lsncli.console import ProgressCallback, silent
from lsncli.detection.detect import Verdict, detect
from lsncli.detection.drift import ImageSample, seen
from lsncli.errors import LsnError, UsageError
from lsncli.images.item import Listing
from lsncli.methods.heads import Heads, LoadBackbone, load_checked
from lsncli.methods.holdout import (
    HoldoutRows,
    check_held_out,
    hold_out,
    hold_out_again,
    labelled_split,
    rows_for,
)
from lsncli.methods.inputs import inputs_for
from lsncli.methods.spec import Method, resolve_method, without_text
from lsncli.methods.workspace import Workspace
from lsncli.scores import chunk_of, score_in_chunks
from lsncli.store.format import Split
from lsncli.store.reader import read_fingerprint
from lsncli.threshold import Threshold, calibrate
from lsncli.types import Failure, Float64Array

TARGET_TPR = 0.95
HELD_OUT = 0.2
"""Fraction of the labelled rows of each class that no prompt learns from."""
MARGIN = 1e-3
"""How far gamma lies below the score of the image that sets it, in standard deviations of the scores: encoded
in a batch of another size that image scores a little less, and it must be kept. It moves the TPR by 0.01%."""
LONE_MARGIN = 1e-5
"""The same, as a fraction of the score, where all scores are equal, as that of a single image is."""


def known_rows(work: Workspace, split: Split) -> HoldoutRows:
    """Training and held-out rows of ``split``: those of the positive prompts if it trained them.

    Without learned prompts a fifth of each class is held out, by seed 0.
    """
    if work.positive.is_file():
        rule = load_checked(work, "positive").held_out
        if rule.split == split.name:
            return hold_out_again(split, rule)
    return hold_out(split, HELD_OUT, None, seed=0)


def make_detector(
    work: Workspace,
    method: Method,
    *,
    split_name: str = "train",
    target_tpr: float = TARGET_TPR,
    model: LoadBackbone | None = None,
    device: str = "cpu",
    progress: ProgressCallback = silent,
) -> SavedDetector:
    """Calibrate ``method`` on the held-out rows of a labelled split and write ``detector.safetensors``.

    ``progress`` counts rows scored. Raises LsnError if the split has no classes or no row could be held out,
    or as the method does.
    """
    split = labelled_split(work, split_name)
    rows = known_rows(work, split)
    check_held_out(split, rows)
    heads, negatives = Heads(work, split.classes, model, rows=rows.train), "negative" in method.needs
    inputs = inputs_for(method, heads)
    if inputs is not None and not inputs.kept:
        raise UsageError(
            f"{method} looks at more of an image than its features, so it cannot be a detector.",
            "Compare it with `lsn eval`; odin with eps=0 can be calibrated.",
        )
    method = without_text(method, heads)
    chosen = resolve_method(method, heads)
    head = heads.head(method.head, negatives=negatives)
    if inputs is not None:
        learned = inputs.learned(head)
    else:
        learned = chosen.score.fit(head, rows_for(chosen.score, rows.train, split, head.classes), device)
    scorer = chosen.score.scorer(head, learned, device)
    scores = score_in_chunks(scorer, rows.held_out.features, chunk_of(head), progress)
    detector = SavedDetector(
        method=method.score,
        label=chosen.label,
        settings=chosen.settings,
        head_name=method.head,
        head=heads.source(method.head, negatives=negatives),
        fingerprint=read_fingerprint(work.features),
        threshold=threshold_of(scores, target_tpr),
        learned=learned,
    )
    save_detector(work.detector, detector)
    return detector


def threshold_of(scores: Float64Array, target_tpr: float) -> Threshold:
    """Gamma from held-out ID ``scores`` (N,), a hair below the score it is. Raises as ``calibrate``."""
    found = calibrate(scores, target_tpr)
    return replace(found, gamma=found.gamma - margin_of(scores))


def margin_of(scores: Float64Array) -> float:
    """How far below one of ``scores`` (N,) a gamma that is set on them lies."""
    if np.ptp(scores):
        return MARGIN * float(np.std(scores))
    return LONE_MARGIN * abs(float(scores[0]))


def unsupported(classes: Sequence[str], held_out: Collection[str]) -> str:
    """A sentence if gamma rests on images of fewer than half of ``classes``, else nothing.

    ``held_out`` are the classes of the images that set it, true or, where no truth is known, predicted.
    """
    missing = [name for name in classes if name not in set(held_out)]
    if 2 * len(missing) <= len(classes):
        return ""
    return (
        f"{len(missing)} of {len(classes)} classes, such as '{missing[0]}', have no image among those "
        "that set gamma: how many images of these classes it keeps is not known."
    )


@dataclass(frozen=True)
class Recalibrated:
    """A detector with a new gamma, and what that rests on."""

    detector: SavedDetector
    kept_before: float
    """The fraction of the images that the old gamma keeps: far from its target, the images have changed."""
    predicted: Mapping[str, int]
    """Images by predicted class; labels are not asked for."""
    failures: tuple[Failure, ...]

    @property
    def warnings(self) -> list[str]:
        """A sentence each: too few images, too few classes."""
        classes = self.detector.head.classes
        found = (self.detector.threshold.doubt, unsupported(classes, self.predicted.keys()))
        return [text for text in found if text]


def recalibrate(
    detector: SavedDetector,
    listing: Listing,
    backbone: Backbone,
    target_tpr: float,
    *,
    batch_size: int,
    workers: int,
    device: str = "cpu",
    progress: ProgressCallback = silent,
) -> Recalibrated:
    """The same detector with a gamma that keeps ``target_tpr`` of the listed images; nothing is written.

    The images must be ID and new to the prompts: of those that prompts learned from too many would be kept.
    ``progress`` counts images. Raises LsnError if no image could be read.
    """
    looks = ImageSample()
    verdicts: list[Verdict] = []
    stream = detect(
        listing, detector, looks.watching(backbone), batch_size=batch_size, workers=workers, device=device
    )
    for images, batch in stream:
        verdicts += batch
        progress(images)
    return recalibrated(detector, verdicts, looks, target_tpr)


def recalibrated(
    detector: SavedDetector,
    verdicts: Sequence[Verdict],
    looks: ImageSample,
    target_tpr: float,
) -> Recalibrated:
    """Return the detector with the gamma that keeps ``target_tpr`` of the images of ``verdicts``, its own.

    Raises LsnError if no image was scored.
    """
    failures = [
        Failure(verdict.path or f"image {index}", verdict.error)
        for index, verdict in enumerate(verdicts)
        if verdict.error is not None
    ]
    scores = np.array([verdict.score for verdict in verdicts if verdict.score is not None])
    if not len(scores):
        reason = f"The first reason: {failures[0].key}: {failures[0].reason}." if failures else ""
        raise LsnError("There is no readable image to set the threshold with.", reason)
    threshold = threshold_of(scores, target_tpr)
    lost = float(np.mean(scores < threshold.gamma))
    return Recalibrated(
        replace(detector, threshold=threshold, seen=seen(looks, len(scores), lost)),
        kept_before=float(np.mean(scores >= detector.threshold.gamma)),
        predicted=Counter(verdict.predicted for verdict in verdicts if verdict.predicted is not None),
        failures=tuple(failures),
    )
