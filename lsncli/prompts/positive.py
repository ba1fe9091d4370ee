"""Learn positive prompts: CoOp, one context shared by all classes (Eq. 2-4).

Zhou et al., "Learning to prompt for vision-language models", IJCV 2022, on stored features: no
augmentation and no warm-up, as in LSN's Appendix D.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from lsncli.console import Tick, silent
from lsncli.device import seeded
from lsncli.prompts.contexts import new_context, prompt_features, slots
from lsncli.prompts.loop import Learned, as_units, batches, train
from lsncli.prompts.losses import positive_loss
from lsncli.prompts.settings import PositiveSettings
from lsncli.prompts.tower import TextTower
from lsncli.types import Rows


def learn_positive(
    tower: TextTower, rows: Rows, classes: Sequence[str], settings: PositiveSettings, tick: Tick = silent
) -> Learned:
    """Learn ``context`` (M, W) on labelled rows; deterministic for a seed on one machine.

    ``tick`` is called once a step. Raises LsnError for bad rows, too long prompts or divergence.
    """
    generator = seeded(settings.seed)
    encode = partial(prompt_features, tower, slots(tower, classes, settings.length))
    start = new_context((settings.length, tower.width), generator)
    context = start.to(tower.device).requires_grad_()
    data = batches(rows, len(classes), settings.batch_size, generator, tower.device)
    optimizer = torch.optim.SGD(
        [context], lr=settings.rate, momentum=settings.momentum, weight_decay=settings.weight_decay
    )

    def loss_of(images: Tensor, labels: Tensor) -> Tensor:
        return positive_loss(images, encode(context), labels, settings.mode)

    history = train(data, optimizer, settings.epochs, loss_of, tick)
    with torch.no_grad():
        text = encode(context)
    return Learned(context.detach().cpu(), as_units(text), history)


def positive_steps(rows: int, settings: PositiveSettings) -> int:
    """How many steps ``learn_positive`` takes, for a progress bar."""
    return settings.epochs * -(-rows // settings.batch_size)
