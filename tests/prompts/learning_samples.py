"""Prompt learning written out from the equations, one prompt, one image and one set at a time."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize
from tower_samples import CLASSES, DIM, VOCABULARY, plain_features, random, tower, weights

from lsncli.prompts.layout import context_layout
from lsncli.prompts.learner import LearnedContexts, learn
from lsncli.prompts.settings import PromptSettings, preset
from lsncli.types import Rows

Parameters = dict[str, Tensor]


def clusters(count: int = 4) -> Rows:
    """``count`` rows around each of three centres."""
    labels = np.repeat(np.arange(3, dtype=np.int32), count)
    features = random(3, DIM, seed=41).numpy()[labels] + 0.4 * random(3 * count, DIM, seed=42).numpy()
    return Rows(features.astype(np.float16), labels)


TOWER, ROWS = tower(), clusters()


def small(kind: str, mode: str = "paper", learner: str = "coop", **changes: object) -> PromptSettings:
    """A preset cut down to 2 epochs of all rows at once with contexts of 2 vectors."""
    shared = {"length": 2, "epochs": 2, "batch_size": len(ROWS), "rate": 0.01} | changes
    return preset(kind, mode, learner, **shared)


def learned(settings: PromptSettings, **options: object) -> LearnedContexts:
    return learn(TOWER, ROWS, CLASSES, settings, **options)


def learn_by_hand(rows: Rows, settings: PromptSettings, start: LearnedContexts) -> list[Parameters]:
    """The parameters of each set after the settings' epochs, each one step with all rows, from ``start``."""
    images = normalize(torch.from_numpy(rows.features).float(), dim=-1)
    sets = [
        {"contexts": start.contexts[k].clone()} | {name: x[k].clone() for name, x in start.meta.items()}
        for k in range(settings.sets)
    ]
    steps = [{name: Step(settings) for name in one} for one in sets]
    everyone = list(range(settings.sets))
    for epoch in range(settings.epochs):
        rate = settings.rate * (1 + math.cos(math.pi * epoch / settings.epochs)) / 2
        for turn in [[k] for k in everyone] if settings.mode == "official" else [everyone]:
            for k in turn:
                for parameter in sets[k].values():
                    parameter.requires_grad_()
            loss = _loss(sets, turn, images, rows.labels.tolist(), settings)
            moving = [(k, name) for k in turn for name in sets[k]]
            gradients = torch.autograd.grad(loss, [sets[k][name] for k, name in moving])
            for (k, name), gradient in zip(moving, gradients, strict=True):
                sets[k][name] = steps[k][name].take(sets[k][name].detach(), gradient, rate)
    return sets


def _loss(
    sets: list[Parameters], turn: list[int], images: Tensor, labels: Sequence[int], settings: PromptSettings
) -> Tensor:
    """The mean over images of Eq. 4 or Eq. 8, or of what the authors' code has in its place."""
    total = torch.zeros(())
    official = settings.mode == "official"
    for image, label in zip(images, labels, strict=True):
        text = [_text(one, image, settings) for one in sets]
        for k in turn:
            cosine = text[k] @ image
            logits = cosine / 0.01 if settings.kind == "positive" else (1 - cosine) / 0.05
            if official:
                logits = logits.softmax(-1)
            total = total - logits.log_softmax(-1)[label]
        if settings.kind == "negative" and official:  # the mean of cos to the other sets, as they are now
            (k,) = turn
            others = [text[j].detach() for j in range(len(sets)) if j != k]
            cosines = [(text[k] * other).sum(-1).mean() for other in others]
            total = total + settings.weight * sum(cosines) / len(cosines)
        elif settings.kind == "negative":  # lambda x Eq. 7
            pairs = [(i, j) for j in range(len(sets)) for i in range(j)]
            total = total + settings.weight * sum((text[i] * text[j]).sum(-1).abs().sum() for i, j in pairs)
    return total / len(labels)


def _text(one: Parameters, image: Tensor, settings: PromptSettings) -> Tensor:
    """Unit text features (C, D) of a set's prompts for an image."""
    context = one["contexts"]
    if settings.learner == "cocoop":
        hidden = (one["hidden.weight"] @ image + one["hidden.bias"]).relu()
        context = context + one["out.weight"] @ hidden + one["out.bias"]
    layout = context_layout(VOCABULARY, CLASSES, settings.length, specific=settings.kind == "negative")
    return plain_features(weights(), layout, context[None])[0]


class Step:
    """SGD with momentum and weight decay for positive prompts, Adam for negative ones."""

    def __init__(self, settings: PromptSettings) -> None:
        self.adam, self.count = settings.optimizer == "adam", 0
        self.velocity, self.square = torch.zeros(()), torch.zeros(())

    def take(self, value: Tensor, gradient: Tensor, rate: float) -> Tensor:
        self.count += 1
        if not self.adam:
            self.velocity = 0.9 * self.velocity + gradient + 5e-4 * value
            return value - rate * self.velocity
        self.velocity = 0.9 * self.velocity + 0.1 * gradient
        self.square = 0.999 * self.square + 0.001 * gradient**2
        mean, square = self.velocity / (1 - 0.9**self.count), self.square / (1 - 0.999**self.count)
        return value - rate * mean / (square.sqrt() + 1e-8)
