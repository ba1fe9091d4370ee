"""Learn negative prompts: K sets of class-specific contexts (Eq. 5-8).

In ``paper`` mode all sets share every step (Algorithm 1): the sum of their Eq. 5 losses plus lambda times
Eq. 7. In ``official`` mode they take turns inside an epoch, each with an optimiser of its own, while the text
features of the others stay as they were.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from lsncli.console import Tick, silent
from lsncli.device import seeded
from lsncli.prompts.contexts import new_context, prompt_features, slots
from lsncli.prompts.loop import Batches, Learned, as_units, batches, cosine, run_epoch, train
from lsncli.prompts.losses import negative_loss, official_orthogonality, orthogonality
from lsncli.prompts.settings import NegativeSettings
from lsncli.prompts.tower import TextTower
from lsncli.types import Rows

Encode = Callable[[Tensor], Tensor]
"""A context (C, M, W) -> unit text features (C, D)."""


def learn_negative(
    tower: TextTower, rows: Rows, classes: Sequence[str], settings: NegativeSettings, tick: Tick = silent
) -> Learned:
    """Learn ``context`` (K, C, M, W) on labelled rows; deterministic for a seed on one machine.

    ``tick`` is called once a step: epochs x batches, times K in official mode. Raises LsnError for bad
    rows, too long prompts or divergence.
    """
    generator = seeded(settings.seed)
    encode = partial(prompt_features, tower, slots(tower, classes, settings.length))
    start = new_context((settings.sets, len(classes), settings.length, tower.width), generator)
    contexts = [context.to(tower.device).requires_grad_() for context in start]
    data = batches(rows, len(classes), settings.batch_size, generator, tower.device)
    learn = {"paper": _jointly, "official": _in_turns}[settings.mode]
    history = learn(encode, contexts, data, settings, tick)
    with torch.no_grad():
        text = torch.stack([encode(context) for context in contexts])
    return Learned(torch.stack(contexts).detach().cpu(), as_units(text), history)


def negative_steps(rows: int, settings: NegativeSettings) -> int:
    """How many steps ``learn_negative`` takes, for a progress bar."""
    turns = settings.sets if settings.mode == "official" else 1
    return settings.epochs * turns * -(-rows // settings.batch_size)


def _jointly(
    encode: Encode, contexts: list[Tensor], data: Batches, settings: NegativeSettings, tick: Tick
) -> tuple[float, ...]:
    def loss_of(images: Tensor, labels: Tensor) -> Tensor:
        sets = torch.stack([encode(context) for context in contexts])
        fit = torch.stack([negative_loss(images, text, labels, "paper") for text in sets]).sum()
        return fit + settings.weight * orthogonality(sets)

    return train(data, torch.optim.Adam(contexts, lr=settings.rate), settings.epochs, loss_of, tick)


def _in_turns(
    encode: Encode, contexts: list[Tensor], data: Batches, settings: NegativeSettings, tick: Tick
) -> tuple[float, ...]:
    optimizers = [torch.optim.Adam([context], lr=settings.rate) for context in contexts]
    schedules = [cosine(optimizer, settings.epochs) for optimizer in optimizers]
    with torch.no_grad():
        sets = torch.stack([encode(context) for context in contexts])

    def loss_against(others: Tensor, context: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        def loss_of(images: Tensor, labels: Tensor) -> Tensor:
            text = encode(context)
            fit = negative_loss(images, text, labels, "official")
            return fit + settings.weight * official_orthogonality(text, others)

        return loss_of

    history = []
    for _ in range(settings.epochs):
        losses = []
        for k, context in enumerate(contexts):
            others = torch.cat([sets[:k], sets[k + 1 :]])
            losses.append(run_epoch(data, optimizers[k], loss_against(others, context), tick))
            schedules[k].step()
            with torch.no_grad():
                sets[k] = encode(context)
        history.append(sum(losses) / len(losses))
    return tuple(history)
