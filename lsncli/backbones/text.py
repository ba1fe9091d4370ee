"""Read the text tower out of an open_clip model, if it is one that prompts can be learned for."""

from typing import Any

import torch
from torch import Tensor, nn

from lsncli.errors import LsnError
from lsncli.prompts.tower import TextTower


def text_tower(model: nn.Module, tokenizer: Any) -> TextTower:
    """The frozen text encoder of an open_clip ``CLIP`` or ``CustomTextCLIP``.

    Raises LsnError unless it is a causal transformer over CLIP's byte-pair tokens that reads its answer
    at the end of text: for such a tower, and only for such, cutting prompts behind that token is exact.
    """
    tower: Any = getattr(model, "text", model)
    pool = getattr(tower, "pool_type", getattr(tower, "text_pool_type", None))
    lacking = [
        what
        for what, there in {
            "a causal mask": getattr(tower, "attn_mask", None) is not None,
            "pooling at the end of text": pool in ("argmax", "eos"),
            "CLIP's byte-pair tokenizer": hasattr(tokenizer, "eot_token_id"),
            "token embeddings": isinstance(getattr(tower, "token_embedding", None), nn.Embedding),
            "no extra class token": getattr(tower, "cls_emb", None) is None,
        }.items()
        if not there
    ]
    if lacking:
        raise LsnError(
            f"Prompts cannot be learned for this text tower: it lacks {' and '.join(lacking)}.",
            "Use a CLIP model with a causal text transformer, such as ViT-B-16-quickgelu:openai.",
        )
    projection = tower.text_projection

    def project(pooled: Tensor) -> Tensor:
        if projection is None:
            return pooled
        projected: Tensor = projection(pooled) if isinstance(projection, nn.Module) else pooled @ projection
        return projected

    def transformer(prompts: Tensor, mask: Tensor) -> Tensor:
        hidden: Tensor = tower.transformer(prompts, attn_mask=mask)
        return hidden

    def tokenize(text: str) -> list[int]:
        ids: list[int] = tokenizer.encode(text)
        return ids

    weight: Tensor = tower.token_embedding.weight
    return TextTower(
        tokenize=tokenize,
        start=tokenizer.sot_token_id,
        end=tokenizer.eot_token_id,
        token_embedding=weight.detach().to(torch.float32),
        positions=tower.positional_embedding.detach().to(torch.float32),
        transformer=transformer,
        final_norm=tower.ln_final,
        project=project,
    )
