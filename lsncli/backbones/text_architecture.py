"""Choose the text tower of an encoder, fast or plain, from its module or its configuration.

``prompts.fast`` computes one kind of encoder, CLIP's own: a transformer with a causal mask over byte pairs,
read at the end of the text. Everything else runs as it is (``prompts.plain``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lsncli.backbones.loading import ensure_torchvision

ensure_torchvision()
from open_clip.model import CLIPTextCfg  # noqa: E402  (needs a torchvision that imports)
from open_clip.transformer import QuickGELU, ResidualAttentionBlock, Transformer  # noqa: E402

CUSTOM_BLOCKS = ("qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc")
"""Settings of open_clip that make its other kind of block."""


@dataclass(frozen=True)
class TextFacts:
    """The facts that the choice depends on; the defaults are those of CLIP, which the fast tower supports."""

    foreign: bool = False
    """True unless the module is open_clip's text transformer; then the other fields are unused."""
    causal: bool = True
    pooling: str = ""
    """Empty where the answer is read at the end of the text, else open_clip's name for the place; a class
    token overrides it."""
    class_token: bool = False
    clip_tokens: bool = True
    blocks: str = ""
    """Empty for open_clip's standard blocks, else what is special about them."""
    activation: str = "gelu"

    @property
    def why_plain(self) -> str:
        """The reason for the plain tower, as a clause; empty for the fast one."""
        if self.foreign:
            return "an encoder of transformers"
        reasons = {
            "no causal mask": not self.causal,
            f"pooling '{self.pooling}'": bool(self.pooling) and not self.class_token,
            "a class token": self.class_token,
            "another tokenizer": not self.clip_tokens,
            self.blocks: bool(self.blocks),
            self.activation: self.activation not in ("gelu", "quick_gelu"),
        }
        return ", ".join(reason for reason, applies in reasons.items() if applies)


def facts_of_config(config: Mapping[str, Any]) -> TextFacts:
    """Return the facts from a configuration of open_clip, with its defaults for missing fields."""
    text = CLIPTextCfg(**config["text_cfg"])
    if text.hf_model_name:
        return TextFacts(foreign=True)
    last = text.vocab_size - 1  # the end of text, among CLIP's tokens
    custom = text.block_type == "custom" or any(getattr(text, name) for name in CUSTOM_BLOCKS)
    return TextFacts(
        causal=not text.no_causal_mask,
        pooling=_pooling(text.pool_type, text.eos_id, None if text.hf_tokenizer_name else last, last),
        class_token=text.embed_cls,
        clip_tokens=not text.hf_tokenizer_name,
        blocks=_blocks(custom, text.ls_init_value is not None),
        activation="quick_gelu" if config.get("quick_gelu") else _gelu(**(text.act_kwargs or {})),
    )


def facts_of_module(model: nn.Module, tokenizer: Any) -> TextFacts:
    """Return the facts from a model of open_clip and its tokenizer, by inspecting each part."""
    tower: Any = getattr(model, "text", model)
    if not isinstance(getattr(tower, "transformer", None), Transformer):
        return TextFacts(foreign=True)
    pool = getattr(tower, "pool_type", getattr(tower, "text_pool_type", ""))
    eos_id = getattr(tower, "eos_id", getattr(tower, "text_eos_id", None))
    clip_tokens = hasattr(tokenizer, "eot_token_id")
    end, last = (tokenizer.eot_token_id, tokenizer.vocab_size - 1) if clip_tokens else (None, None)
    blocks = list(tower.transformer.resblocks)
    scales = [scale for block in blocks for scale in (block.ls_1, block.ls_2)]
    return TextFacts(
        causal=_is_causal(tower.attn_mask),
        pooling=_pooling(pool, eos_id, end, last),
        class_token=getattr(tower, "cls_emb", None) is not None,
        clip_tokens=clip_tokens,
        blocks=_blocks(not _is_standard(tower, blocks), not all(isinstance(s, nn.Identity) for s in scales)),
        activation=", ".join(sorted({_activation(block.mlp.gelu) for block in blocks})),
    )


def _pooling(pool: str, eos_id: int | None, end: int | None, last: int | None) -> str:
    """Empty if the token ``end`` is what is read, which must be the highest (``last``) for argmax.

    With another tokenizer, where ``end`` is None, the encoder is taken at its word.
    """
    reads_end = {"argmax": end in (None, last), "eos": end in (None, eos_id)}
    return "" if reads_end.get(pool, False) else pool


def _blocks(custom: bool, scaled: bool) -> str:
    return "custom blocks" if custom else "layer scale" if scaled else ""


def _gelu(approximate: str = "none") -> str:
    return "gelu" if approximate == "none" else f"{approximate} GELU"


def _activation(module: nn.Module) -> str:
    if type(module) is nn.GELU:
        return _gelu(module.approximate)
    return "quick_gelu" if type(module) is QuickGELU else type(module).__name__


def _is_causal(mask: torch.Tensor | None) -> bool:
    """Return whether an additive mask (L, L) is causal."""
    return mask is not None and torch.equal(mask, torch.full_like(mask, float("-inf")).triu(1))


def _is_standard(tower: Any, blocks: list[Any]) -> bool:
    """Return whether every part has a class that the fast tower supports, with all its weights."""
    norms = [tower.ln_final] + [norm for block in blocks for norm in (block.ln_1, block.ln_2)]
    return (
        type(tower.token_embedding) is nn.Embedding
        and all(isinstance(norm, nn.LayerNorm) and norm.bias is not None for norm in norms)
        and all(type(block) is ResidualAttentionBlock for block in blocks)
        and all(_is_standard_attention(block.attn) for block in blocks)
        and isinstance(tower.text_projection, torch.Tensor | nn.Linear | None)
    )


def _is_standard_attention(attention: Any) -> bool:
    return (
        type(attention) is nn.MultiheadAttention
        and attention.in_proj_weight is not None
        and attention.bias_k is None
        and not attention.add_zero_attn
    )
