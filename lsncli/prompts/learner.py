"""Train prompts, positive or negative, CoOp or CoCoOp, any number of sets, in one loop.

CoOp: Zhou et al., "Learning to prompt for vision-language models", IJCV 2022; CoCoOp: "Conditional prompt
learning for vision-language models", CVPR 2022; both on stored features, without augmentation, as in LSN's
Appendix D.

Positive prompts minimise Eq. 4. K sets of negative prompts minimise Eq. 8: in the paper (Algorithm 1) all
sets in every step, the sum of their Eq. 5 losses plus lambda times Eq. 7; in the authors' code they take
turns within an epoch, while the text features of the others are fixed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from lsncli.console import ProgressCallback, silent
from lsncli.device import memory_for, seeded
from lsncli.memory import memory_errors
from lsncli.prompts.cocoop import META, conditioned, shift
from lsncli.prompts.layout import PromptLayout, TextTower, context_layout
from lsncli.prompts.loop import Checkpoint, batches, make_optimizer, rate_at, restore, run_epoch, snapshot
from lsncli.prompts.settings import PromptSettings, classification, logits, orthogonality
from lsncli.prompts.text_features import Bounded, bounded, new_contexts
from lsncli.types import Float64Array, Rows, unit

MEMORY = 4 << 30
"""Bytes that the text pass of a step may save for its gradient before it is split into chunks, on a CPU."""
CARD_SHARE = 0.5
"""The same on CUDA, as a share of the card's memory."""

Objective = Callable[[Tensor, Tensor], Tensor]
"""Logits (K, B, C) of all sets and labels (B,) to the loss of a batch."""

META_REDUCTION = 16
"""CoCoOp's meta-net has a hidden layer of D / 16."""


@dataclass(frozen=True)
class LearnedContexts:
    """Learned contexts and their text features."""

    contexts: Tensor
    """(K, M, W), or (K, C, M, W) class-specific; float32 on the CPU."""
    meta: dict[str, Tensor]
    """CoCoOp's K meta-nets (``cocoop.META``); empty for CoOp."""
    text: Float64Array | None
    """Unit text features (K, C, D); None for CoCoOp, where they depend on the image."""
    history: tuple[float, ...]
    """Mean training loss of each epoch."""


@memory_errors(
    "a step of the training",
    "Use a smaller --batch-size, fewer --sets or --device cpu. Finished epochs are kept.",
)
def learn(
    tower: TextTower,
    rows: Rows,
    classes: Sequence[str],
    settings: PromptSettings,
    *,
    objective: Objective | None = None,
    memory: int = 0,
    progress: ProgressCallback = silent,
    resume: Checkpoint | None = None,
    on_epoch: Callable[[Checkpoint], None] | None = None,
) -> LearnedContexts:
    """Train prompts on labelled rows; deterministic for a seed on one machine, resumed or not.

    ``objective`` replaces the cross-entropy of Eq. 4 and 5. ``memory`` is that of ``step_memory``.
    ``progress`` is called once a step, ``on_epoch`` with the state after every epoch. Raises LsnError for
    invalid rows, prompts that are too long, divergence or too little memory for the smallest chunk,
    UsageError for incompatible settings.
    """
    memory = step_memory(tower.device, memory)
    generator = seeded(settings.seed)
    layout = settings_layout(tower, classes, settings)
    sets = _new_sets(tower, layout, rows.features.shape[1], settings, generator, memory)
    data = batches(rows, len(classes), settings.batch_size, generator, tower.device)
    optimizer = make_optimizer(list(sets.named().values()), settings)
    history: tuple[float, ...] = ()
    if resume is not None:
        restore(resume, sets.named(), optimizer, generator)
        history = resume.history
        progress(len(history) * steps(len(rows), settings) // settings.epochs, "resumed")
    all_sets = range(settings.sets)
    turns = [(k,) for k in all_sets] if settings.turns else [tuple(all_sets)]
    fit = objective or partial(classification, double_softmax=settings.double_softmax)
    for epoch in range(len(history), settings.epochs):
        for group in optimizer.param_groups:
            group["lr"] = rate_at(epoch, settings)
        losses = [
            run_epoch(data, optimizer, _loss(sets, turn, settings, fit), progress, sets.encode.halve)
            for turn in turns
        ]
        history = (*history, sum(losses) / len(losses))
        if on_epoch is not None:
            on_epoch(snapshot(sets.named(), optimizer, generator, history))
    with torch.no_grad():
        text = None if sets.conditional else as_units(sets.features(all_sets))
    learned = {name: sets.stacked(name, all_sets).detach().cpu() for name in sets.parameters}
    return LearnedContexts(learned.pop("contexts"), learned, text, history)


def step_memory(device: torch.device, requested: int = 0) -> int:
    """Return the bytes for the text pass of a step: ``requested``, or for 0 what suits the device."""
    return requested or memory_for(device, MEMORY, CARD_SHARE)


def settings_layout(tower: TextTower, classes: Sequence[str], settings: PromptSettings) -> PromptLayout:
    """Return the prompt layout of ``settings``."""
    return context_layout(
        tower.vocabulary,
        classes,
        settings.length,
        position=settings.position,
        names=settings.names,
        specific=settings.specific,
    )


def steps(rows: int, settings: PromptSettings) -> int:
    """Return the number of steps of ``learn``, for a progress bar."""
    turns = settings.sets if settings.turns else 1
    return settings.epochs * turns * -(-rows // settings.batch_size)


def as_units(text: Tensor) -> Float64Array:
    """Return text features as float64 unit rows on the CPU."""
    return unit(text.detach().cpu().double().numpy())


@dataclass(frozen=True)
class _Sets:
    """The parameters of K sets of prompts, each a separate leaf, so that sets can be trained in turns."""

    parameters: dict[str, list[Tensor]]
    encode: Bounded

    @property
    def conditional(self) -> bool:
        return len(self.parameters) > 1

    def named(self) -> dict[str, Tensor]:
        return {f"{name}.{k}": x for name, each in self.parameters.items() for k, x in enumerate(each)}

    def stacked(self, name: str, which: Sequence[int]) -> Tensor:
        return torch.stack([self.parameters[name][k] for k in which])

    def features(self, which: Sequence[int], images: Tensor | None = None) -> Tensor:
        """Return unit text features (k, C, D), or (k, B, C, D) if they depend on unit images (B, D)."""
        contexts = self.stacked("contexts", which)
        if not self.conditional or images is None:
            return self.encode(contexts)
        meta = {name: self.stacked(name, which) for name in META}
        return torch.unflatten(self.encode(conditioned(contexts, shift(meta, images))), 0, (len(which), -1))


def _new_sets(
    tower: TextTower,
    layout: PromptLayout,
    dim: int,
    settings: PromptSettings,
    generator: torch.Generator,
    memory: int,
) -> _Sets:
    classes = len(layout.prompts)
    shape = (settings.sets, *((classes,) if settings.specific else ()), settings.length)
    start = {"contexts": new_contexts(tower.vocabulary, shape, settings.init, generator)}
    if settings.learner == "cocoop":
        start |= _new_meta(settings.sets, dim, tower.vocabulary.width, generator)
    parameters = {
        name: [tensor.to(tower.device).clone().requires_grad_() for tensor in tensors]
        for name, tensors in start.items()
    }
    return _Sets(parameters, bounded(tower, layout, memory))


def _new_meta(sets: int, dim: int, width: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Initialise K two-layer networks, uniform within 1 / sqrt(inputs) as torch's linear layers."""
    hidden = max(1, dim // META_REDUCTION)
    shapes = {
        "hidden.weight": (hidden, dim),
        "hidden.bias": (hidden,),
        "out.weight": (width, hidden),
        "out.bias": (width,),
    }
    bounds = {name: (dim if name.startswith("hidden") else hidden) ** -0.5 for name in shapes}
    return {
        name: (2 * torch.rand(sets, *shape, generator=generator) - 1) * bounds[name]
        for name, shape in shapes.items()
    }


def _loss(
    sets: _Sets, turn: Sequence[int], settings: PromptSettings, objective: Objective
) -> Callable[[Tensor, Tensor], Tensor]:
    """Return Eq. 4 or Eq. 8 as a function of a batch; sets that are not in ``turn`` are constants."""
    others = [k for k in range(settings.sets) if k not in turn] if settings.weight else []
    fixed: Tensor | None = None
    if others and not sets.conditional:
        with torch.no_grad():
            fixed = sets.features(others)

    def loss_of(images: Tensor, labels: Tensor) -> Tensor:
        text = sets.features(turn, images)
        fit = objective(logits(images, text, settings.kind, settings.tau), labels)
        if not settings.weight:
            return fit
        if not others:
            return fit + settings.weight * orthogonality(text, settings.orthogonality)
        with torch.no_grad():
            rest = sets.features(others, images) if fixed is None else fixed
        combined = torch.cat([text, rest])
        return fit + settings.weight * orthogonality(combined, settings.orthogonality, own=0)

    return loss_of
