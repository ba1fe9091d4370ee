"""Learned prompts on disk: ``positive.safetensors`` and ``negative.safetensors``."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsncli.artefacts.files import Arrays, complete, read_artefact, write_artefact
from lsncli.prompts.cocoop import META
from lsncli.prompts.settings import Kind
from lsncli.types import Fingerprint, Float64Array, unit
from lsncli.validation import validate

COMMANDS: dict[Kind, str] = {"positive": "lsn train-pos", "negative": "lsn train-neg"}

SETTINGS: dict[str, Any] = {"learner": str, "position": str, "names": bool, "score": dict[str, Any]}
"""Settings that others depend on, and their types."""


@dataclass(frozen=True)
class HeldOut:
    """The labelled rows that no prompt was trained on, and how to select them again."""

    split: str
    rows: str
    """Digest of the split's keys and labels when the rows were held out."""
    fraction: float
    shots: int | None
    seed: int

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed: expected 0 or more, found {self.seed}")


@dataclass(frozen=True)
class Conditional:
    """CoCoOp prompts: the input of the text tower to encode them for an image."""

    contexts: NDArray[np.float32]
    """(K, M, W), or (K, C, M, W) class-specific."""
    meta: dict[str, NDArray[np.float32]]
    """K meta-nets, as in ``prompts.cocoop.shift``."""
    settings: dict[str, Any]
    """Settings of the prompts; ``position``, ``names`` and ``specific`` define the layout."""


HeadText = Float64Array | Conditional
"""Unit text features, (C, D) positive or (K, C, D) negative, or CoCoOp prompts."""


@dataclass(frozen=True)
class HeadSource:
    """The parts of a ``Head``: complete, or to be encoded by the text tower."""

    classes: tuple[str, ...]
    scale: float
    """CLIP's logit scale; 1 for a linear probe."""
    weights: HeadText
    """The rows (C, D) of a linear probe, instead of text features."""
    negative: HeadText | None
    bias: Float64Array | None = None

    @property
    def conditional(self) -> bool:
        """Whether prompts depend on the image (CoCoOp)."""
        return any(isinstance(text, Conditional) for text in (self.weights, self.negative))


@dataclass(frozen=True)
class LearnedPrompts:
    """Contexts, their text features, and their provenance."""

    kind: Kind
    fingerprint: Fingerprint
    classes: tuple[str, ...]
    contexts: NDArray[np.float32]
    """K contexts: (K, M, W), or (K, C, M, W) class-specific."""
    meta: dict[str, NDArray[np.float32]]
    """K meta-nets of CoCoOp; empty for CoOp."""
    text: Float64Array | None
    """Unit text features (K, C, D); None for CoCoOp, whose prompts depend on the image."""
    settings: dict[str, Any]
    """All settings, including ``learner``: "coop" or "cocoop"."""
    history: tuple[float, ...]
    """Mean training loss of each epoch."""
    held_out: HeldOut

    @property
    def head_text(self) -> HeadText:
        """Return these prompts as a part of a head.

        Several positive prompts a class are an ensemble (Radford et al., ICML 2021): a class is represented
        by the unit mean of its K unit text features; with CoCoOp, by that mean for each image. Sets of
        negative prompts stay apart, their scores are averaged.
        """
        if self.text is None:
            return Conditional(self.contexts, self.meta, self.settings)
        return unit(self.text.mean(axis=0)) if self.kind == "positive" else self.text


def save_prompts(path: Path, prompts: LearnedPrompts) -> None:
    """Write a prompts artefact; text features are stored in float32, the tower's precision."""
    arrays = named_arrays(prompts.contexts, prompts.meta)
    if prompts.text is not None:
        arrays["text"] = prompts.text.astype(np.float32)
    fields = {
        "fingerprint": prompts.fingerprint.to_json(),
        "classes": prompts.classes,
        "settings": prompts.settings,
        "history": prompts.history,
        "held_out": asdict(prompts.held_out),
    }
    write_artefact(path, f"{prompts.kind}-prompts", arrays, fields)


def load_prompts(path: Path, kind: Kind) -> LearnedPrompts:
    """Read a prompts artefact. Raises LsnError as ``read_artefact``."""
    again = f"Learn the prompts again with `{COMMANDS[kind]}`."
    arrays, fields = read_artefact(path, f"{kind}-prompts", f"Run `{COMMANDS[kind]}` first.", again)
    with complete(path, again):
        settings = validate(dict[str, Any], fields["settings"], "settings")
        for name, kind_of in SETTINGS.items():
            if name in settings:
                validate(kind_of, settings[name], name)
        contexts, meta = split_arrays(arrays, conditional=settings["learner"] == "cocoop")
        prompts = LearnedPrompts(
            kind=kind,
            fingerprint=Fingerprint.from_json(fields["fingerprint"]),
            classes=validate(tuple[str, ...], fields["classes"], "classes"),
            contexts=contexts,
            meta=meta,
            text=None if meta else unit(arrays["text"]),
            settings=settings,
            history=validate(tuple[float, ...], fields["history"], "history"),
            held_out=validate(HeldOut, fields["held_out"], "held_out"),
        )
        check_shapes(prompts.classes, contexts, prompts.text)
        return prompts


def named_arrays(
    contexts: NDArray[np.float32], meta: dict[str, NDArray[np.float32]], prefix: str = ""
) -> Arrays:
    """Return contexts and meta-nets by their names in the file."""
    return {f"{prefix}contexts": contexts} | {f"{prefix}meta.{key}": array for key, array in meta.items()}


def split_arrays(
    arrays: Arrays, *, conditional: bool, prefix: str = ""
) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
    """Return the inverse of ``named_arrays``. Raises KeyError for a missing array."""
    meta = {key: arrays[f"{prefix}meta.{key}"] for key in META} if conditional else {}
    return arrays[f"{prefix}contexts"], meta


def check_shapes(classes: tuple[str, ...], contexts: NDArray[np.float32], text: Float64Array | None) -> None:
    """Raise ValueError unless contexts and text features match in number and classes."""
    sets = len(contexts)
    if contexts.ndim == 4 and contexts.shape[1] != len(classes):
        raise ValueError(f"contexts of {contexts.shape[1]} classes, not {len(classes)}")
    if contexts.ndim not in (3, 4) or not sets:
        raise ValueError(f"contexts of shape {contexts.shape}")
    if text is not None and text.shape[:-1] != (sets, len(classes)):
        raise ValueError(f"text features of shape {text.shape}, not ({sets}, {len(classes)}, D)")
