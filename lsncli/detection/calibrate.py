"""Calibrate a detector: choose gamma from the held-out ID rows of a split or from a folder of ID images."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lsncli.artefacts.detector import SavedDetector, save_detector
from lsncli.backbones import Backbone
from lsncli.class_thresholds import scores_by_class
from lsncli.console import ProgressCallback, silent
from lsncli.detection.detect import Verdict, detect
from lsncli.detection.drift import ImageSample, image_statistics
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
from lsncli.methods.spec import Method, adapted, resolve_method
from lsncli.methods.workspace import Workspace
from lsncli.scores import chunk_of, score_in_chunks
from lsncli.scores.common import predict
from lsncli.store.format import Split
from lsncli.store.reader import read_fingerprint
from lsncli.threshold import kept_scores, threshold_of
from lsncli.types import Failure, FloatArray, Head, Labels

TARGET_TPR = 0.95
HELD_OUT = 0.2
"""Fraction of the labelled rows of each class that is held out of training."""


def known_rows(work: Workspace, split: Split) -> HoldoutRows:
    """Return the training and held-out rows of ``split``.

    They are those of the positive prompts if ``split`` trained them. Otherwise, a fifth of each class is held
    out with seed 0.
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
    per_class: bool = False,
    model: LoadBackbone | None = None,
    device: str = "cpu",
    progress: ProgressCallback = silent,
    remark: Callable[[str], None] = lambda text: None,
) -> SavedDetector:
    """Calibrate ``method`` on the held-out rows of a labelled split and write ``detector.safetensors``.

    ``per_class`` gives each predicted class a threshold of its own, where it has enough held-out rows.
    ``progress`` is called with the number of rows scored, ``remark`` with a sentence about what takes long.
    Raises LsnError if the split has no classes, if no row can be held out, or as the method does.
    """
    split = labelled_split(work, split_name)
    rows = known_rows(work, split)
    check_held_out(split, rows)
    heads = Heads(work, split.classes, model, rows=rows.train, remark=remark)
    negatives = "negative" in method.needs
    inputs = inputs_for(method, heads)
    if inputs is not None and not inputs.kept:
        raise UsageError(
            f"{method} looks at more of an image than its features, so it cannot be a detector.",
            "Compare it with `lsn eval`; odin with eps=0 can be calibrated.",
        )
    method = adapted(method, heads)
    resolved = resolve_method(method, heads)
    head = heads.head(method.head, negatives=negatives)
    if inputs is not None:
        learned = inputs.learned(head)
    else:
        learned = resolved.score.fit(head, rows_for(resolved.score, rows.train, split, head.classes), device)
    scorer = resolved.score.scorer(head, learned, device)
    scores = score_in_chunks(scorer, rows.held_out.features, chunk_of(head), progress)
    detector = SavedDetector(
        method=method.score,
        label=resolved.label,
        settings=resolved.settings,
        head_name=method.head,
        head=heads.source(method.head, negatives=negatives),
        fingerprint=read_fingerprint(work.features),
        threshold=threshold_of(scores, target_tpr),
        learned=learned,
        held_out=kept_scores(scores),
        by_class=scores_by_class(scores, predict_in_chunks(head, rows.held_out.features), len(head.classes))
        if per_class
        else None,
    )
    save_detector(work.detector, detector)
    return detector


def predict_in_chunks(head: Head, features: FloatArray) -> Labels:
    """Return the predicted classes (N,) of raw ``features`` (N, D), some rows at a time."""
    labels, rows = np.empty(len(features), dtype=np.int32), chunk_of(head)
    for start in range(0, len(labels), rows):
        labels[start : start + rows] = predict(head, features[start : start + rows])
    return labels


def unsupported(classes: Sequence[str], held_out: Collection[str]) -> str:
    """Return a warning if gamma depends on images of fewer than half of ``classes``, else an empty string.

    ``held_out`` are the classes of the images that set gamma: true classes, or predicted ones without labels.
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
    """A detector with a new gamma, and the images that set it."""

    detector: SavedDetector
    kept_before: float
    """The fraction of the images that the old gamma keeps. Far from its target, the images have changed."""
    predicted: Mapping[str, int]
    """The number of images of each predicted class; labels are not needed."""
    failures: tuple[Failure, ...]

    @property
    def warnings(self) -> list[str]:
        """Return a sentence for each problem: too few images, too few classes."""
        classes = self.detector.head.classes
        texts = (self.detector.doubt, unsupported(classes, self.predicted.keys()))
        return [text for text in texts if text]


def recalibrate(
    detector: SavedDetector,
    listing: Listing,
    backbone: Backbone,
    target_tpr: float,
    *,
    per_class: bool = False,
    batch_size: int,
    workers: int,
    device: str = "cpu",
    progress: ProgressCallback = silent,
) -> Recalibrated:
    """Return the detector with a gamma that keeps ``target_tpr`` of the listed images. Write nothing.

    ``per_class`` sets one for each predicted class, as ``make_detector`` does. The images must be ID and not
    the training images of the prompts, which score too high. ``progress`` is called with the number of
    images. Raises LsnError if no image could be read.
    """
    sample = ImageSample()
    verdicts: list[Verdict] = []
    stream = detect(
        listing, detector, sample.watching(backbone), batch_size=batch_size, workers=workers, device=device
    )
    for images, batch in stream:
        verdicts += batch
        progress(images)
    return recalibrated(detector, verdicts, sample, target_tpr, per_class=per_class)


def recalibrated(
    detector: SavedDetector,
    verdicts: Sequence[Verdict],
    sample: ImageSample,
    target_tpr: float,
    *,
    per_class: bool = False,
) -> Recalibrated:
    """Return the detector with a gamma that keeps ``target_tpr`` of the images of its own ``verdicts``.

    Raises LsnError if no image was scored.
    """
    failures = [
        Failure(verdict.path or f"image {index}", verdict.error)
        for index, verdict in enumerate(verdicts)
        if verdict.error is not None
    ]
    known = [verdict for verdict in verdicts if verdict.score is not None]
    scores = np.array([verdict.score for verdict in known])
    if not len(scores):
        reason = f"The first reason: {failures[0].key}: {failures[0].reason}." if failures else ""
        raise LsnError("There is no readable image to set the threshold with.", reason)
    classes = detector.head.classes
    number = {name: label for label, name in enumerate(classes)}
    predicted = np.array([number[verdict.predicted or ""] for verdict in known], dtype=np.int32)
    made = replace(
        detector,
        threshold=threshold_of(scores, target_tpr),
        held_out=kept_scores(scores),
        by_class=scores_by_class(scores, predicted, len(classes)) if per_class else None,
    )
    by_class = made.class_thresholds
    gammas = made.threshold.gamma if by_class is None else by_class.gammas[predicted]
    seen = image_statistics(sample, len(scores), float(np.mean(scores < gammas)))
    return Recalibrated(
        replace(made, seen=seen),
        kept_before=float(np.mean([not verdict.is_ood for verdict in known])),
        predicted=Counter(verdict.predicted for verdict in verdicts if verdict.predicted is not None),
        failures=tuple(failures),
    )
