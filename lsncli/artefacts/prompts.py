"""Learned prompts on disk: ``positive.safetensors`` and ``negative.safetensors``."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lsncli.artefacts.files import complete, read_artefact, write_artefact
from lsncli.types import Fingerprint, Float64s, unit

Kind = Literal["positive", "negative"]

COMMANDS: dict[Kind, str] = {"positive": "lsn train-pos", "negative": "lsn train-neg"}


@dataclass(frozen=True)
class HeldOut:
    """Which labelled rows no prompt was trained on: how to find them again."""

    split: str
    rows: str
    """Digest of the split's keys and labels when the rows were held out."""
    fraction: float
    shots: int | None
    seed: int


@dataclass(frozen=True)
class LearnedPrompts:
    """Contexts, their text features, and all that is needed to trust or repeat them."""

    kind: Kind
    fingerprint: Fingerprint
    classes: tuple[str, ...]
    context: NDArray[np.float32]
    """Positive (M, W), negative (K, C, M, W)."""
    text: Float64s
    """Unit text features: positive (C, D), negative (K, C, D)."""
    learner: str
    settings: dict[str, Any]
    history: tuple[float, ...]
    """Mean training loss of each epoch."""
    held_out: HeldOut


def save_prompts(path: Path, prompts: LearnedPrompts) -> None:
    """Write a prompts artefact; text features are kept in float32, the tower's own precision."""
    arrays = {"context": prompts.context, "text": prompts.text.astype(np.float32)}
    fields = {
        "fingerprint": prompts.fingerprint.to_json(),
        "classes": prompts.classes,
        "learner": prompts.learner,
        "settings": prompts.settings,
        "history": prompts.history,
        "held_out": asdict(prompts.held_out),
    }
    write_artefact(path, f"{prompts.kind}-prompts", arrays, fields)


def load_prompts(path: Path, kind: Kind) -> LearnedPrompts:
    """Read a prompts artefact; raises LsnError as ``read_artefact`` does."""
    hint = f"Run `{COMMANDS[kind]}` first."
    arrays, fields = read_artefact(path, f"{kind}-prompts", hint)
    with complete(path, hint):
        return LearnedPrompts(
            kind=kind,
            fingerprint=Fingerprint.from_json(fields["fingerprint"]),
            classes=tuple(fields["classes"]),
            context=arrays["context"],
            text=unit(arrays["text"]),
            learner=fields["learner"],
            settings=fields["settings"],
            history=tuple(fields["history"]),
            held_out=HeldOut(**fields["held_out"]),
        )
