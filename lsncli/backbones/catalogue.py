"""What ``--model`` can name, and how its text encoder is computed: told from configurations alone."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from lsncli.backbones._torchvision import ensure_torchvision
from lsncli.backbones.blip import WHY_PLAIN
from lsncli.backbones.openclip import architecture_of
from lsncli.backbones.textfacts import facts_of_config
from lsncli.errors import UsageError

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
    """One model, with whatever weights."""

    name: str
    dim: int
    """D of the features."""
    image_size: int
    """Pixels of a side."""
    text: str | None
    """Width x layers of the text encoder; None where transformers has it."""
    why_plain: str
    """Why its text encoder takes the plain path; empty if it takes the fast one."""
    models: tuple[str, ...]
    """What ``--model`` understands: one NAME:TAG for each set of weights. None: bring a checkpoint."""

    @property
    def text_path(self) -> str:
        """``fast``, or ``plain`` and why: as ``TextTower.path`` says it, but for the kernel."""
        return f"plain ({self.why_plain})" if self.why_plain else "fast"


def architectures(pattern: str = "") -> list[Architecture]:
    """mini, the paper's backbones, all of open_clip, then BLIP.

    Only those with ``pattern`` in their name, in any case. Raises UsageError if there is none.
    """
    known = open_clip.list_models()
    names = ["mini", *PAPER, *(name for name in known if name not in PAPER), "blip"]
    found = [name for name in names if pattern.lower() in name.lower()]
    if not found:
        raise UsageError(
            f"No architecture has '{pattern}' in its name.",
            "`lsn models` lists all; hf-hub:ORG/NAME and local-dir:PATH work without being listed.",
        )
    own = {"mini": _mini, "blip": _blip}
    return [own[name]() if name in own else _open_clip(name) for name in found]


def _open_clip(name: str) -> Architecture:
    tags = open_clip.list_pretrained_tags_by_model(name)
    models = tuple(f"{name}:{tag}" for tag in tags if architecture_of(name, tag) == name)
    return _architecture(name, open_clip.get_model_config(name), models)


def _mini() -> Architecture:
    text = (files("lsncli.backbones") / "mini_weights" / "open_clip_config.json").read_text(encoding="utf-8")
    return _architecture("mini", json.loads(text)["model_cfg"], ("mini",))


def _blip() -> Architecture:
    """The released models; another, from a folder, may have other sizes."""
    return Architecture("blip", 256, 384, "768 x 12", WHY_PLAIN, BLIP)


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
