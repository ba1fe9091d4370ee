"""List the models that ``--model`` accepts and their text towers, from configurations alone."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from lsncli.backbones import BACKBONES
from lsncli.backbones.blip import WHY_PLAIN
from lsncli.backbones.loading import ensure_torchvision
from lsncli.backbones.openclip import architecture_of
from lsncli.backbones.text_architecture import facts_of_config
from lsncli.errors import UsageError
from lsncli.registry import load

ensure_torchvision()
import open_clip  # noqa: E402  (needs a torchvision that imports)

PAPER = ("ViT-B-16-quickgelu", "ViT-B-32-quickgelu", "RN50-quickgelu", "RN50x4-quickgelu")
"""The paper's backbones; its weights are those of OpenAI (tag ``openai``)."""


BLIP = tuple(
    f"blip:Salesforce/blip-itm-{kind}" for kind in ("base-coco", "base-flickr", "large-coco", "large-flickr")
)
"""BLIP's image-text retrieval models on the hub."""


@dataclass(frozen=True)
class Architecture:
    """A model architecture and its available weights."""

    name: str
    dim: int | None = None
    """D of the features; this and the following fields are None if only a loaded model has them."""
    image_size: int | None = None
    """Pixels of a side."""
    text: str | None = None
    """Width x layers of the text encoder; None also for encoders of transformers."""
    why_plain: str | None = None
    """The reason for a plain text tower; empty for the fast one."""
    models: tuple[str, ...] = ()
    """Values of ``--model``: one NAME:TAG for each set of weights. Empty: a checkpoint is required."""

    @property
    def text_path(self) -> str | None:
        """``fast``, or ``plain`` and the reason: ``TextTower.path`` without the kernel."""
        return f"plain ({self.why_plain})" if self.why_plain else None if self.why_plain is None else "fast"


def architectures(pattern: str = "") -> dict[str, list[Architecture]]:
    """Return the architectures of every kind of ``BACKBONES`` whose name contains ``pattern``, in any case.

    Raises UsageError if there is none.
    """
    known = {
        name: load(kind.architectures)(pattern)
        if kind.architectures
        else [Architecture(name, models=(name,))] * _fits(pattern, name)
        for name, kind in BACKBONES.items()
    }
    matching = {name: listed for name, listed in known.items() if listed}
    if not matching:
        raise UsageError(
            f"No architecture has '{pattern}' in its name.",
            "`lsn models` lists all; hf-hub:ORG/NAME and local-dir:PATH work without being listed.",
        )
    return matching


def open_clip_architectures(pattern: str = "") -> list[Architecture]:
    """Return the paper's architectures, then all others of open_clip."""
    names = [*PAPER, *(name for name in open_clip.list_models() if name not in PAPER)]
    return [_open_clip(name) for name in names if _fits(pattern, name)]


def mini_architectures(pattern: str = "") -> list[Architecture]:
    """Return the bundled architecture."""
    text = (files("lsncli.backbones") / "mini_weights" / "open_clip_config.json").read_text(encoding="utf-8")
    return [_architecture("mini", json.loads(text)["model_cfg"], ("mini",))] * _fits(pattern, "mini")


def blip_architectures(pattern: str = "") -> list[Architecture]:
    """Return the released architecture; one from a folder may have other sizes."""
    return [Architecture("blip", 256, 384, "768 x 12", WHY_PLAIN, BLIP)] * _fits(pattern, "blip")


def _fits(pattern: str, name: str) -> bool:
    return pattern.lower() in name.lower()


def _open_clip(name: str) -> Architecture:
    tags = open_clip.list_pretrained_tags_by_model(name)
    models = tuple(f"{name}:{tag}" for tag in tags if architecture_of(name, tag) == name)
    return _architecture(name, open_clip.get_model_config(name), models)


def _architecture(name: str, config: Mapping[str, Any], models: tuple[str, ...]) -> Architecture:
    text, size = config["text_cfg"], config["vision_cfg"].get("image_size", 224)
    facts = facts_of_config(config)
    return Architecture(
        name=name,
        dim=config["embed_dim"],
        image_size=size if isinstance(size, int) else size[0],
        text=None if facts.foreign else f"{text.get('width', 512)} x {text.get('layers', 12)}",
        why_plain=facts.why_plain,
        models=models,
    )
