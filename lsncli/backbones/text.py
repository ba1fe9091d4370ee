"""The text encoder of an open_clip model for prompt learning: fast where that is exact, else plain.

Also says how a tokenizer lays out a text (start, words, end, padding), and has CLIP's ensemble of templates.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lsncli.backbones.loading import ensure_torchvision
from lsncli.backbones.text_architecture import facts_of_module
from lsncli.device import pick_dtype
from lsncli.errors import LsnError, UsageError
from lsncli.prompts.clipn import TextFunction
from lsncli.prompts.fast_tower import fast_tower
from lsncli.prompts.layout import TextTower, Vocabulary
from lsncli.prompts.packing import Activation, Linear, Norm, TextBlock, Weights
from lsncli.prompts.plain_tower import PlainTower

ensure_torchvision()
from open_clip.tokenizer import get_clean_fn  # noqa: E402  (needs a torchvision that imports)

PROBES = ("A photo of a cat.", "dog")
"""Texts for which our layout must give the tokenizer's own ids."""


@dataclass(frozen=True)
class Tokens:
    """The token layout of a text: ``start``, its words, ``end``, and ``pad`` up to full length."""

    tokenize: Callable[[str], list[int]]
    """Return the ids of the words alone. Raises LsnError for a text that contains a start or end token."""
    start: tuple[int, ...]
    end: tuple[int, ...]
    pad: int


def read_tokens(tokenizer: Any, length: int) -> Tokens:
    """Derive the layout from one of open_clip's tokenizers, and check it on two texts of ``length`` tokens.

    Raises LsnError if texts are laid out in another way, for then no vector can stand where a word would.
    """
    try:
        tokens = _clip(tokenizer) if hasattr(tokenizer, "sot_token_id") else _transformers(tokenizer)
        rows = [[*tokens.start, *tokens.tokenize(probe), *tokens.end] for probe in PROBES]
        padded = [row + [tokens.pad] * (length - len(row)) for row in rows]
        right = padded == tokenizer(list(PROBES), context_length=length).tolist()
    except (AttributeError, TypeError, ValueError):
        right = False
    if not right:
        raise LsnError(
            f"Prompts cannot be learned for this model: its tokenizer ({type(tokenizer).__name__}) does not "
            "lay out a text as start, words, end and padding.",
            "Use another model; `lsn models` lists them.",
        )
    return tokens


def _clip(tokenizer: Any) -> Tokens:
    """Layout of CLIP's byte pairs; open_clip pads with 0, which is also the "!" within a word."""
    start, end = (tokenizer.sot_token_id,), (tokenizer.eot_token_id,)
    return Tokens(_words(tokenizer.encode, start + end), start, end, 0)


def _transformers(tokenizer: Any) -> Tokens:
    """Layout of a transformers tokenizer, found by tokenizing with and without special tokens."""
    inner = tokenizer.tokenizer
    # open_clip's older class for SigLIP has one fixed cleaning, the newer class a setting.
    clean = tokenizer.clean_fn if hasattr(tokenizer, "clean_fn") else get_clean_fn("canonicalize")

    def ids(text: str, special: bool) -> list[int]:
        token_ids: list[int] = inner(clean(text), add_special_tokens=special).input_ids
        return token_ids

    whole, words = ids(PROBES[0], True), ids(PROBES[0], False)
    first = [whole[i : i + len(words)] for i in range(len(whole))].index(words)
    start, end = tuple(whole[:first]), tuple(whole[first + len(words) :])
    if getattr(tokenizer, "strip_sep_token", False):
        end = tuple(0 if token == inner.sep_token_id else token for token in end)
    return Tokens(_words(lambda text: ids(text, False), start + end), start, end, inner.pad_token_id)


def _words(encode: Callable[[str], list[int]], special: tuple[int, ...]) -> Callable[[str], list[int]]:
    def tokenize(text: str) -> list[int]:
        ids = encode(text)
        if not set(special).isdisjoint(ids):
            raise LsnError(
                f"The text '{text}' spells out the start or the end of a text.", "Rename the class."
            )
        return ids

    return tokenize


DEFAULT_LENGTH = 77
"""Default text length where neither encoder nor tokenizer has one."""

ORDINARY = "a photo"
"""Its first token serves as placeholder: it is no start, end or padding."""


def text_tower(
    model: nn.Module, tokenizer: Any, *, precision: str = "fp32", kernel: str = "auto"
) -> TextTower:
    """Return the frozen text encoder of an open_clip model in ``precision``.

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
    """Return the text encoder of the same models as a function of all its weights, in float32.

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
    every = {
        name: tensor.detach().float() for name, tensor in parameters if not name.startswith("model.visual.")
    }
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in every.items()}
    with torch.enable_grad():
        answer = run(leaves, tokenize([ORDINARY]), torch.zeros(1, longest, width, device=device)).sum()
    gradients = torch.autograd.grad(answer, list(leaves.values()), allow_unused=True)
    used = [name for name, gradient in zip(leaves, gradients, strict=True) if gradient is not None]
    return TextFunction({name: every[name] for name in used}, tokenize, run, width, longest, device)


def _embedding(tower: Any) -> nn.Embedding:
    """Return the embedding module, of open_clip or transformers."""
    embedding = getattr(tower, "token_embedding", None)
    if embedding is None and hasattr(getattr(tower, "transformer", None), "get_input_embeddings"):
        embedding = tower.transformer.get_input_embeddings()
    if not isinstance(embedding, nn.Embedding):
        raise LsnError(
            f"Prompts cannot be learned for this text tower: {type(tower).__name__} has no token embeddings.",
            "Use another model; `lsn models` lists them.",
        )
    return embedding


@torch.no_grad()
def _vectors(embedding: nn.Embedding) -> Tensor:
    """Return the embedding (vocabulary, W) float32 of each token by the module; some scale their weights."""
    if type(embedding) is nn.Embedding:
        return embedding.weight.detach().float()
    every: Tensor = embedding(torch.arange(embedding.num_embeddings, device=embedding.weight.device))
    return every.float()


def _longest(tower: Any, tokenizer: Any) -> int:
    """Return the length of a full prompt; transformers supports more than its encoders were trained with."""
    of_tower = tower.context_length if hasattr(tower, "token_embedding") else None
    longest: int = of_tower or getattr(tokenizer, "context_length", None) or DEFAULT_LENGTH
    return longest


def _placeholder(tower: Any, tokens: Tokens) -> int:
    """Return a word token that no encoder takes for the output position or padding."""
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
    """The model's text features, not normalised, as a module's forward."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        features: Tensor = self.model.encode_text(ids, normalize=False)  # type: ignore[operator]
        return features


def _run(model: nn.Module, embedding: nn.Embedding, dtype: torch.dtype) -> Callable[[Tensor, Tensor], Tensor]:
    """Run the model's forward in ``dtype`` with given embeddings."""
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
    """Return all weights after the token embeddings, detached and cast."""

    def cast(tensor: Tensor | None) -> Any:
        return None if tensor is None else tensor.detach().to(dtype)

    def norm(module: nn.LayerNorm) -> Norm:
        return Norm(cast(module.weight), cast(module.bias), module.eps)

    def linear(module: nn.Linear) -> Linear:
        return Linear(cast(module.weight), cast(module.bias))

    blocks = tuple(
        TextBlock(
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


def openai_templates() -> tuple[Callable[[str], str], ...]:
    """The 80 templates of CLIP's ImageNet notebook (Radford et al., ICML 2021), as in open_clip."""
    ensure_torchvision()
    from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES

    return tuple(OPENAI_IMAGENET_TEMPLATES)
