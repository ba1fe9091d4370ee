"""A calibrated detector on disk: with the model, ``detector.safetensors`` is all that scoring needs."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lsncli.artefacts.files import Arrays, complete, read_artefact, write_artefact
from lsncli.artefacts.prompts import Conditional, HeadSource, HeadText, named, unnamed
from lsncli.threshold import Threshold
from lsncli.types import Fingerprint, LearnedArrays
from lsncli.validation import validate

LEARNED = "learned."
HINT = (
    'Make one from class names and good images: `lsn calibrate FOLDER --classes "cat,dog"`; or from '
    "features: `lsn calibrate --method mcm`, or `lsn train-pos` and `lsn train-neg`."
)


@dataclass(frozen=True)
class ImageStatistics:
    """What the images looked like that set gamma: what later images are compared with.

    ``side`` (the shorter one, in pixels) and ``sharpness`` (``detection.drift``) are the 5 %, 50 % and 95 %
    quantiles; ``ood`` is the fraction of the images that gamma rejects.
    """

    images: int
    ood: float
    side: tuple[float, float, float]
    sharpness: tuple[float, float, float]


@dataclass(frozen=True)
class SavedDetector:
    """A score, what its classifier head is made from, and the threshold gamma of Eq. 1."""

    method: str
    """The name of the score."""
    label: str
    """What a table calls it, such as "CoCoOp + LSN"."""
    settings: dict[str, Any]
    head_name: str
    """Where the head came from, such as ``hand`` or ``positive``."""
    head: HeadSource
    fingerprint: Fingerprint
    threshold: Threshold
    learned: LearnedArrays = field(default_factory=dict)
    """What the score learned from training rows, such as KNN's bank of them."""
    seen: ImageStatistics | None = None
    """None where gamma was set with stored features, or with nothing."""

    @property
    def basis(self) -> str:
        """What its verdicts rest on: method, classes, model, gamma."""
        return (
            f"{self.label} on {len(self.head.classes)} classes with {self.fingerprint.model}; "
            f"gamma {self.threshold.gamma:.6f} {self.threshold.basis}"
        )


def save_detector(path: Path, detector: SavedDetector) -> None:
    """Write a detector, to the bit what gamma was set with: rounded text features would move the scores."""
    arrays: Arrays = {}
    settings: dict[str, Any] = {}
    for name, text in (("weights", detector.head.weights), ("negative", detector.head.negative)):
        if isinstance(text, Conditional):
            arrays |= named(text.contexts, text.meta, f"{name}.")
            settings[name] = text.settings
        elif text is not None:
            arrays[name] = text
    if detector.head.bias is not None:
        arrays["bias"] = detector.head.bias
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
    """Read a detector; raises LsnError as ``read_artefact`` does."""
    arrays, fields = read_artefact(path, "detector", HINT)
    with complete(path, HINT):
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
        )


def _check_shapes(head: HeadSource) -> None:
    """ValueError unless what the head is made from is of as many classes as it names."""
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
    return Conditional(*unnamed(arrays, conditional=True, prefix=f"{name}."), conditional[name])
