"""Backbones: what a model must do, what it may do besides, one registry. Only this room imports open_clip.

To add a backbone: a file with a function that loads it, a row in ``BACKBONES``, a test file.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from lsncli.errors import FingerprintMismatch, UsageError
from lsncli.memory import memory_errors
from lsncli.registry import additions, load
from lsncli.types import Fingerprint

if TYPE_CHECKING:
    import torch

    from lsncli.backbones.preprocessing import Picture
    from lsncli.backbones.trainable_image_tower import ImageTower, Tune
    from lsncli.prompts.clipn import TextFunction
    from lsncli.prompts.layout import TextTower

DEFAULT_MODEL = "ViT-B-16-quickgelu:openai"


IMPORTED = "imported:"
"""How the model of imported features begins: no model here made them."""


@dataclass(frozen=True)
class BackboneKind:
    """A kind of backbone: a row of ``BACKBONES``."""

    load: str
    """``module:function`` of model, pretrained, device and precision, all as ``load_backbone`` has them."""
    about: str
    """One line for ``lsn models``."""
    architectures: str = ""
    """``module:function`` that lists the architectures with a part of a name in theirs (``catalogue``);
    empty for a kind that is one model, named as its row is."""
    untrained: str = ""
    """``module:function`` of model and device: the architecture with random weights, as fast as with its
    own; empty if there is none."""


BACKBONES: dict[str, BackboneKind] = {
    "mini": BackboneKind(
        "lsncli.backbones.openclip:load_mini",
        "A small dual encoder that comes with lsn; needs no download.",
        "lsncli.backbones.catalogue:mini_architectures",
    ),
    "open_clip": BackboneKind(
        "lsncli.backbones.openclip:load",
        "CLIP, SigLIP, CoCa and their like, by open_clip; the paper's models are OpenAI's.",
        "lsncli.backbones.catalogue:open_clip_architectures",
        "lsncli.backbones.openclip:untrained",
    ),
    "blip": BackboneKind(
        "lsncli.backbones.blip:load",
        "BLIP's image-text retrieval models, by transformers (pip install 'lsncli[blip]').",
        "lsncli.backbones.catalogue:blip_architectures",
    ),
}
"""By the word before the first colon of a model's name; any other name is one of ``USUAL``."""
BACKBONES |= {
    name: BackboneKind(
        reference, f"Added by the installed package {reference.partition('.')[0].partition(':')[0]}."
    )
    for name, reference in additions("lsncli.backbones", BACKBONES).items()
}

USUAL = "open_clip"

DECODING = ("exact", "fast")


class Backbone(Protocol):
    """A frozen image encoder, as extraction and most scores need it.

    Optional capabilities: ``TextEncoder``, ``Differentiable``, ``Explainable``, ``Tunable``, ``Accelerated``.
    """

    @property
    def fingerprint(self) -> Fingerprint:
        """Model, weights and preprocessing."""

    @property
    def device(self) -> "torch.device":
        """Device of the weights."""

    def preprocess(self, image: "Picture") -> "torch.Tensor":
        """Preprocess an RGB image or an array (H, W, 3) uint8 to (3, H, W) float32; thread-safe.

        The pixels of the model's own preprocessing, or fast ones (``preprocessing``) if the fingerprint's
        ``decode`` is "fast".
        """

    def encode(self, pixels: "torch.Tensor") -> NDArray[np.float16]:
        """Encode pixels (B, 3, H, W) float32 to image features (B, D), not normalised."""


class TextEncoder(Protocol):
    """A backbone with a text encoder whose features are compared with its image features."""

    @property
    def fingerprint(self) -> Fingerprint:
        """Model, weights and preprocessing."""

    def text_tower(self, *, precision: str = "fp32", kernel: str = "auto") -> "TextTower":
        """Return the text encoder for prompt learning, in ``precision`` and with a linear ``kernel``.

        Raises LsnError if it accepts no vectors in place of words, UsageError for a kernel it lacks.
        """

    def text_function(self) -> "TextFunction":
        """Return the text encoder as a function of its weights, to train a copy.

        Raises LsnError if nothing can be added to the word embeddings.
        """

    def text_ids(self, texts: Sequence[str]) -> Sequence[tuple[int, ...]]:
        """Return the ids that the text encoder reads of each text; equal ids are one text to it."""


class Differentiable(Protocol):
    """A backbone whose features have gradients."""

    def differentiable(self, pixels: "torch.Tensor") -> "torch.Tensor":
        """Encode pixels (B, 3, H, W) float32 to float32 features (B, D) with gradients.

        The features are those of ``encode``, on the model's device, differentiable in the pixels.

        Computed in float32 whatever the image tower's precision: gradients of small losses vanish in fp16.
        """


class Explainable(Differentiable, Protocol):
    """A backbone with relevance maps for its features."""

    def relevance(self, pixels: "torch.Tensor", directions: "torch.Tensor") -> "torch.Tensor":
        """Return maps (T, h, w) of where an image (1, 3, H, W) supports its cosine with T directions.

        ``directions`` are unit text features. Maps are not negative and not normalised, over the last grid
        of the image tower, float32 on the CPU; how: ``relevance.py``. Raises UsageError for an architecture
        whose last grid is not known.
        """


class Tunable(Protocol):
    """A backbone whose image tower can be fine-tuned."""

    def image_tower(self, tune: "Tune") -> "ImageTower":
        """Return a copy of the image tower whose last blocks, or all of it, can be fine-tuned.

        Raises UsageError for half precision or an architecture whose last blocks are not known.
        """


class Accelerated(Protocol):
    """A backbone whose image tower has several runtimes (``runtimes``), equal up to rounding."""

    @property
    def runtime(self) -> str:
        """The runtime that encodes."""

    @property
    def runtimes(self) -> tuple[str, ...]:
        """The runtimes to choose from, torch's own first; only ``runtime`` if it was asked for by name."""

    def on_runtime(self, name: str) -> Backbone:
        """Return the same model with another runtime, ready to encode.

        Raises UsageError for an unknown one, Unavailable for one that does not compute this model here.
        """


class NoText(UsageError):
    """The model has no text encoder, but one is needed."""


class NoModel(FingerprintMismatch, NoText):
    """The features were imported: no model here made them, so there is no text encoder (exit code 4)."""


def with_text(backbone: Backbone) -> TextEncoder:
    """Return the model as a ``TextEncoder``. Raises NoText if it is none."""
    if not _has(backbone, "text_tower", "text_function"):
        raise NoText(
            f"This needs a text encoder, and the model {backbone.fingerprint.model} has none.",
            "Take a method that needs no text, such as knn, or msp:linear after `lsn train-head`; or another "
            "model: `lsn models` lists them.",
        )
    return cast(TextEncoder, backbone)


def with_gradients(backbone: Backbone) -> Differentiable:
    """Return the model as ``Differentiable``. Raises UsageError if it is not."""
    if not _has(backbone, "differentiable"):
        raise UsageError(
            f"This needs gradients of the features, and the model {backbone.fingerprint.model} gives none.",
            "Take another method, or another model: `lsn models` lists them.",
        )
    return cast(Differentiable, backbone)


def with_relevance(backbone: Backbone) -> Explainable:
    """Return the model as ``Explainable``. Raises UsageError if it is not."""
    if not _has(backbone, "differentiable", "relevance"):
        raise UsageError(
            f"The model {backbone.fingerprint.model} does not say where in an image it sees something.",
            "Take another model: `lsn models` lists them.",
        )
    return cast(Explainable, backbone)


def with_image_tower(backbone: Backbone) -> Tunable:
    """Return the model as ``Tunable``. Raises UsageError if it is not."""
    if not _has(backbone, "image_tower"):
        raise UsageError(
            f"--tune: the image tower of the model {backbone.fingerprint.model} is not fine-tuned.",
            "Use a CLIP of open_clip, or leave --tune out.",
        )
    return cast(Tunable, backbone)


def runtimes_of(backbone: Backbone) -> tuple[str, ...]:
    """Return the runtimes of the image tower that can be chosen; none for a backbone without a choice."""
    return cast(Accelerated, backbone).runtimes if _has(backbone, "on_runtime") else ()


def runtime_of(backbone: Backbone) -> str:
    """Return the runtime that encodes; "" for a backbone without a choice."""
    return cast(Accelerated, backbone).runtime if _has(backbone, "on_runtime") else ""


def on_runtime(backbone: Backbone, name: str) -> Backbone:
    """Return the model with the runtime ``name``; with ``auto`` the model as it is.

    A model without runtimes is computed by torch. Raises UsageError for an unknown name or another one for
    such a model, Unavailable for a runtime that does not compute this model here.
    """
    if name == "auto":
        return backbone
    if not _has(backbone, "on_runtime"):
        if name == "torch":
            return backbone
        raise UsageError(
            f"--runtime {name}: the model {backbone.fingerprint.model} has no runtimes to choose from.",
            "Use --runtime auto.",
        )
    return cast(Accelerated, backbone).on_runtime(name)


def _has(backbone: Backbone, *methods: str) -> bool:
    # hasattr, not isinstance of a runtime-checkable protocol, which ignores __getattr__ of a wrapper.
    return all(hasattr(backbone, method) for method in methods)


def text_ids_of(backbone: Backbone) -> Callable[[Sequence[str]], Sequence[tuple[int, ...]]] | None:
    """Return the model's function from texts to token ids, equal for equal texts; None without one."""
    return cast(TextEncoder, backbone).text_ids if _has(backbone, "text_ids") else None


def loader_of(model: str) -> tuple[str, ...]:
    """Return the loader of ``model`` as ``module:function``; empty for imported features."""
    return () if model.startswith(IMPORTED) else (_kind(model).load,)


def _kind(model: str) -> BackboneKind:
    return BACKBONES.get(model.partition(":")[0], BACKBONES[USUAL])


def load_backbone(
    model: str,
    *,
    pretrained: str = "",
    device: str = "auto",
    precision: str = "fp32",
    decode: str = "exact",
    runtime: str = "auto",
) -> Backbone:
    """Load a model of a kind of ``BACKBONES``.

    ``model`` is ``mini``, ``ARCHITECTURE``, ``ARCHITECTURE:TAG``, ``hf-hub:ORG/NAME`` or ``local-dir:PATH``
    of open_clip, ``blip:FOLDER`` or ``blip:ORG/NAME``, or ``KIND`` or ``KIND:...`` of another row;
    ``pretrained`` is a tag or a checkpoint file and takes precedence over the part after the colon.
    ``precision`` is the image tower's, ``decode`` "exact" or "fast" (pixels within 2 of 255 grey levels,
    faster), ``runtime`` a row of ``runtimes.RUNTIMES`` or "auto", which is chosen for the work ahead. Raises
    UsageError for unknown names, and for a model without fast pixels; Unavailable where weights, or a package
    that is needed, are unavailable.
    """
    if decode not in DECODING:
        raise UsageError(f"--decode: expected {' or '.join(DECODING)}, found '{decode}'.")
    with memory_errors(f"the model {model}", "Use another --device."):
        backbone: Backbone = load(_kind(model).load)(model, pretrained, device, precision)
    if decode == "fast":
        from lsncli.backbones.preprocessing import decoding_fast

        backbone = decoding_fast(backbone)
    return on_runtime(backbone, runtime)


def load_untrained(model: str, *, device: str = "auto") -> Backbone | None:
    """Create an architecture with random weights, to measure speed; None if ``model`` names none.

    Raises UsageError for an unknown name.
    """
    kind = _kind(model)
    backbone: Backbone | None = load(kind.untrained)(model, device) if kind.untrained else None
    return backbone


def load_again(
    fingerprint: Fingerprint, *, pretrained: str = "", device: str = "auto", what: str = "features"
) -> Backbone:
    """Load the model of ``fingerprint`` again and verify it; ``pretrained`` if its file has moved.

    Raises FingerprintMismatch (exit code 4) if the weights found now are not those of ``fingerprint``, and
    NoModel for imported features.
    """
    if fingerprint.model.startswith(IMPORTED):
        raise NoModel(
            f"The {what} were imported ('{fingerprint.model}'): there is no model here that made them.",
            "Bring the classes' text features along with `lsn store import --text`, extract with a model, or "
            "take class means, such as mcm:means.",
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
