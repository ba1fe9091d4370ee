"""BLIP by transformers: the projections of its image-text contrast, and prompts through its BERT tower.

Needs the extra ``lsn[blip]``. An image is ``vision_proj`` of the image tower's class token, a text is
``text_proj`` of the text tower's, without cross-attention: the halves of BLIP that are compared by cosine
(ITC), not the head that reads both (ITM). Li et al., BLIP, ICML 2022; the paper's Table 10.
"""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import embedding

from lsncli.backbones.loading import ensure_torchvision, load_reason, patient_only_online
from lsncli.backbones.openclip import in_float32, weights_digest
from lsncli.backbones.preprocessing import Picture, Preprocessing
from lsncli.backbones.relevance import token_relevance
from lsncli.backbones.text import read_tokens
from lsncli.device import pick_device, pick_dtype
from lsncli.errors import Unavailable, UsageError
from lsncli.prompts.clipn import TextFunction, Weights
from lsncli.prompts.layout import TextTower, Vocabulary
from lsncli.prompts.plain_tower import PlainTower
from lsncli.types import Fingerprint

ensure_torchvision()
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD  # noqa: E402
from open_clip.tokenizer import HFTokenizer  # noqa: E402

LENGTH = 35
"""Tokens of a text at most, start and end included: BLIP is trained for retrieval with this limit."""

WORDS = "text_encoder.embeddings.word_embeddings.weight"
WHY_PLAIN = "an encoder of transformers"
HINT = "Give a folder or a hub name such as blip:Salesforce/blip-itm-base-coco."


@dataclass(frozen=True)
class Blip:
    """A loaded BLIP; the image tower in the requested precision, the text tower in float32."""

    fingerprint: Fingerprint
    model: Any
    transform: Callable[[Picture], Tensor]
    vision: "_ImageTower"
    tokenizer: Any
    device: torch.device
    dtype: torch.dtype

    def preprocess(self, image: Picture) -> Tensor:
        """Resize an image to a square (bicubic) and normalise it, as BLIP does: (3, H, W) float32."""
        return self.transform(image)

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> NDArray[np.float16]:
        """Encode pixels (B, 3, H, W) float32 to projected features (B, D) float16, not normalised."""
        features: Tensor = self.vision(pixels.to(self.device, self.dtype))
        return features.half().cpu().numpy()

    def differentiable(self, pixels: Tensor) -> Tensor:
        """Encode pixels (B, 3, H, W) to float32 features (B, D) with gradients; see ``Differentiable``."""
        features: Tensor = in_float32(self.vision, pixels.to(self.device, torch.float32))
        return features

    def relevance(self, pixels: Tensor, directions: Tensor) -> Tensor:
        """Return where an image supports its cosines with (T, D); see ``relevance.token_relevance``."""
        whole: Any = self.model
        config, block = whole.config.vision_config, whole.vision_model.encoder.layers[-1]
        side: int = config.image_size // config.patch_size
        inputs = pixels.to(self.device, torch.float32), directions.to(self.device, torch.float32)
        return token_relevance(self.vision, block, 1, (side, side), *inputs).cpu()

    def text_ids(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """Return the token ids of each text; see ``OpenClip.text_ids``."""
        return [tuple(row) for row in self.tokenizer(list(texts)).tolist()]

    def text_tower(self, *, precision: str = "fp32", kernel: str = "auto") -> TextTower:
        """Return BERT as a plain tower. Raises UsageError for another ``kernel`` than torch's."""
        if kernel not in ("auto", "torch"):
            raise UsageError(
                f"--kernel {kernel}: this text tower takes the plain path ({WHY_PLAIN}), where only 'torch' "
                "can be.",
                "Leave --kernel out.",
            )
        tokens = read_tokens(self.tokenizer, LENGTH)
        words: nn.Embedding = self.model.text_encoder.get_input_embeddings()
        vectors = words.weight.detach().float()
        vocabulary = Vocabulary(tokens.tokenize, tokens.start, tokens.end, vectors, LENGTH)
        run = _text_run(_TextTower(self.model, tokens.pad), pick_dtype(precision))
        return PlainTower(vocabulary, run, tokens.pad, tokens.tokenize("photo")[0], WHY_PLAIN)

    def text_function(self) -> TextFunction:
        """Return BERT as a function of its weights except cross-attention, which texts do not use."""
        tower = _TextTower(self.model, read_tokens(self.tokenizer, LENGTH).pad)
        every = {name: tensor.detach().float() for name, tensor in tower.named_parameters()}
        weights = {name: tensor for name, tensor in every.items() if ".crossattention." not in name}

        def tokenize(texts: Sequence[str]) -> Tensor:
            ids: Tensor = self.tokenizer(list(texts))
            return ids.to(self.device)

        def run(weights: Weights, ids: Tensor, added: Tensor) -> Tensor:
            embeddings = embedding(ids, weights[WORDS]) + added
            features: Tensor = functional_call(tower, dict(weights), (ids, embeddings))
            return features

        return TextFunction(weights, tokenize, run, weights[WORDS].shape[1], LENGTH, self.device)


def load(model: str, pretrained: str, device: str, precision: str) -> Blip:
    """Load ``blip:FOLDER`` or ``blip:ORG/NAME``; ``pretrained`` overrides the part after the colon.

    The logit scale is 1 / temperature from the configuration, because checkpoints of the retrieval model do
    not include the learned temperature. Raises UsageError if nothing is named, Unavailable without
    transformers or a complete BLIP retrieval model.
    """
    where = pretrained or model.partition(":")[2]
    if not where:
        raise UsageError("--model blip: no weights named.", HINT)
    target, dtype = pick_device(device), pick_dtype(precision)
    module, tokenizer = _from_transformers(where)
    module.float().eval().requires_grad_(False)
    fingerprint = Fingerprint(
        model="blip",
        pretrained=str(Path(where).resolve()) if Path(where).is_dir() else where,
        weights=weights_digest(module),
        dim=module.config.image_text_hidden_size,
        image_size=module.config.vision_config.image_size,
        interpolation="bicubic",
        resize_mode="squash",
        mean=OPENAI_DATASET_MEAN,
        std=OPENAI_DATASET_STD,
        precision=precision,
        logit_scale=round(math.exp(module.config.logit_scale_init_value), 4),
    )
    module.to(target)
    size, mean, std = fingerprint.image_size, fingerprint.mean, fingerprint.std
    transform = Preprocessing((size, size), True, fingerprint.interpolation, mean, std)
    return Blip(fingerprint, module, transform, _ImageTower(module).to(dtype), tokenizer, target, dtype)


def _from_transformers(where: str) -> tuple[Any, Any]:
    """Load the complete model and its tokenizer."""
    try:
        from transformers import BlipForImageTextRetrieval
    except ImportError as error:
        raise Unavailable(
            "--model blip needs transformers, which is not installed.",
            "pip install 'lsncli[blip]', or take a model of open_clip.",
        ) from error
    try:
        with patient_only_online(), _silent_transformers():
            model, report = BlipForImageTextRetrieval.from_pretrained(where, output_loading_info=True)
            tokenizer = HFTokenizer(where, context_length=LENGTH)
    except Exception as error:
        raise Unavailable(
            f"blip:{where} does not load as transformers' BlipForImageTextRetrieval: {load_reason(error)}.",
            HINT,
        ) from error
    # transformers fills weights that the checkpoint of another BLIP lacks with random numbers.
    lacking = sorted(set(report["missing_keys"]) & {name for name, _ in model.named_parameters()})
    if lacking:
        raise Unavailable(
            f"blip:{where} lacks {len(lacking)} of the weights of an image-text retrieval model, such as "
            f"'{lacking[0]}'.",
            HINT,
        )
    return model, tokenizer


@contextmanager
def _silent_transformers() -> Iterator[None]:
    """Suppress loading reports and progress bars, and turn errors into LsnErrors."""
    from transformers.utils import logging as theirs

    logger, bars = logging.getLogger("transformers"), theirs.is_progress_bar_enabled()
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    theirs.disable_progress_bar()
    try:
        yield
    finally:
        logger.setLevel(level)
        if bars:
            theirs.enable_progress_bar()


class _ImageTower(nn.Module):
    """Pixels -> projected class token."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.vision_model, self.vision_proj = model.vision_model, model.vision_proj

    def forward(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.vision_proj(self.vision_model(pixel_values=pixels).last_hidden_state[:, 0])
        return features


class _TextTower(nn.Module):
    """Token ids and their embeddings -> projected class token."""

    def __init__(self, model: Any, pad: int) -> None:
        super().__init__()
        self.text_encoder, self.text_proj, self.pad = model.text_encoder, model.text_proj, pad

    def forward(self, ids: Tensor, embeddings: Tensor) -> Tensor:
        mask = (ids != self.pad).long()
        # A copy, because transformers adds the positions in place.
        encoded = self.text_encoder(inputs_embeds=embeddings.clone(), attention_mask=mask)
        features: Tensor = self.text_proj(encoded.last_hidden_state[:, 0])
        return features


def _text_run(tower: _TextTower, dtype: torch.dtype) -> Callable[[Tensor, Tensor], Tensor]:
    """Run the tower in ``dtype``; the weights of the model stay unchanged."""
    tensors = (*tower.named_parameters(), *tower.named_buffers())
    frozen = {name: t.to(dtype) if t.is_floating_point() else t for name, t in tensors}

    def run(ids: Tensor, embeddings: Tensor) -> Tensor:
        features: Tensor = functional_call(tower, frozen, (ids, embeddings.to(dtype)))
        return features

    return run
