"""The prompt templates that CLIP's authors ensemble over."""

from collections.abc import Callable

from lsncli.backbones._torchvision import ensure_torchvision


def openai_templates() -> tuple[Callable[[str], str], ...]:
    """The 80 templates of CLIP's ImageNet notebook (Radford et al., ICML 2021), as open_clip carries them."""
    ensure_torchvision()
    from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES

    return tuple(OPENAI_IMAGENET_TEMPLATES)
