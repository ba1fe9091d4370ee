"""Steps of every learner, by a plain loop and by the program, from the same start on the same batch.

Each function returns steps by name, the plain one first. A step returns its loss, or its cosines.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from benchmarks.speed import learners, plain_learning
from benchmarks.speed.models import Model, contexts, images
from lsncli.prompts.cocoop import conditional_cosines
from lsncli.prompts.layout import TextTower
from lsncli.prompts.learner import settings_layout
from lsncli.prompts.settings import PromptSettings

PLAIN = "plain loop"
LARGE_BATCH = 256
AT_ONCE = 4
"""Images of a larger CoCoOp test step."""

MANY_AT_ONCE = f", {AT_ONCE} at once"

Steps = dict[str, Callable[[], Tensor]]


def images_in(name: str) -> int:
    """Return the number of images of a step, by which its time is divided."""
    return AT_ONCE if name.endswith(MANY_AT_ONCE) else 1


@dataclass(frozen=True)
class Ground:
    """Model, towers and class names that the steps use."""

    model: Model
    towers: Mapping[str, TextTower]
    """The program's towers by the name of the variant."""
    names: list[str]
    device: torch.device
    autocast: bool = False
    """Whether there is also a plain loop under autocast to float16, as in the authors' code."""

    def batch(self, size: int) -> tuple[Tensor, Tensor]:
        """Return unit images (size, D) and labels (size,)."""
        labels = torch.arange(size) % len(self.names)
        return images(size, self.model.features).to(self.device), labels.to(self.device)

    def texts(self, settings: PromptSettings) -> dict[str, plain_learning.TextPass]:
        """Return the plain text pass in float32 and, with ``autocast``, also under autocast."""
        clip, tokenizer = self.model.clip, self.model.tokenizer
        run = plain_learning.text_pass(
            clip, plain_learning.template(clip, tokenizer, self.names, settings.length)
        )
        if not self.autocast:
            return {PLAIN: run}
        half = torch.autocast(self.device.type, torch.float16)(run)
        return {PLAIN: run, f"{PLAIN}, autocast fp16": lambda context: half(context).float()}

    def start(self, settings: PromptSettings, sets: int = 1) -> Tensor:
        """Return new contexts (K, [C,] M, W), with the same values every time."""
        shape = (len(self.names), settings.length) if settings.specific else (settings.length,)
        return contexts(sets, *shape, self.model.width).to(self.device)


def _step(loop: plain_learning.Loop, batch: tuple[Tensor, Tensor]) -> Callable[[], Tensor]:
    return lambda: torch.tensor(loop.step(*batch))


def coop(on: Ground, settings: PromptSettings) -> Steps:
    """Return steps of positive prompts with one shared context; ours also with a larger batch."""
    steps: Steps = {}
    for name, text in on.texts(settings).items():
        context = on.start(settings)[0].requires_grad_()
        plain = plain_learning.coop(text, context, settings.double_softmax, settings.rate)
        steps[name] = _step(plain, on.batch(settings.batch_size))
    for size, suffix in ((settings.batch_size, ""), (LARGE_BATCH, f", batch {LARGE_BATCH}")):
        for name, tower in on.towers.items():
            ours = learners.loop(tower, on.names, settings, on.start(settings))
            steps[name + suffix] = _step(ours, on.batch(size))
    return steps


def negative(on: Ground, settings: PromptSettings) -> Steps:
    """Return steps of one set of class-specific contexts with two constant ones: the authors' form."""
    batch = on.batch(settings.batch_size)
    others = images(2 * len(on.names), on.model.features, seed=1).unflatten(0, (2, -1)).to(on.device)
    steps: Steps = {}
    for name, text in on.texts(settings).items():
        context = on.start(settings)[0].requires_grad_()
        steps[name] = _step(
            plain_learning.negative(text, context, list(others), settings.double_softmax), batch
        )
    for name, tower in on.towers.items():
        ours = learners.loop(tower, on.names, settings, on.start(settings), others=others)
        steps[name] = _step(ours, batch)
    return steps


def negative_jointly(on: Ground, settings: PromptSettings) -> Steps:
    """Return steps of all sets together: the paper's form."""
    batch = on.batch(settings.batch_size)
    separate = [one.clone().requires_grad_() for one in on.start(settings, settings.sets)]
    plain = plain_learning.negative_jointly(on.texts(settings)[PLAIN], separate, settings.weight)
    steps = {PLAIN: _step(plain, batch)}
    for name, tower in on.towers.items():
        ours = learners.loop(tower, on.names, settings, on.start(settings, settings.sets))
        steps[name] = _step(ours, batch)
    return steps


def _meta(on: Ground) -> torch.nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return plain_learning.meta_net(on.model.features, on.model.width).to(on.device)


def cocoop(on: Ground, settings: PromptSettings) -> Steps:
    """Return CoCoOp's training steps: a text pass for the one image of the batch."""
    batch, meta = on.batch(settings.batch_size), _meta(on)
    ours = {
        name: learners.loop(tower, on.names, settings, on.start(settings), meta=learners.as_tensors(meta))
        for name, tower in on.towers.items()
    }
    plain = {
        name: plain_learning.cocoop(text, on.start(settings)[0].requires_grad_(), copy.deepcopy(meta))
        for name, text in on.texts(settings).items()
    }
    return {name: _step(loop, batch) for name, loop in (plain | ours).items()}


def cocoop_test(on: Ground, settings: PromptSettings) -> Steps:
    """Return CoCoOp's test steps: cosines of one image or of several at once with all classes.

    A step returns those of the first image.
    """
    several = images(AT_ONCE, on.model.features)
    meta, context = _meta(on).requires_grad_(False), on.start(settings)

    @torch.no_grad()
    def plain(text: plain_learning.TextPass) -> Tensor:
        return plain_learning.conditional_cosines(text, context[0], meta, several[:1].to(on.device))[0]

    steps: Steps = {name: partial(plain, text) for name, text in on.texts(settings).items()}
    for name, tower in on.towers.items():
        layout = settings_layout(tower, on.names, settings)
        cosines = conditional_cosines(tower, context, learners.as_tensors(meta), layout)
        for size, suffix in ((1, ""), (AT_ONCE, MANY_AT_ONCE)):
            rows = several[:size].numpy()
            steps[name + suffix] = lambda of=cosines, rows=rows: torch.from_numpy(of(rows)[0, 0])
    return steps
