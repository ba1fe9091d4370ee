"""A calibrated detector on disk: ``detector.safetensors`` is all that scoring an image needs."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lsncli.artefacts.files import complete, read_artefact, write_artefact
from lsncli.threshold import Threshold
from lsncli.types import Fingerprint, Head, Rows


@dataclass(frozen=True)
class Detector:
    """A score, the classifier head it works on, and the threshold gamma of Eq. 1."""

    method: str
    settings: dict[str, Any]
    prompts: str
    """Where the head came from: ``hand`` or ``positive``."""
    head: Head
    fingerprint: Fingerprint
    threshold: Threshold
    train: Rows | None = None
    """Training rows, for the scores that compare with them (KNN)."""


def save_detector(path: Path, detector: Detector) -> None:
    """Write a detector; features of training rows stay float16 as in the store.

    Text features are float64, to the bit those that gamma was set with: rounded ones would move the scores.
    """
    arrays: dict[str, Any] = {"text": detector.head.text}
    if detector.head.negative is not None:
        arrays["negative"] = detector.head.negative
    if detector.train is not None:
        arrays |= {"train_features": detector.train.features, "train_labels": detector.train.labels}
    fields = {
        "method": detector.method,
        "settings": detector.settings,
        "prompts": detector.prompts,
        "classes": detector.head.classes,
        "scale": detector.head.scale,
        "fingerprint": detector.fingerprint.to_json(),
        "threshold": asdict(detector.threshold),
    }
    write_artefact(path, "detector", arrays, fields)


def load_detector(path: Path) -> Detector:
    """Read a detector; raises LsnError as ``read_artefact`` does."""
    hint = "Run `lsn train-pos` and `lsn train-neg`, or `lsn calibrate --method mcm`."
    arrays, fields = read_artefact(path, "detector", hint)
    with complete(path, hint):
        train = Rows(arrays["train_features"], arrays["train_labels"]) if "train_features" in arrays else None
        return Detector(
            method=fields["method"],
            settings=fields["settings"],
            prompts=fields["prompts"],
            head=Head(tuple(fields["classes"]), arrays["text"], fields["scale"], arrays.get("negative")),
            fingerprint=Fingerprint.from_json(fields["fingerprint"]),
            threshold=Threshold(**fields["threshold"]),
            train=train,
        )
