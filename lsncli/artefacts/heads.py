"""Learned classifier heads on disk (``linear.head.safetensors`` and its like), and CLIPN's "no" text encoder
(``no-tower.safetensors``).
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsncli.artefacts.files import Arrays, complete, read_artefact, write_artefact
from lsncli.artefacts.prompts import HeldOut
from lsncli.types import Failure, Fingerprint, Float64Array
from lsncli.validation import validate

COMMANDS = {
    "linear": "lsn train-head",
    "dualcoop": "lsn train-head --kind dualcoop",
    "clipn": "lsn train-no",
}
"""The command that trains each kind of head."""


@dataclass(frozen=True)
class LearnedHead:
    """A classifier with fixed weights for ``types.Head``, and its provenance."""

    kind: str
    """A key of ``COMMANDS``; methods name the head by it."""
    fingerprint: Fingerprint
    classes: tuple[str, ...]
    scale: float
    """1 for a linear probe, CLIP's logit scale for text features."""
    weights: Float64Array
    """(C, D)."""
    settings: dict[str, Any]
    held_out: HeldOut | None = None
    """The rows that it was *not* trained on; None if no row of the store was used."""
    bias: Float64Array | None = None
    """(C,)."""
    negative: Float64Array | None = None
    """Its "no" text features (K, C, D), unit."""
    history: tuple[float, ...] = ()
    """Mean training loss of each epoch, if there were epochs."""


def save_head(path: Path, head: LearnedHead) -> None:
    """Write a head bit for bit. Raises LsnError as ``write_artefact``."""
    arrays: Arrays = {"weights": head.weights}
    arrays |= {} if head.bias is None else {"bias": head.bias}
    arrays |= {} if head.negative is None else {"negative": head.negative}
    fields = {
        "kind": head.kind,
        "fingerprint": head.fingerprint.to_json(),
        "classes": head.classes,
        "scale": head.scale,
        "settings": head.settings,
        "held_out": None if head.held_out is None else asdict(head.held_out),
        "history": head.history,
    }
    write_artefact(path, "head", arrays, fields)


def load_head(path: Path, kind: str) -> LearnedHead:
    """Read a head of ``kind``. Raises LsnError as ``read_artefact``."""
    hint = f"Run `{COMMANDS[kind]}` first."
    arrays, fields = read_artefact(path, "head", hint)
    with complete(path, hint):
        if fields["kind"] != kind:
            raise ValueError(f"a head of kind {fields['kind']}, not {kind}")
        rule = fields["held_out"]
        head = LearnedHead(
            kind=kind,
            fingerprint=Fingerprint.from_json(fields["fingerprint"]),
            classes=validate(tuple[str, ...], fields["classes"], "classes"),
            scale=validate(float, fields["scale"], "scale"),
            weights=arrays["weights"].astype(np.float64),
            settings=validate(dict[str, Any], fields["settings"], "settings"),
            held_out=None if rule is None else validate(HeldOut, rule, "held_out"),
            bias=arrays["bias"].astype(np.float64) if "bias" in arrays else None,
            negative=arrays["negative"].astype(np.float64) if "negative" in arrays else None,
            history=validate(tuple[float, ...], fields["history"], "history"),
        )
        _check_shapes(head)
        return head


def _check_shapes(head: LearnedHead) -> None:
    classes, dim = len(head.classes), head.fingerprint.dim
    if head.weights.shape != (classes, dim):
        raise ValueError(f"weights of shape {head.weights.shape}, not ({classes}, {dim})")
    if head.bias is not None and head.bias.shape != (classes,):
        raise ValueError(f"a bias of shape {head.bias.shape}, not ({classes},)")
    if head.negative is not None and head.negative.shape[1:] != (classes, dim):
        raise ValueError(f"negative text features of shape {head.negative.shape}, not (K, {classes}, {dim})")


HINT = "Run `lsn train-no PAIRS` first."


@dataclass(frozen=True)
class NoTower:
    """The weights of the encoder, including its "no" prompts, and their provenance."""

    fingerprint: Fingerprint
    """Fingerprint of the model whose text encoder it was."""
    weights: dict[str, NDArray[np.float32]]
    settings: dict[str, Any]
    pairs: int
    """Number of image-caption pairs that it was trained on."""
    failures: tuple[Failure, ...]
    """Number of pairs that could not be used."""
    history: tuple[float, ...]
    """Mean training loss of each epoch."""


def save_no_tower(path: Path, tower: NoTower) -> None:
    """Write an encoder bit for bit. Raises LsnError as ``write_artefact``."""
    fields = {
        "fingerprint": tower.fingerprint.to_json(),
        "settings": tower.settings,
        "pairs": tower.pairs,
        "failures": [[failure.key, failure.reason] for failure in tower.failures],
        "history": tower.history,
    }
    write_artefact(path, "no-tower", tower.weights, fields)


def load_no_tower(path: Path) -> NoTower:
    """Read an encoder. Raises LsnError as ``read_artefact``."""
    arrays, fields = read_artefact(path, "no-tower", HINT)
    with complete(path, HINT):
        return NoTower(
            fingerprint=Fingerprint.from_json(fields["fingerprint"]),
            weights=arrays,
            settings=validate(dict[str, Any], fields["settings"], "settings"),
            pairs=validate(int, fields["pairs"], "pairs"),
            failures=tuple(
                Failure(*pair)
                for pair in validate(tuple[tuple[str, str], ...], fields["failures"], "failures")
            ),
            history=validate(tuple[float, ...], fields["history"], "history"),
        )
