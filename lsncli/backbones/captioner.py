"""Propose words for an image with a caption decoder: open_clip's CoCa, decoded greedily as in ZOC.

open_clip's own ``CoCa.generate`` returns captions alone, not the likely tokens of each step, and needs
transformers. One greedy step is one call of the model's forward, so neither is needed here.
"""

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lsncli.backbones import openclip
from lsncli.backbones.creation import in_memory
from lsncli.errors import UsageError

DEFAULT_CAPTIONER = "coca_ViT-B-32:mscoco_finetuned_laion2b_s13b_b90k"
"""Finetuned on COCO's captions, which ZOC's decoder was trained on."""

WORD = re.compile(r"[^\W\d_]{2,}")
"""A word that can name a thing, of two letters or more; CLIP's tokens end at hyphens and apostrophes."""


@dataclass(frozen=True)
class Caption:
    """The greedy caption of an image and the likely words of its steps.

    Each word occurs once; within a step the likeliest come first.
    """

    text: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Captioner:
    """A CoCa and its decoding settings."""

    coca: openclip.OpenClip
    top: int
    """Tokens of each step that become candidates, if they are words."""
    steps: int
    """Largest number of decoding steps."""

    @property
    def identity(self) -> dict[str, Any]:
        """The settings and weights that determine the words of an image."""
        return {"captioner": self.coca.fingerprint.digest, "top": self.top, "steps": self.steps}

    @torch.inference_mode()
    def captions(self, pixels: Tensor) -> list[Caption]:
        """Return one caption for each image of ``pixels`` (B, 3, H, W), preprocessed by ``coca.preprocess``.

        From the start of text the likeliest token is taken ``steps`` times; each step's ``top`` likeliest
        tokens are kept until an image's caption has ended (the end of text was the likeliest).
        """
        model: Any = self.coca.model
        tokenizer = self.coca.tokenizer
        image = model(pixels.to(self.coca.device, self.coca.dtype))
        latent, patches = image["image_features"], image["image_embs"]
        text = torch.full((len(pixels), 1), tokenizer.sot_token_id, device=self.coca.device)
        likely: list[list[int]] = [[] for _ in range(len(pixels))]
        ended = [False] * len(likely)
        for _ in range(self.steps):
            logits = model(None, text, image_latent=latent, image_embs=patches, output_labels=False)["logits"]
            best = logits[:, -1].topk(self.top, dim=-1).indices
            for row, tokens in enumerate(best.tolist()):
                if not ended[row]:
                    likely[row] += tokens
                    ended[row] = tokens[0] == tokenizer.eot_token_id
            if all(ended):
                break
            text = torch.cat([text, best[:, :1]], dim=1)
        return [
            Caption(self._text(tokens[1:]), self._words(tokens_of_steps))
            for tokens, tokens_of_steps in zip(text.tolist(), likely, strict=True)
        ]

    def _text(self, tokens: list[int]) -> str:
        end = self.coca.tokenizer.eot_token_id
        tokens = tokens[: tokens.index(end)] if end in tokens else tokens
        text: str = self.coca.tokenizer.decode(tokens)
        return " ".join(text.split())

    def _words(self, tokens: list[int]) -> tuple[str, ...]:
        """Tokens that end a word and look like one; other fragments and punctuation name nothing."""
        texts = [self.coca.tokenizer.decode([token]) for token in dict.fromkeys(tokens)]
        ends = [text.removesuffix(" ") for text in texts if text.endswith(" ")]  # its sign for an end of word
        return tuple(dict.fromkeys(word for word in ends if WORD.fullmatch(word)))


def load_captioner(name: str, *, top: int, steps: int, device: str = "auto") -> Captioner:
    """Load ``ARCHITECTURE:TAG``, ``ARCHITECTURE:FILE``, ``hf-hub:...`` or ``local-dir:...`` of a CoCa.

    Raises UsageError for another kind of model, for one without CLIP's tokenizer and for invalid numbers,
    Unavailable where weights are missing.
    """
    coca = openclip.load(name, "", device, "fp32")
    model: Any = in_memory(coca.model)
    if not hasattr(model, "text_decoder") or not hasattr(coca.tokenizer, "decoder"):
        raise UsageError(
            f"--captioner {name} cannot write captions: expected a CoCa with CLIP's tokenizer.",
            f"Take {DEFAULT_CAPTIONER}, or import words of your own with --from.",
        )
    longest, known = int(model.context_length), len(coca.tokenizer.decoder)
    for option, value, most in (("--top", top, known), ("--steps", steps, longest)):
        if not 1 <= value <= most:
            raise UsageError(f"{option}: expected 1 to {most} for this captioner, found {value}.")
    return Captioner(coca, top, steps)
