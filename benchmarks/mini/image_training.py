"""Stage 1: train the upper half of the image tower on the class table.

Three losses of each cached view: the teacher's posterior of the sharp view over ImageNet's 1,000
classes; the known label, mixed with the posterior, within the 180 names of Tiny-ImageNet used for
training; and the coarse words, weighted by their probability under the teacher. The log share of each
class in the training views is added to the logits, so that classes with few or no training images are
not forgotten.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.mini.class_table import CONTENT, DIM, SCALE, A, B, text_side
from benchmarks.mini.coarse import membership
from benchmarks.mini.image_tower import CUT, ImageTower, upper
from benchmarks.mini.training_cache import TrainingCache
from benchmarks.mini.vocabulary import Vocabulary

PRIOR_FLOOR = 1e-5


@dataclass(frozen=True)
class Settings:
    """Hyper-parameters of stage 1."""

    steps: int = 220
    batch: int = 256
    rate: float = 3e-5
    head_rate: float = 5e-5
    decay: float = 0.02
    label_share: float = 0.35
    tiny_weight: float = 0.5
    coarse_weight: float = 0.5
    photo_weight: float = 4.0
    sharp_weight: float = 2.0
    seed: int = 0


def initialise(tower: ImageTower, project: Tensor, sample: Tensor) -> None:
    """Set the projection by the classifier: content of weight ``A`` on average, ``B`` on the axis."""
    with torch.no_grad():
        h = upper(tower.trunk, sample.float())
        content = (h - h.mean(0)) @ project.T
        scale = A / content.norm(dim=1).mean()
        tower.proj.weight.zero_()
        tower.proj.bias.zero_()
        tower.proj.weight[:CONTENT] = project * scale
        tower.proj.bias[:CONTENT] = -(project * scale) @ h.mean(0)
        tower.proj.bias[CONTENT] = B


def soft_labels(cache: TrainingCache, share: float) -> Tensor:
    """Return a target for each box: ``share`` of the known label, the rest the teacher's posterior."""
    posterior = cache.teacher.float().softmax(1) * (1 - share)
    posterior[torch.arange(len(posterior)), cache.label] += share
    return posterior


def _cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    return -(target * logits.log_softmax(1)).sum(1)


class Objective(nn.Module):
    """The three losses of one batch."""

    def __init__(
        self, vocabulary: Vocabulary, content: Tensor, cache: TrainingCache, settings: Settings
    ) -> None:
        super().__init__()
        rows = text_side(content)
        self.fine_rows, self.coarse_rows = rows[vocabulary.imagenet], rows[vocabulary.coarse]
        self.tiny = cache.label[cache.tiny].unique()
        self.member, self.settings = membership(), settings
        chance = _row_weights(cache, settings).double()
        box = torch.zeros(len(cache.label), dtype=torch.double).index_add(0, cache.box, chance)
        prior = (box / box.sum()).float() @ cache.teacher.float().softmax(1)
        self.fine_prior = (prior + PRIOR_FLOOR).log()
        self.coarse_prior = (self.member @ (prior + PRIOR_FLOOR)).log()

    def forward(self, image: Tensor, target: Tensor, labelled: Tensor, is_tiny: Tensor) -> Tensor:
        fine = SCALE * image @ self.fine_rows.T + self.fine_prior
        coarse = SCALE * image @ self.coarse_rows.T + self.coarse_prior
        loss = _cross_entropy(fine, target).mean()
        within = labelled[:, self.tiny] * is_tiny[:, None]
        loss = loss + self.settings.tiny_weight * _cross_entropy(fine[:, self.tiny], within).mean()
        words = target @ self.member.T
        return loss + self.settings.coarse_weight * _cross_entropy(coarse, words).mean()


def _row_weights(cache: TrainingCache, settings: Settings) -> Tensor:
    """Return how often a view is drawn: the few photos and sharp views more often than others."""
    photo = torch.where(cache.tiny[cache.box], 1.0, settings.photo_weight)
    return photo * torch.where(cache.low == 0, settings.sharp_weight, 1.0)


def train(tower: ImageTower, cache: TrainingCache, objective: Objective) -> Iterator[tuple[int, float]]:
    """Optimise in place; yield (step, loss)."""
    settings = objective.settings
    generator = torch.Generator().manual_seed(settings.seed)
    posterior, labels = soft_labels(cache, 0.0), soft_labels(cache, settings.label_share)
    head = [*tower.proj.parameters()]
    body = [p for block in tower.trunk.blocks[CUT:] for p in block.parameters()]
    body += [*tower.trunk.conv_head.parameters(), *tower.trunk.bn2.parameters()]
    chance = _row_weights(cache, settings)
    optimiser = torch.optim.AdamW(
        [{"params": body, "lr": settings.rate}, {"params": head, "lr": settings.head_rate}],
        weight_decay=settings.decay,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        [settings.rate, settings.head_rate],
        total_steps=settings.steps + 1,
        pct_start=0.15,
    )
    content_only = torch.ones(DIM, 1)
    content_only[CONTENT:] = 0.0
    for step in range(settings.steps):
        rows = torch.multinomial(chance, settings.batch, generator=generator)
        box = cache.box[rows]
        h = cache.activations[rows].float()
        target, labelled = posterior[box], labels[box]
        is_tiny = cache.tiny[box].float()
        loss = objective(tower(h), target, labelled, is_tiny)
        optimiser.zero_grad()
        loss.backward()
        tower.proj.weight.grad.mul_(content_only)
        tower.proj.bias.grad[CONTENT + 1 :] = 0.0
        nn.utils.clip_grad_norm_([*head, *body], 5.0)
        optimiser.step()
        schedule.step()
        if not math.isfinite(loss.item()):
            raise FloatingPointError(f"loss is {loss.item()} at step {step}")
        yield step, loss.item()
