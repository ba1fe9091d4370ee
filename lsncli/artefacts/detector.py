"""A calibrated detector on disk: with the model, ``detector.safetensors`` is all that scoring needs."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lsncli.artefacts.files import Arrays, complete, read_artefact, write_artefact
from lsncli.artefacts.prompts import Conditional, HeadSource, HeadText, named, unnamed
from lsncli.threshold import Threshold
from lsncli.types import Fingerprint, Rows

HINT = "Run `lsn train-pos` and `lsn train-neg`, or `lsn calibrate --method mcm`."


@dataclass(frozen=True)
class Detector:
    """A score, what its classifier head is made from, and the threshold gamma of Eq. 1."""

    method: str
    """The name of the score."""
    label: str
    """What a table calls it, such as "CoCoOp + LSN"."""
    settings: dict[str, Any]
    prompts: str
    """Where the head came from: ``hand`` or ``positive``."""
    head: HeadSource
    fingerprint: Fingerprint
    threshold: Threshold
    train: Rows | None = None
    """Training rows, for the scores that compare with them (KNN)."""


def save_detector(path: Path, detector: Detector) -> None:
    """Write a detector; features of training rows stay float16 as in the store.

    Text features are float64, to the bit those that gamma was set with: rounded ones would move the scores.
    """
    arrays: Arrays = {}
    settings: dict[str, Any] = {}
    for name, text in (("text", detector.head.text), ("negative", detector.head.negative)):
        if isinstance(text, Conditional):
            arrays |= named(text.contexts, text.meta, f"{name}.")
            settings[name] = text.settings
        elif text is not None:
            arrays[name] = text
    if detector.train is not None:
        arrays |= {"train_features": detector.train.features, "train_labels": detector.train.labels}
    fields = {
        "method": detector.method,
        "label": detector.label,
        "settings": detector.settings,
        "prompts": detector.prompts,
        "classes": detector.head.classes,
        "scale": detector.head.scale,
        "fingerprint": detector.fingerprint.to_json(),
        "threshold": asdict(detector.threshold),
        "conditional": settings,
    }
    write_artefact(path, "detector", arrays, fields)


def load_detector(path: Path) -> Detector:
    """Read a detector; raises LsnError as ``read_artefact`` does."""
    arrays, fields = read_artefact(path, "detector", HINT)
    with complete(path, HINT):
        conditional = fields["conditional"]
        train = Rows(arrays["train_features"], arrays["train_labels"]) if "train_features" in arrays else None
        head = HeadSource(
            classes=tuple(fields["classes"]),
            scale=fields["scale"],
            text=_text("text", arrays, conditional),
            negative=_text("negative", arrays, conditional)
            if {"negative"} & {*arrays, *conditional}
            else None,
        )
        return Detector(
            method=fields["method"],
            label=fields["label"],
            settings=fields["settings"],
            prompts=fields["prompts"],
            head=head,
            fingerprint=Fingerprint.from_json(fields["fingerprint"]),
            threshold=Threshold(**fields["threshold"]),
            train=train,
        )


def _text(name: str, arrays: Arrays, conditional: dict[str, Any]) -> HeadText:
    if name not in conditional:
        return np.asarray(arrays[name], dtype=np.float64)
    return Conditional(*unnamed(arrays, conditional=True, prefix=f"{name}."), conditional[name])
