"""The text encoder of an open_clip model for prompt learning: fast where that is exact, else plain."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lsncli.backbones.textfacts import facts_of_module
from lsncli.backbones.tokens import Tokens, read_tokens
from lsncli.device import pick_dtype
from lsncli.errors import LsnError, UsageError
from lsncli.prompts.clipn import TextFunction
from lsncli.prompts.fast_tower import fast_tower
from lsncli.prompts.layout import TextTower, Vocabulary
from lsncli.prompts.packing import Activation, Block, Linear, Norm, Weights
from lsncli.prompts.plain_tower import PlainTower

DEFAULT_LENGTH = 77
"""Tokens of a text where neither encoder nor tokenizer says."""

ORDINARY = "a photo"
"""Its first token can hold a place: it is no start, no end, no padding."""


def text_tower(
    model: nn.Module, tokenizer: Any, *, precision: str = "fp32", kernel: str = "auto"
) -> TextTower:
    """The frozen text encoder of an open_clip ``CLIP``, ``CustomTextCLIP`` or ``CoCa``, in ``precision``.

    The model is left as it is. Raises LsnError if no vector can be put where a word would stand, UsageError
    for a ``kernel`` that the plain path cannot use.
    """
    tower: Any = getattr(model, "text", model)
    dtype = pick_dtype(precision)
    embedding = _embedding(tower)
    longest = _longest(tower, tokenizer)
    tokens = read_tokens(tokenizer, longest)
    vocabulary = Vocabulary(tokens.tokenize, tokens.start, tokens.end, _vectors(embedding), longest)
    why = facts_of_module(model, tokenizer).why_plain
    if not why:
        return fast_tower(vocabulary, _weights(tower, dtype), kernel)
    if kernel not in ("auto", "torch"):
        raise UsageError(
            f"--kernel {kernel}: this text tower takes the plain path ({why}), where only 'torch' can be.",
            "Leave --kernel out.",
        )
    return PlainTower(vocabulary, _run(model, embedding, dtype), tokens.pad, _placeholder(tower, tokens), why)


def text_function(model: nn.Module, tokenizer: Any) -> TextFunction:
    """The text encoder of the same models as a function of all its weights, in float32.

    The model is left as it is. Raises LsnError if nothing can be added to the token embeddings.
    """
    tower: Any = getattr(model, "text", model)
    embedding, longest = _embedding(tower), _longest(tower, tokenizer)
    width, device = _vectors(embedding).shape[1], embedding.weight.device
    encode_text = _EncodeText(model)

    def tokenize(texts: Sequence[str]) -> Tensor:
        ids: Tensor = tokenizer(list(texts), context_length=longest)
        return ids.to(device)

    def run(weights: Mapping[str, Tensor], ids: Tensor, added: Tensor) -> Tensor:
        hook = embedding.register_forward_hook(lambda module, inputs, output: output + added)
        try:
            features: Tensor = functional_call(encode_text, dict(weights), (ids,))
        finally:
            hook.remove()
        return features

    parameters = encode_text.named_parameters()
    every = {name: one.detach().float() for name, one in parameters if not name.startswith("model.visual.")}
    leaves = {name: one.clone().requires_grad_() for name, one in every.items()}
    with torch.enable_grad():
        answer = run(leaves, tokenize([ORDINARY]), torch.zeros(1, longest, width, device=device)).sum()
    gradients = torch.autograd.grad(answer, list(leaves.values()), allow_unused=True)
    used = [name for name, one in zip(leaves, gradients, strict=True) if one is not None]
    return TextFunction({name: every[name] for name in used}, tokenize, run, width, longest, device)


def _embedding(tower: Any) -> nn.Embedding:
    """The module that turns token ids into vectors: open_clip's, or that of transformers."""
    found = getattr(tower, "token_embedding", None)
    if found is None and hasattr(getattr(tower, "transformer", None), "get_input_embeddings"):
        found = tower.transformer.get_input_embeddings()
    if not isinstance(found, nn.Embedding):
        raise LsnError(
            f"Prompts cannot be learned for this text tower: {type(tower).__name__} has no token embeddings.",
            "Use another model; `lsn models` lists them.",
        )
    return found


@torch.no_grad()
def _vectors(embedding: nn.Embedding) -> Tensor:
    """(vocabulary, W) float32: what the module answers for each token; some scale their weights."""
    if type(embedding) is nn.Embedding:
        return embedding.weight.detach().float()
    every: Tensor = embedding(torch.arange(embedding.num_embeddings, device=embedding.weight.device))
    return every.float()


def _longest(tower: Any, tokenizer: Any) -> int:
    """Tokens of a full prompt. transformers' encoders have room for more than they were trained with."""
    of_tower = tower.context_length if hasattr(tower, "token_embedding") else None
    longest: int = of_tower or getattr(tokenizer, "context_length", None) or DEFAULT_LENGTH
    return longest


def _placeholder(tower: Any, tokens: Tokens) -> int:
    """A word's token that no encoder can take for the place to read at, nor for padding."""
    pool = getattr(tower, "pool_type", getattr(tower, "text_pool_type", None))
    token, special = tokens.tokenize(ORDINARY)[0], (*tokens.start, *tokens.end)
    reads_here = pool == "argmax" and token >= max(special, default=0)
    if reads_here or token in (tokens.pad, *special):
        raise LsnError(
            "Prompts cannot be learned for this text tower: it would read the answer at a learned vector.",
            "Use another model; `lsn models` lists them.",
        )
    return token


class _EncodeText(nn.Module):
    """The model's own text features, not normalised, as a module's forward."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        features: Tensor = self.model.encode_text(ids, normalize=False)  # type: ignore[operator]
        return features


def _run(model: nn.Module, embedding: nn.Embedding, dtype: torch.dtype) -> Callable[[Tensor, Tensor], Tensor]:
    """The model's own forward in ``dtype``, with given vectors as the answer of its embedding."""
    encode_text = _EncodeText(model)
    part = "model.text." if hasattr(model, "text") else "model."
    frozen = {
        name: tensor.detach().to(dtype) if tensor.is_floating_point() else tensor
        for name, tensor in (*encode_text.named_parameters(), *encode_text.named_buffers())
        if name.startswith(part) and not name.startswith("model.visual.")
    }

    def run(ids: Tensor, embeddings: Tensor) -> Tensor:
        hook = embedding.register_forward_hook(lambda *_: embeddings.to(dtype))
        try:
            features: Tensor = functional_call(encode_text, frozen, (ids,))
        finally:
            hook.remove()
        return features

    return run


def _weights(tower: Any, dtype: torch.dtype) -> Weights:
    """Everything behind the token embeddings, detached and cast."""

    def cast(tensor: Tensor | None) -> Any:
        return None if tensor is None else tensor.detach().to(dtype)

    def norm(module: nn.LayerNorm) -> Norm:
        return Norm(cast(module.weight), cast(module.bias), module.eps)

    def linear(module: nn.Linear) -> Linear:
        return Linear(cast(module.weight), cast(module.bias))

    blocks = tuple(
        Block(
            norm1=norm(block.ln_1),
            qkv=Linear(cast(block.attn.in_proj_weight), cast(block.attn.in_proj_bias)),
            out=linear(block.attn.out_proj),
            norm2=norm(block.ln_2),
            up=linear(block.mlp.c_fc),
            down=linear(block.mlp.c_proj),
        )
        for block in tower.transformer.resblocks
    )
    first = tower.transformer.resblocks[0]
    activation: Activation = "gelu" if isinstance(first.mlp.gelu, nn.GELU) else "quick_gelu"
    projection = tower.text_projection
    if isinstance(projection, nn.Linear):
        projection = linear(projection)
    elif projection is not None:
        projection = Linear(cast(projection).T.contiguous())
    return Weights(
        positions=cast(tower.positional_embedding),
        blocks=blocks,
        heads=first.attn.num_heads,
        activation=activation,
        final=norm(tower.ln_final),
        projection=projection,
    )
