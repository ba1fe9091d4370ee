"""From what a head is made of to a head: fixed text as it is, CoCoOp prompts bound to the text tower."""

from collections.abc import Callable
from functools import cache

import torch

from lsncli.artefacts.prompts import Conditional, HeadSource, HeadText
from lsncli.backbones import Backbone, with_text
from lsncli.prompts.conditional import conditional_cosines
from lsncli.prompts.layout import context_layout
from lsncli.prompts.tower import TextTower
from lsncli.scores.common import check_features
from lsncli.types import Cosines, Float64s, Floats, Head

Model = Callable[[], Backbone]
"""How to get the model that made the features; asked only where a head needs its text tower."""


def head_from(source: HeadSource, model: Model) -> Head:
    """The head of a detector; ``model`` is asked for only if its prompts depend on the image."""
    tower = cache(lambda: with_text(model()).text_tower())
    return assembled(source, lambda text, ensemble: bound(text, source.classes, tower, ensemble=ensemble))


def assembled(source: HeadSource, bind: Callable[[HeadText, bool], Float64s | Cosines]) -> Head:
    """Several positive prompts of a class are an ensemble; sets of negative ones stay apart."""
    negative = None if source.negative is None else bind(source.negative, False)
    return Head(source.classes, bind(source.weights, True), source.scale, negative, source.bias)


def bound(
    text: HeadText, classes: tuple[str, ...], tower: Callable[[], TextTower], *, ensemble: bool
) -> Float64s | Cosines:
    """Text features as they are; CoCoOp prompts bound to the text tower, as a function to cosines.

    The function remembers its last answer: to score the same rows by several methods, and to name their
    classes, costs one text pass an image.
    """
    if not isinstance(text, Conditional):
        return text
    settings, frozen = text.settings, tower()
    layout = context_layout(
        frozen.vocabulary,
        classes,
        text.contexts.shape[-2],
        position=settings["position"],
        names=settings["names"],
        specific=text.contexts.ndim == 4,
    )
    meta = {name: torch.from_numpy(array) for name, array in text.meta.items()}
    compute = conditional_cosines(frozen, torch.from_numpy(text.contexts), meta, layout, ensemble=ensemble)
    return _Remembering(compute, text.meta["hidden.weight"].shape[-1])


class _Remembering:
    """Cosines of checked features (N, ``dim``); asked twice for the same array, it computes once."""

    def __init__(self, compute: Cosines, dim: int) -> None:
        self._compute, self._dim = compute, dim
        self._last: tuple[Floats, Float64s] | None = None

    def __call__(self, features: Floats) -> Float64s:
        if self._last is None or self._last[0] is not features:
            check_features(features, self._dim)
            found = self._compute(features)
            found.flags.writeable = False
            self._last = features, found
        return self._last[1]
