"""Stage 2: a small causal text transformer that maps names to rows of the class table.

Targets are the table's rows in CLIP's cone. A third of the steps puts random vectors before the name, as
learned prompts do, so that the tower works there too. A linear head that predicts the CLIP text feature,
and is dropped afterwards, keeps similar meanings together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy, normalize

from benchmarks.mini.bpe import CONTEXT
from benchmarks.mini.class_table import SCALE, text_side
from benchmarks.mini.templates import CORE, TEMPLATES
from benchmarks.mini.vocabulary import Vocabulary


@dataclass(frozen=True)
class TextSettings:
    """Hyper-parameters of stage 2."""

    steps: int = 2000
    batch: int = 192
    rate: float = 1.5e-3
    decay: float = 0.05
    soft_share: float = 0.3
    x_share: float = 0.1
    core_share: float = 0.35
    most_vectors: int = 16
    clip_weight: float = 1.0
    seed: int = 0


def encode(model: nn.Module, tokens: Tensor, vectors: Tensor | None = None) -> Tensor:
    """Return text features; tokens behind the longest text are cut off.

    ``vectors`` (batch, n, width) replace the first n tokens after the start token.
    """
    last = tokens.argmax(1)
    tokens = tokens[:, : int(last.max()) + 1]
    x = model.token_embedding(tokens)
    if vectors is not None:
        x = torch.cat([x[:, :1], vectors, x[:, 1 + vectors.shape[1] :]], 1)
    length = x.shape[1]
    x = x + model.positional_embedding[:length]
    x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
    x = model.ln_final(x)[torch.arange(len(x)), last]
    return x @ model.text_projection


def _sentences(
    names: Sequence[str], tokenizer: SimpleTokenizer, rng: np.random.Generator, s: TextSettings
) -> tuple[Tensor, int]:
    """Return token ids of one batch, and how many of its leading "X" are replaced by vectors."""
    kind = rng.random()
    if kind < s.soft_share + s.x_share:
        count = int(rng.integers(1, s.most_vectors + 1))
        stop = "." if rng.random() < 0.8 else ""
        texts = [f"{'X ' * count}{name}{stop}" for name in names]
        return tokenizer(texts, CONTEXT), count if kind < s.soft_share else 0
    templates = CORE if kind < s.soft_share + s.x_share + s.core_share else TEMPLATES
    picked = rng.integers(len(templates), size=len(names))
    texts = [templates[i].format(name) for i, name in zip(picked, names, strict=True)]
    return tokenizer(texts, CONTEXT), 0


def _vectors(model: nn.Module, batch: int, count: int, rng: np.random.Generator) -> Tensor:
    """Return random vectors with a standard deviation between 0.02 and twice that of token embeddings.

    Half of the time the batch shares them, as one learned context.
    """
    width = model.token_embedding.weight.shape[1]
    spread = float(model.token_embedding.weight.detach().std())
    std = float(np.exp(rng.uniform(math.log(0.02), math.log(2 * spread))))
    shared = rng.random() < 0.5
    return (std * torch.randn(1 if shared else batch, count, width)).expand(batch, -1, -1)


def _chances(vocabulary: Vocabulary) -> NDArray[np.float64]:
    """Return how often each text is drawn: names with images twice, everyday words six times."""
    weight = np.ones(len(vocabulary.names))
    weight[vocabulary.imagenet] = 2
    weight[vocabulary.coarse] = 6
    drawn = weight[[row for _, row in vocabulary.texts]]
    return drawn / drawn.sum()


def train_text(
    model: nn.Module,
    tokenizer: SimpleTokenizer,
    vocabulary: Vocabulary,
    content: Tensor,
    s: TextSettings,
) -> Iterator[tuple[int, float]]:
    """Optimise the text side in place; yield (step, loss)."""
    rng = np.random.default_rng(s.seed)
    targets, clip = text_side(content), vocabulary.features
    rows = np.array([row for _, row in vocabulary.texts])
    head = nn.Linear(content.shape[1] + 2, clip.shape[1])
    parts = [model.token_embedding, model.transformer, model.ln_final]
    parameters = [p for part in parts for p in part.parameters()]
    parameters += [model.positional_embedding, model.text_projection]
    optimiser = torch.optim.AdamW(
        [{"params": parameters, "weight_decay": s.decay}, {"params": list(head.parameters())}],
        lr=s.rate,
        betas=(0.9, 0.98),
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, s.rate, total_steps=s.steps + 1, pct_start=0.1)
    chance = _chances(vocabulary)
    for step in range(s.steps):
        picked = rng.choice(len(rows), size=s.batch, replace=False, p=chance)
        names = [vocabulary.texts[i][0] for i in picked]
        row = torch.from_numpy(rows[picked])
        tokens, count = _sentences(names, tokenizer, rng, s)
        vectors = _vectors(model, s.batch, count, rng) if count else None
        raw = encode(model, tokens, vectors)
        feature = normalize(raw, dim=1)
        distance = (feature - targets[row]).square().sum(1).mean()
        contrast = cross_entropy(SCALE * feature @ targets.T, row)
        clip_loss = 1 - cosine_similarity(head(feature), clip[row]).mean()
        loss = 10 * distance + contrast + s.clip_weight * clip_loss
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        yield step, loss.item()
