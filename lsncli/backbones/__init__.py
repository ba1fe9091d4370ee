"""Backbones: one protocol, one dict, one loader. Only this room imports open_clip."""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lsncli.errors import FingerprintMismatch, UsageError
from lsncli.types import Fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch

    from lsncli.backbones.imagetower import ImageTower, Tune
    from lsncli.backbones.preprocessing import Picture
    from lsncli.prompts.clipn import TextFunction
    from lsncli.prompts.tower import TextTower

DEFAULT_MODEL = "ViT-B-16-quickgelu:openai"

BACKBONES: dict[str, str] = {
    "blip": "lsncli.backbones.blip:load",
    "mini": "lsncli.backbones.mini:load",
    "open_clip": "lsncli.backbones.openclip:load",
}

IMPORTED = "imported:"
"""How the model of imported features begins: no model here made them."""

DECODING = ("exact", "fast")


class Backbone(Protocol):
    """A frozen dual encoder."""

    @property
    def fingerprint(self) -> Fingerprint: ...

    def preprocess(self, image: "Picture") -> "torch.Tensor":
        """An RGB image, or an array (H, W, 3) of uint8 -> (3, H, W) float32; safe to call from many threads.

        The pixels of the model's own preprocessing, or fast ones (``preprocessing``) if the fingerprint's
        ``decode`` is "fast".
        """

    def encode(self, pixels: "torch.Tensor") -> NDArray[np.float16]:
        """(B, 3, H, W) float32 -> raw (not normalised) image features (B, D)."""

    def differentiable(self, pixels: "torch.Tensor") -> "torch.Tensor":
        """(B, 3, H, W) float32 -> the same features (B, D) in float32 on the model's device, with gradients
        with respect to the pixels.

        Computed in float32 whatever the image tower's precision: gradients of small losses vanish in fp16.
        """

    def relevance(self, pixels: "torch.Tensor", directions: "torch.Tensor") -> "torch.Tensor":
        """Where an image (1, 3, H, W) supports the cosine with each of ``directions`` (T, D): (T, h, w).

        ``directions`` are unit text features. Maps are not negative and not normalised, over the last grid
        of the image tower, float32 on the CPU; how: ``relevance.py``. Raises UsageError for an architecture
        whose last grid is not known.
        """

    def text_tower(self, *, precision: str = "fp32", kernel: str = "auto") -> "TextTower":
        """The text encoder as prompt learning needs it, in ``precision`` and by a linear ``kernel``.

        Raises LsnError if no vector can stand where a word would, UsageError for a kernel it has not.
        """

    def image_tower(self, tune: "Tune") -> "ImageTower":
        """A copy of the image tower whose last blocks, or all of it, can be fine-tuned.

        Raises UsageError for half precision or an architecture whose last blocks are not known.
        """

    def text_function(self) -> "TextFunction":
        """The text encoder as a function of its weights, to learn another one from.

        Raises LsnError if nothing can be added to the embeddings of words.
        """


def text_ids_of(backbone: Any) -> "Callable[[Sequence[str]], Sequence[tuple[int, ...]]] | None":
    """How a model reads texts, as ids: equal ids are one text to it. None for one without a text encoder."""
    return getattr(backbone, "text_ids", None)


def loader_of(model: str) -> tuple[str, ...]:
    """Return the row of ``BACKBONES`` that loads ``model``; nothing for imported features."""
    return () if model.startswith(IMPORTED) else (BACKBONES[_kind(model)],)


def _kind(model: str) -> str:
    return "mini" if model == "mini" else "blip" if model.partition(":")[0] == "blip" else "open_clip"


def load_backbone(
    model: str,
    *,
    pretrained: str = "",
    device: str = "auto",
    precision: str = "fp32",
    decode: str = "exact",
) -> Backbone:
    """Load ``mini``, any open_clip model, or a BLIP.

    ``model`` is ``mini``, ``ARCHITECTURE``, ``ARCHITECTURE:TAG``, ``hf-hub:ORG/NAME`` or ``local-dir:PATH``,
    or ``blip:FOLDER`` or ``blip:ORG/NAME``; ``pretrained`` is a tag or a checkpoint file and wins over what
    stands behind the colon. ``precision`` is the image tower's, ``decode`` "exact" or "fast" (pixels within 2
    of 255 grey levels, sooner). Raises UsageError for unknown names, and for a model whose images cannot be
    had fast; Unavailable where weights, or transformers for a BLIP, cannot be had.
    """
    if decode not in DECODING:
        raise UsageError(f"--decode: expected {' or '.join(DECODING)}, found '{decode}'.")
    module, function = BACKBONES[_kind(model)].split(":")
    load: Any = getattr(import_module(module), function)
    backbone: Backbone = load(model, pretrained, device, precision)
    if decode == "fast":
        from lsncli.backbones.preprocessing import decoding_fast

        return decoding_fast(backbone)
    return backbone


def load_again(
    fingerprint: Fingerprint, *, pretrained: str = "", device: str = "auto", what: str = "features"
) -> Backbone:
    """The model that made something, loaded again and checked; ``pretrained`` if its file has moved.

    Raises FingerprintMismatch (exit code 4) if the weights found now are not those of ``fingerprint``.
    """
    if fingerprint.model.startswith(IMPORTED):
        raise FingerprintMismatch(
            f"The {what} were imported ('{fingerprint.model}'): there is no model here that made them.",
            "Bring the classes' text features along with `lsn store import --text`, or extract with a model.",
        )
    backbone = load_backbone(
        fingerprint.model,
        pretrained=pretrained or fingerprint.pretrained,
        device=device,
        precision=fingerprint.precision,
        decode=fingerprint.decode,
    )
    if backbone.fingerprint.digest != fingerprint.digest:
        raise FingerprintMismatch(
            f"The {what} are of another model: expected {fingerprint}, found {backbone.fingerprint}.",
            "Give the original weights with --pretrained, or start a new --work folder.",
        )
    return backbone
