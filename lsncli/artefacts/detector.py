"""Calibrated detectors on disk: ``detector.safetensors`` and the model are all that scoring needs."""

from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsncli.artefacts import MAKE_DETECTOR
from lsncli.artefacts.files import Arrays, complete, read_artefact, write_artefact
from lsncli.artefacts.prompts import Conditional, HeadSource, HeadText, named_arrays, split_arrays
from lsncli.class_thresholds import ClassScores, ClassThresholds, Group, class_thresholds
from lsncli.errors import LsnError
from lsncli.threshold import Threshold, margin_of
from lsncli.types import Fingerprint, Float64Array, LearnedArrays
from lsncli.validation import validate

LEARNED = "learned."


@dataclass(frozen=True)
class ImageStatistics:
    """Statistics of the images that gamma was calibrated on, to compare later images with.

    ``side`` (the shorter one, in pixels) and ``sharpness`` (``detection.drift``) are the 5 %, 50 % and 95 %
    quantiles; ``ood`` is the fraction of the images that gamma rejects.
    """

    images: int
    ood: float
    side: tuple[float, float, float]
    sharpness: tuple[float, float, float]


@dataclass(frozen=True)
class SavedDetector:
    """A score, the parts of its classifier head, and the threshold gamma of Eq. 1."""

    method: str
    """The name of the score."""
    label: str
    """Display name, such as "CoCoOp + LSN"."""
    settings: dict[str, Any]
    head_name: str
    """Origin of the head, such as ``hand`` or ``positive``."""
    head: HeadSource
    fingerprint: Fingerprint
    threshold: Threshold
    learned: LearnedArrays = field(default_factory=dict)
    """Arrays that the score learned from training rows, such as the bank of KNN."""
    seen: ImageStatistics | None = None
    """None if gamma was calibrated on stored features, or not at all."""
    held_out: Float64Array | None = None
    """Scores of the images that set gamma, in ascending order (``threshold.kept_scores``); None if none did,
    and for detectors of older files."""
    by_class: ClassScores | None = None
    """The same by predicted class, for a detector with a threshold for each class; else None."""

    @cached_property
    def class_thresholds(self) -> ClassThresholds | None:
        """The threshold of each predicted class; None if ``threshold.gamma`` is that of all."""
        if self.by_class is None or self.held_out is None:
            return None
        whole = self.threshold
        every = Group(self.held_out, whole.n, whole.gamma, whole.tpr_low, whole.tpr_high)
        return class_thresholds(self.by_class, every, whole.target_tpr, margin_of(self.held_out))

    @property
    def gammas(self) -> Float64Array:
        """The gamma of each predicted class, (C,): its own, or ``threshold.gamma``."""
        if self.class_thresholds is not None:
            return self.class_thresholds.gammas
        return np.full(len(self.head.classes), self.threshold.gamma)

    def held_out_of(self, name: str) -> Float64Array | None:
        """Return the held-out scores with which an image is compared that is predicted as class ``name``."""
        if self.class_thresholds is None:
            return self.held_out
        return self.class_thresholds.group(self.head.classes.index(name)).scores

    @property
    def doubt(self) -> str:
        """A sentence if too few images have set the threshold, or that of a class, else an empty string."""
        return self.threshold.doubt if self.class_thresholds is None else self.class_thresholds.doubt

    @property
    def scoring(self) -> str:
        """Describe what gives scores: method, classes, model."""
        return f"{self.label} on {len(self.head.classes)} classes with {self.fingerprint.model}"

    @property
    def gamma_in_words(self) -> str:
        """Describe gamma: "gamma = 0.250000", or "gamma by predicted class"."""
        return f"gamma = {self.threshold.gamma:.6f}" if self.by_class is None else "gamma by predicted class"

    @property
    def basis(self) -> str:
        """Describe the detector: method, classes, model, gamma."""
        gamma = f"{self.threshold.gamma:.6f}" if self.by_class is None else "by predicted class"
        return f"{self.scoring}; gamma {gamma} {self.threshold.basis}"


def save_detector(path: Path, detector: SavedDetector) -> None:
    """Write a detector bit for bit: rounded text features would change the scores."""
    arrays: Arrays = {}
    settings: dict[str, Any] = {}
    for name, text in (("weights", detector.head.weights), ("negative", detector.head.negative)):
        if isinstance(text, Conditional):
            arrays |= named_arrays(text.contexts, text.meta, f"{name}.")
            settings[name] = text.settings
        elif text is not None:
            arrays[name] = text
    if detector.head.bias is not None:
        arrays["bias"] = detector.head.bias
    if detector.held_out is not None:
        arrays["held_out"] = detector.held_out
    if detector.by_class is not None:
        arrays["class_scores"] = np.concatenate(detector.by_class.scores)
        arrays["class_kept"] = np.array([len(part) for part in detector.by_class.scores], dtype=np.int64)
        arrays["class_counts"] = np.array(detector.by_class.counts, dtype=np.int64)
    arrays |= {LEARNED + name: array for name, array in detector.learned.items()}
    fields = {
        "method": detector.method,
        "label": detector.label,
        "settings": detector.settings,
        "head": detector.head_name,
        "classes": detector.head.classes,
        "scale": detector.head.scale,
        "fingerprint": detector.fingerprint.to_json(),
        "threshold": asdict(detector.threshold),
        "conditional": settings,
        "seen": None if detector.seen is None else asdict(detector.seen),
    }
    write_artefact(path, "detector", arrays, fields)


def load_detector(path: Path) -> SavedDetector:
    """Read a detector. Raises LsnError as ``read_artefact``."""
    arrays, fields = read_artefact(path, "detector", MAKE_DETECTOR)
    with complete(path, MAKE_DETECTOR):
        conditional = validate(dict[str, dict[str, Any]], fields["conditional"], "conditional")
        head = HeadSource(
            classes=validate(tuple[str, ...], fields["classes"], "classes"),
            scale=validate(float, fields["scale"], "scale"),
            weights=_text("weights", arrays, conditional),
            negative=_text("negative", arrays, conditional)
            if {"negative"} & {*arrays, *conditional}
            else None,
            bias=arrays.get("bias"),
        )
        _check_shapes(head)
        held_out = arrays.get("held_out")  # files of before version 4 have none
        _check_ascending(held_out)
        return SavedDetector(
            method=validate(str, fields["method"], "method"),
            label=validate(str, fields["label"], "label"),
            settings=validate(dict[str, Any], fields["settings"], "settings"),
            head_name=validate(str, fields["head"], "head"),
            head=head,
            fingerprint=Fingerprint.from_json(fields["fingerprint"]),
            threshold=validate(Threshold, fields["threshold"], "threshold"),
            learned={
                name.removeprefix(LEARNED): array
                for name, array in arrays.items()
                if name.startswith(LEARNED)
            },
            # Files of before lsn recorded it have none.
            seen=None if fields.get("seen") is None else validate(ImageStatistics, fields["seen"], "seen"),
            held_out=held_out,
            by_class=_by_class(arrays, len(head.classes)) if "class_scores" in arrays else None,
        )


def find_detector(path: Path) -> SavedDetector | None:
    """Read a detector; return None if there is none, or if it cannot be read."""
    try:
        return load_detector(path)
    except LsnError:
        return None


def _check_ascending(held_out: NDArray[Any] | None) -> None:
    """Raise ValueError unless the held-out scores are finite numbers in ascending order."""
    if held_out is None:
        return
    if held_out.dtype != np.float64 or held_out.ndim != 1 or not len(held_out):
        raise ValueError(f"held-out scores of type {held_out.dtype} and shape {held_out.shape}")
    if not np.isfinite(held_out).all() or (np.diff(held_out) < 0).any():
        raise ValueError("held-out scores that are not finite and ascending")


def _by_class(arrays: Arrays, classes: int) -> ClassScores:
    """Return the held-out scores by class. Raises ValueError unless they can be those of ``classes``."""
    whole, kept, counts = (arrays[name] for name in ("class_scores", "class_kept", "class_counts"))
    if kept.dtype != np.int64 or counts.dtype != np.int64 or {kept.shape, counts.shape} != {(classes,)}:
        raise ValueError(f"held-out scores by class of shapes {kept.shape} and {counts.shape}")
    if (kept < 0).any() or (counts < kept).any() or kept.sum() != len(whole) or "held_out" not in arrays:
        raise ValueError("held-out scores by class that do not add up")
    parts = np.split(whole, np.cumsum(kept)[:-1])
    for part in parts:
        _check_ascending(part if len(part) else None)
    return ClassScores(tuple(parts), tuple(counts.tolist()))


def _check_shapes(head: HeadSource) -> None:
    """Raise ValueError unless the parts of the head have as many classes as it names."""
    count = len(head.classes)
    if not count:
        raise ValueError("no classes")
    dim = 0
    if not isinstance(head.weights, Conditional):
        if head.weights.ndim != 2 or len(head.weights) != count:
            raise ValueError(f"weights of shape {head.weights.shape} for {count} classes")
        dim = head.weights.shape[1]
    if head.bias is not None and head.bias.shape != (count,):
        raise ValueError(f"a bias of shape {head.bias.shape} for {count} classes")
    if head.negative is not None and not isinstance(head.negative, Conditional):
        shape = head.negative.shape
        if len(shape) != 3 or shape[1] != count or (dim and shape[2] != dim):
            raise ValueError(f"negative text features of shape {shape} for {count} classes")


def _text(name: str, arrays: Arrays, conditional: dict[str, Any]) -> HeadText:
    if name not in conditional:
        return np.asarray(arrays[name], dtype=np.float64)
    return Conditional(*split_arrays(arrays, conditional=True, prefix=f"{name}."), conditional[name])
