"""CLIP architectures with random weights, class names and synthetic features for the prompt benchmarks.

Times, memory and rounding do not depend on the values of the weights, so nothing is downloaded.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from lsncli.backbones.loading import ensure_torchvision
from lsncli.backbones.text import text_tower
from lsncli.prompts.layout import TextTower

PAPER = "ViT-B-32-quickgelu"
"""OpenAI's ViT-B/32 and ViT-B/16 have the same text tower: 12 layers, width 512, 8 heads, 77 positions."""

TINY = {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
TINY_MODELS = {
    "tiny": {"embed_dim": 32, "text_cfg": TINY},
    "tiny-quickgelu": {"embed_dim": 32, "quick_gelu": True, "text_cfg": TINY},
}
SMALLEST_VISION = {"layers": 1, "width": 32, "head_width": 32, "patch_size": 16, "image_size": 16}


@dataclass(frozen=True)
class Model:
    """An open_clip model with a tiny image tower, and its tokenizer."""

    clip: nn.Module
    tokenizer: Any
    width: int
    features: int

    def tower(self, kernel: str = "auto", precision: str = "fp32") -> TextTower:
        """Return the program's own tower on the same weights."""
        return text_tower(self.clip, self.tokenizer, kernel=kernel, precision=precision)


def text_model(name: str = PAPER, *, noise: float = 0.02, seed: int = 0, **changes: Any) -> Model:
    """Return the text tower of an open_clip architecture, or of ``TINY_MODELS``, with random weights.

    ``noise`` is added to every parameter, also to biases and normalisation, which start at 0 and 1.
    ``changes`` go to the text configuration.
    """
    ensure_torchvision()
    import open_clip

    config = TINY_MODELS[name] if name in TINY_MODELS else open_clip.get_model_config(name)
    config = {key: value for key, value in config.items() if key in ("embed_dim", "quick_gelu", "text_cfg")}
    config["text_cfg"] = config["text_cfg"] | changes
    length = config["text_cfg"]["context_length"]
    # Options such as a projection bias exist only where the text tower is a module of its own.
    kind = open_clip.CustomTextCLIP if changes else open_clip.CLIP
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        clip = kind(**config, vision_cfg=SMALLEST_VISION).eval().requires_grad_(False)
        for parameter in clip.parameters():
            parameter += noise * torch.randn_like(parameter)
    tokenizer = open_clip.SimpleTokenizer(context_length=length)
    return Model(clip, tokenizer, config["text_cfg"]["width"], config["embed_dim"])


def image_tower(name: str) -> tuple[nn.Module, int]:
    """Return the image tower of an open_clip architecture, or of ``TINY_MODELS``, and its image size."""
    ensure_torchvision()
    import open_clip

    if name in TINY_MODELS:
        return text_model(name).clip.visual, SMALLEST_VISION["image_size"]
    config = open_clip.get_model_config(name)
    quick = config.get("quick_gelu", False)
    clip = open_clip.CLIP(config["embed_dim"], config["vision_cfg"], TINY, quick_gelu=quick)
    return clip.visual.eval().requires_grad_(False), config["vision_cfg"]["image_size"]


def class_names(count: int) -> list[str]:
    """Return ``count`` names spread evenly over ImageNet's 1,000, in open_clip's wording."""
    ensure_torchvision()
    import open_clip

    every: tuple[str, ...] = tuple(open_clip.IMAGENET_CLASSNAMES)
    return [every[i * len(every) // count] for i in range(count)]


def images(count: int, features: int, seed: int = 0) -> Tensor:
    """Return random unit rows (count, features)."""
    return normalize(torch.randn(count, features, generator=torch.Generator().manual_seed(seed)), dim=-1)


def contexts(*shape: int, seed: int = 0) -> Tensor:
    """Return random contexts with CoOp's standard deviation, 0.02."""
    return 0.02 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
