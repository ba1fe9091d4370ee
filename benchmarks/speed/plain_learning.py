"""Prompt learning by a plain loop, as the published code does it, written for this repository.

Every prompt passes the whole text transformer with all its tokens (77 in CLIP), padding included, and every
row of the last layer is computed although one is used. Frozen weights have no gradient, as in the published
code. The benchmarks and tests/prompts/test_proof.py compare with it, so it shares no code with
``lsncli.prompts``: it calls the modules of a given open_clip model.

CoOp: Zhou et al., IJCV 2022. CoCoOp: Zhou et al., CVPR 2022. LSN: Nie et al., ICLR 2024.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

TextPass = Callable[[Tensor], Tensor]
"""Contexts (M, W) or (C, M, W) to unit text features (C, D)."""


@dataclass(frozen=True)
class Template:
    """The frozen parts of "X X ... X name." for every class, cut where the context goes."""

    ids: Tensor
    """(C, L) token ids, zeros behind the end of text."""
    start: Tensor
    """(C, 1, W) embedding of the start of text."""
    rest: Tensor
    """(C, L - 1 - M, W) embeddings behind the context: name, full stop, end of text, padding."""
    name_lengths: tuple[int, ...]
    position: str

    def cut(self) -> "Template":
        """Return the template without the columns in which every prompt has padding."""
        length = int(self.ids.argmax(-1).max()) + 1
        behind = self.rest.shape[1] - (self.ids.shape[1] - length)
        return replace(self, ids=self.ids[:, :length], rest=self.rest[:, :behind])

    def prompts(self, context: Tensor) -> Tensor:
        """Return prompts (C, L, W): the context before ("end"), around ("middle") or behind the name."""
        context = context.expand(len(self.ids), -1, -1)
        if self.position == "end":
            return torch.cat([self.start, context, self.rest], dim=1)
        half = context.shape[1] // 2 if self.position == "middle" else 0
        rows = []
        for c, name in enumerate(self.name_lengths):
            start, rest, own = self.start[c], self.rest[c], context[c]
            rows.append(torch.cat([start, own[:half], rest[:name], own[half:], rest[name:]]))
        return torch.stack(rows)


def template(
    model: nn.Module, tokenizer: Any, names: Sequence[str], length: int, position: str = "end"
) -> Template:
    """Tokenise and embed the prompts. An empty name leaves the name out."""
    tower: Any = getattr(model, "text", model)
    names = [name.replace("_", " ") for name in names]
    placeholder = " ".join(["X"] * length)
    ids = tokenizer([f"{placeholder} {name}." if name else f"{placeholder}." for name in names])
    device = tower.token_embedding.weight.device
    with torch.no_grad():
        embedded = tower.token_embedding(ids.to(device))
    lengths = tuple(len(tokenizer.encode(name)) for name in names)
    return Template(ids.to(device), embedded[:, :1], embedded[:, 1 + length :], lengths, position)


def encode(model: nn.Module, prompts: Tensor, ids: Tensor) -> Tensor:
    """Return features (N, D) of prompts (N, L, W), not normalised, taken at the end of text."""
    tower: Any = getattr(model, "text", model)
    length = prompts.shape[1]
    hidden = prompts + tower.positional_embedding[:length]
    hidden = tower.transformer(hidden, attn_mask=tower.attn_mask[:length, :length])
    pooled = tower.ln_final(hidden)[torch.arange(len(ids)), ids.argmax(-1)]
    projection = tower.text_projection
    if projection is None:
        return pooled
    return projection(pooled) if isinstance(projection, nn.Module) else pooled @ projection


def text_pass(model: nn.Module, frame: Template) -> TextPass:
    """Return a function from a context to unit text features, by the whole tower for every class."""
    model.requires_grad_(False)
    return lambda context: normalize(encode(model, frame.prompts(context), frame.ids), dim=-1)


@dataclass(frozen=True)
class Loop:
    """An optimizer and the loss of a batch of unit images (B, D) with labels (B,)."""

    optimizer: torch.optim.Optimizer
    loss: Callable[[Tensor, Tensor], Tensor]

    def step(self, images: Tensor, labels: Tensor) -> float:
        """Update once; return the loss before the update."""
        loss = self.loss(images, labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()


def classify(logits: Tensor, labels: Tensor, double: bool) -> Tensor:
    """Return the cross-entropy; ``double`` applies a softmax to the logits first, as the code of LSN does."""
    return cross_entropy(logits.softmax(-1) if double else logits, labels)


def sgd(parameters: Sequence[Tensor], rate: float = 0.002) -> torch.optim.Optimizer:
    """Return the optimizer of CoOp and CoCoOp."""
    return torch.optim.SGD(parameters, lr=rate, momentum=0.9, weight_decay=5e-4)


def coop(text: TextPass, context: Tensor, double: bool = False, rate: float = 0.002) -> Loop:
    """Return the loop of positive prompts: one shared context (M, W), logits 100 cos."""

    def loss(images: Tensor, labels: Tensor) -> Tensor:
        return classify(100 * images @ text(context).T, labels, double)

    return Loop(sgd([context], rate), loss)


def negative(text: TextPass, context: Tensor, others: Sequence[Tensor], double: bool = False) -> Loop:
    """Return the loop of one set of negative contexts (C, M, W) in the authors' form, logits 20 (1 - cos).

    ``others`` are constant text features (C, D) of the other sets; the mean signed cosine to each is added,
    averaged over them.
    """

    def loss(images: Tensor, labels: Tensor) -> Tensor:
        features = text(context)
        fit = classify(20 * (1 - images @ features.T), labels, double)
        pairs = [(features * other).sum(-1).mean() for other in others]
        return fit + torch.stack(pairs).mean() if pairs else fit

    return Loop(torch.optim.Adam([context], lr=0.002), loss)


def negative_jointly(text: TextPass, contexts: Sequence[Tensor], weight: float = 0.1) -> Loop:
    """Return the loop of K sets of negative contexts as in Eq. 5-8: absolute cosines, summed."""

    def loss(images: Tensor, labels: Tensor) -> Tensor:
        sets = [text(context) for context in contexts]
        total = sum(classify(20 * (1 - images @ features.T), labels, False) for features in sets)
        for i, first in enumerate(sets):
            for second in sets[i + 1 :]:
                total = total + weight * (first * second).sum(-1).abs().sum()
        return total

    return Loop(torch.optim.Adam(list(contexts), lr=0.001), loss)


def meta_net(features: int, width: int) -> nn.Sequential:
    """Return CoCoOp's network from a unit image feature to a shift of every context vector."""
    hidden = max(1, features // 16)
    return nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, width))


def conditional_cosines(text: TextPass, context: Tensor, meta: nn.Module, images: Tensor) -> Tensor:
    """Return cosines (B, C) of CoCoOp's test step: a text pass of all classes for each image in turn."""
    return torch.stack(
        [image @ text(context + shift).T for image, shift in zip(images, meta(images), strict=True)]
    )


def cocoop(text: TextPass, context: Tensor, meta: nn.Module) -> Loop:
    """Return CoCoOp's loop: a shared context (M, W), shifted for every image by the meta-net."""

    def loss(images: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(100 * conditional_cosines(text, context, meta, images), labels)

    return Loop(sgd([context, *meta.parameters()]), loss)
