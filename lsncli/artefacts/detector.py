"""Calibrated detectors on disk: ``detector.safetensors`` and the model are all that scoring needs."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsncli.artefacts import MAKE_DETECTOR
from lsncli.artefacts.files import Arrays, complete, read_artefact, write_artefact
from lsncli.artefacts.prompts import Conditional, HeadSource, HeadText, named_arrays, split_arrays
from lsncli.errors import LsnError
from lsncli.threshold import Threshold
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

    @property
    def scoring(self) -> str:
        """Describe what gives scores: method, classes, model."""
        return f"{self.label} on {len(self.head.classes)} classes with {self.fingerprint.model}"

    @property
    def basis(self) -> str:
        """Describe the detector: method, classes, model, gamma."""
        return f"{self.scoring}; gamma {self.threshold.gamma:.6f} {self.threshold.basis}"


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
