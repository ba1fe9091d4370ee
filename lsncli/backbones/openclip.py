"""Any open_clip architecture with a tag, a hub name, a folder or a local checkpoint."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from hashlib import sha256
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.func import functional_call

from lsncli.backbones import BACKBONES, USUAL
from lsncli.backbones.creation import create_loaded, in_memory
from lsncli.backbones.loading import ensure_torchvision, load_reason, patient_only_online
from lsncli.backbones.preprocessing import Picture, preprocessing_of
from lsncli.backbones.relevance import relevance
from lsncli.backbones.runtimes import ImageForwards
from lsncli.backbones.text import text_function, text_tower
from lsncli.backbones.trainable_image_tower import ImageTower, Tune, image_tower, pooled
from lsncli.console import printable
from lsncli.device import INT8, pick_device, pick_dtype
from lsncli.errors import LsnError, Unavailable, UsageError
from lsncli.prompts.clipn import TextFunction
from lsncli.prompts.layout import TextTower
from lsncli.types import Fingerprint
from lsncli.validation import parse_json, validate

ensure_torchvision()
import open_clip  # noqa: E402  (needs a torchvision that imports)

TOWERS = ("1", "2")
"""Format versions of tuned models that are read."""
OFFLINE_HINT = "With no network, give a local checkpoint with --pretrained FILE, or use --model mini."


@dataclass(frozen=True)
class OpenClip:
    """A loaded open_clip model; the image tower in the requested precision, the text tower in float32.

    The weights of the text tower stay in the mapped checkpoint until a text is encoded.
    """

    fingerprint: Fingerprint
    model: nn.Module
    transform: Callable[[Picture], Tensor]
    make_tokenizer: Callable[[], Any]
    """Returns the tokenizer, made on its first call."""
    device: torch.device
    dtype: torch.dtype
    forwards: ImageForwards
    """The image tower, as each runtime computes it."""
    requested: str = ""
    """The runtime that was asked for; "" for the usual one until another is chosen."""

    @property
    def runtime(self) -> str:
        """The runtime that encodes; see ``runtimes``."""
        return self.requested or self.forwards.usual

    @property
    def runtimes(self) -> tuple[str, ...]:
        """The runtimes to choose from; see ``Accelerated``."""
        return (self.requested,) if self.requested else self.forwards.names

    def on_runtime(self, name: str) -> "OpenClip":
        """Return the same model with another runtime; see ``Accelerated``."""
        self.forwards.get(name)
        return replace(self, requested=name)

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of open_clip."""
        return self.make_tokenizer()

    def preprocess(self, image: Picture) -> Tensor:
        """Resize, centre crop and normalise an image to (3, H, W) float32.

        The pixels are those of open_clip's evaluation transform, unless the fingerprint's ``decode`` is
        "fast".
        """
        return self.transform(image)

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> NDArray[np.float16]:
        """Encode pixels (B, 3, H, W) float32 to image features (B, D) float16, not normalised."""
        forward = self.forwards.get(self.runtime)
        return forward(pixels.to(self.device, self.dtype)).half().cpu().numpy()

    def differentiable(self, pixels: Tensor) -> Tensor:
        """Encode pixels (B, 3, H, W) to float32 features (B, D) with gradients; see ``Differentiable``."""
        tower: Any = self.model.visual
        return pooled(in_float32(tower, pixels.to(self.device, torch.float32)))

    def relevance(self, pixels: Tensor, directions: Tensor) -> Tensor:
        """Return where an image supports its cosines with directions (T, D); see ``relevance.relevance``."""
        inputs = pixels.to(self.device, torch.float32), directions.to(self.device, torch.float32)
        return relevance(self.model.visual, *inputs).cpu()  # type: ignore[arg-type]

    def text_ids(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """Return the token ids of each text; equal ids are the same text to the model."""
        return [tuple(row) for row in self.tokenizer(list(texts)).tolist()]

    def text_tower(self, *, precision: str = "fp32", kernel: str = "auto") -> TextTower:
        """Return the text encoder for prompt learning; see ``text.text_tower``."""
        return text_tower(in_memory(self.model), self.tokenizer, precision=precision, kernel=kernel)

    def image_tower(self, tune: Tune) -> ImageTower:
        """Return a copy of the image tower to fine-tune; see ``trainable_image_tower.image_tower``."""
        return image_tower(self.model, self.fingerprint, tune)

    def text_function(self) -> TextFunction:
        """Return the text encoder as a function of its weights; see ``text.text_function``."""
        return text_function(in_memory(self.model), self.tokenizer)


def load(model: str, pretrained: str, device: str, precision: str) -> OpenClip:
    """Load ``ARCHITECTURE[:TAG]``, ``hf-hub:...`` or ``local-dir:...``, each also after ``open_clip:``.

    A checkpoint file as ``pretrained`` replaces the weights of a hub name or a folder.

    The fingerprint separates the architecture from the location of its weights: a tag, a file and a folder
    that has moved give the same model. Raises UsageError for an unknown name or a QuickGELU mismatch,
    Unavailable if weights are missing.
    """
    model, is_file = model.removeprefix("open_clip:"), Path(pretrained).is_file()
    if model.startswith("hf-hub:"):
        if pretrained and not is_file:
            raise UsageError(
                f"--model {model} brings its own weights; found --pretrained '{pretrained}'.",
                "Leave --pretrained out.",
            )
        return create(model, model, pretrained, device, precision)
    name, _, tag = model.partition(":")
    weights = pretrained or tag
    if name == "local-dir" and tag and is_file:
        return create(model, model, pretrained, device, precision)
    if name == "local-dir":
        if not weights:
            raise UsageError("--model local-dir: no folder named.", "Write local-dir:PATH.")
        return create(name, f"local-dir:{weights}", weights, device, precision)
    check_name(name, weights)
    return create(name, name, weights, device, precision)


def untrained(model: str, device: str) -> OpenClip | None:
    """Create ``ARCHITECTURE[:TAG]`` with random weights; None for names such as ``hf-hub:...``."""
    name = model.removeprefix("open_clip:").partition(":")[0]
    if name in ("hf-hub", "local-dir"):
        return None
    check_architecture(name)
    return create(name, name, "", device, "fp32")


def create(
    model: str, name: str, weights: str, device: str, precision: str, **tokenizer_options: str
) -> OpenClip:
    """Create open_clip's model ``name`` in float32; freeze, fingerprint (as ``model``), move and cast it."""
    target, int8 = pick_device(device), precision == INT8
    dtype = pick_dtype("fp32" if int8 else precision)
    brings_weights = ":" in name
    with clear_errors(f"{model}:{weights}" if weights else model, weights):

        def load_weights() -> Any:
            created = open_clip.create_model_and_transforms(
                name, pretrained=None if brings_weights else weights, **kept_preprocessing(weights)
            )
            if brings_weights and Path(weights).is_file():
                open_clip.load_checkpoint(created[0], weights)
            return created

        module: Any
        module, _, transform = create_loaded(load_weights) if brings_weights or weights else load_weights()
        settings = open_clip.get_model_config(name)
        make_tokenizer = cache(partial(open_clip.get_tokenizer, name, **tokenizer_options))
        if brings_weights or "hf_tokenizer_name" in settings["text_cfg"]:
            make_tokenizer()  # its files may have to be fetched, and a folder of ours may be temporary
        dim = settings["embed_dim"]
    module.eval().requires_grad_(False)
    is_path = model == "local-dir" or Path(weights).is_file()
    config = module.visual.preprocess_cfg
    size = config["size"]
    fingerprint = Fingerprint(
        model=model,
        pretrained=str(Path(weights).resolve()) if is_path else weights,
        weights=weights_digest(module),
        dim=dim,
        image_size=size if isinstance(size, int) else int(size[0]),
        interpolation=config["interpolation"],
        resize_mode=config["resize_mode"],
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        precision=precision,
        logit_scale=round(float(module.logit_scale.detach().exp()), 4),
    )
    module.to(target)
    in_memory(module.visual.to(dtype))
    sizes = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
    forwards = ImageForwards(module.visual, sizes, int8=int8)
    pixels = preprocessing_of(transform, config)
    return OpenClip(fingerprint, module, pixels, make_tokenizer, target, dtype, forwards)


def kept_preprocessing(weights: str) -> dict[str, Any]:
    """Read the preprocessing that a checkpoint of ours (``lsn train-head --tune``) was tuned with.

    Options of open_clip; none for anything else. Without them, a file would get the architecture's usual
    pixels, and some tags have others. Raises Unavailable for one of a newer lsn, or a damaged one.
    """
    try:
        with safe_open(weights, framework="numpy") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError):
        return {}
    if metadata.get("format") != "lsn-tower":
        return {}
    version = metadata.get("format_version", "none")
    if version not in TOWERS:
        raise Unavailable(
            f"{weights} is a tuned model of format version {printable(version)}; this lsn reads "
            f"{' and '.join(TOWERS)}.",
            "Update lsn (pip install -U lsncli), or tune it again with `lsn train-head --tune`.",
        )
    try:
        return validate(dict[str, Any], parse_json(metadata.get("preprocessing", "")), "preprocessing")
    except ValueError as error:
        raise Unavailable(
            f"The tuned model {weights} is damaged: {error}.", "Tune it again with `lsn train-head --tune`."
        ) from error


def check_architecture(name: str) -> None:
    """Raise UsageError unless ``name`` is an architecture of open_clip."""
    if open_clip.get_model_config(name.replace("/", "-")) is None:
        others = [kind for kind in BACKBONES if kind != USUAL]
        close = [known for known in open_clip.list_models() if known.lower().startswith(name.lower()[:5])]
        raise UsageError(
            f"--model: open_clip has no architecture '{name}'.",
            f"Use {', '.join([*close[:8], *others, 'hf-hub:ORG/NAME'])} or local-dir:PATH.",
        )


def check_name(name: str, weights: str) -> None:
    """Raise UsageError unless ``name`` is an architecture and ``weights`` a file or a matching tag of it."""
    check_architecture(name)
    tags = open_clip.list_pretrained_tags_by_model(name)
    if not weights:
        raise UsageError(
            f"--model {name}: no weights named; random weights tell nothing.",
            f"Write {name}:TAG with one of {', '.join(tags) or '(no tags)'}, or give --pretrained FILE.",
        )
    if Path(weights).is_file():
        return
    if weights not in tags:
        raise UsageError(
            f"--pretrained '{weights}' is neither a file nor a tag of {name}.",
            f"Tags: {', '.join(tags) or 'none'}.",
        )
    right = architecture_of(name, weights)
    if right != name:
        kind = "with" if right.endswith("-quickgelu") else "without"
        raise UsageError(
            f"QuickGELU mismatch: the weights '{weights}' were trained {kind} QuickGELU, but {name} is the "
            "other kind.",
            f"Use --model {right}:{weights}; the wrong activation changes every score.",
        )


def architecture_of(name: str, tag: str) -> str:
    """Return ``name``, or its variant if the weights ``tag`` were trained with the other activation."""
    quick = bool(open_clip.get_model_config(name).get("quick_gelu", False))
    trained_quick = bool(open_clip.get_pretrained_cfg(name, tag).get("quick_gelu", False))
    twin = f"{name}-quickgelu" if trained_quick else name.removesuffix("-quickgelu")
    # Where open_clip has no such variant, its table of tags is incomplete.
    return twin if quick != trained_quick and twin in open_clip.list_models() else name


@contextmanager
def clear_errors(model: str, weights: str) -> Iterator[None]:
    """Turn errors of open_clip and the hub into one-sentence LsnErrors, and suppress their log lines."""
    try:
        with patient_only_online():
            yield
    except LsnError:
        raise
    except Exception as error:
        reason = f"{load_reason(error)}."
        if Path(weights).is_file():
            raise Unavailable(
                f"The checkpoint {weights} does not load into {model.partition(':')[0]}: {reason}",
                "It must hold a state dict of exactly this architecture (safetensors, or .pt of tensors).",
            ) from error
        if model.startswith("local-dir:"):
            raise Unavailable(
                f"{model} does not load: {reason}",
                "Name a folder with open_clip_config.json and the weights, as open_clip saves them.",
            ) from error
        raise Unavailable(
            f"The weights of {model} are not here and could not be fetched: {reason}",
            OFFLINE_HINT,
        ) from error


def in_float32(module: nn.Module, pixels: Tensor) -> Any:
    """Run the module's forward in float32, whatever the precision of its weights."""
    tensors = (*module.named_parameters(), *module.named_buffers())
    wide = {name: t.float() if t.is_floating_point() else t for name, t in tensors}
    return functional_call(module, wide, (pixels,))


def weights_digest(model: nn.Module) -> str:
    """Return the sha256 of names, shapes and float32 bytes of every weight, sorted by name."""
    digest = sha256()
    for name, tensor in sorted(model.state_dict().items()):
        array = tensor.detach().cpu().contiguous()
        digest.update(f"{name}{tuple(array.shape)}".encode())
        digest.update(memoryview(array.float().numpy()).cast("B"))
    return digest.hexdigest()


def load_mini(model: str, pretrained: str, device: str, precision: str) -> OpenClip:
    """Load the bundled mini model, or the checkpoint file ``pretrained`` of the same architecture.

    Raises UsageError for anything else but "" or ``bundled``, Unavailable for a file that does not fit.
    """
    model, _, tag = model.partition(":")
    weights = pretrained or tag
    checkpoint = "" if weights == "bundled" else weights
    if checkpoint and not Path(checkpoint).is_file():
        raise UsageError(
            f"--model mini has one set of weights, bundled with lsn; found '{weights}'.",
            "Leave --pretrained out, or name a checkpoint file of a fine-tuned mini model.",
        )
    with as_file(files("lsncli.backbones") / "mini_weights") as folder:
        vocabulary = str(folder / "bpe_mini.txt.gz")
        return create(model, f"local-dir:{folder}", checkpoint, device, precision, bpe_path=vocabulary)
