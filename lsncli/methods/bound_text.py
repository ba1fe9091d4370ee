"""Text of prompts as it is scored with: fixed features, or CoCoOp's cosines bound to the text tower.

Cosines are kept for methods and heads that share prompts and rows.
"""

from collections.abc import Callable

import torch

from lsncli.artefacts.prompts import Conditional, HeadText
from lsncli.methods.cache import digest
from lsncli.prompts.cocoop import conditional_cosines
from lsncli.prompts.layout import TextTower, context_layout
from lsncli.scores.common import check_features
from lsncli.types import CosineFunction, Float64Array, FloatArray


class RecentCosines:
    """The latest cosines with CoCoOp prompts, by what they were computed from, for heads that are made anew.

    Up to ``size`` bytes.
    """

    def __init__(self, size: int = 1 << 26) -> None:
        self._left = size
        self._found: dict[str, Float64Array] = {}

    def get(self, key: str, compute: Callable[[], Float64Array]) -> Float64Array:
        """Return the cosines of ``key``, computed if they are not kept. Read-only."""
        cosines = self._found.pop(key, None)
        if cosines is None:
            cosines = compute()
            cosines.flags.writeable = False
            self._left -= cosines.nbytes
        self._found[key] = cosines  # the latest is the last
        while self._left < 0:
            self._left += self._found.pop(next(iter(self._found))).nbytes
        return cosines


def bind_text(
    text: HeadText,
    classes: tuple[str, ...],
    tower: Callable[[], TextTower],
    *,
    ensemble: bool,
    model: str = "",
    recent: RecentCosines | None = None,
) -> Float64Array | CosineFunction:
    """Return text features as they are, and CoCoOp prompts as a function from features to cosines.

    The function caches its last result: several methods on the same rows, and the prediction of their
    classes, take one text pass per image. With ``recent`` and the digest of the ``model``, so do heads that
    are made anew for the same prompts.
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
    if recent is None:
        cosines = compute
    else:
        where = model, frozen.path, str(frozen.device), classes, ensemble
        key = digest("cosines", where, text.contexts, text.meta, settings)

        def cosines(features: FloatArray) -> Float64Array:
            return recent.get(digest(key, features), lambda: compute(features))

    return _CachedCosines(cosines, text.meta["hidden.weight"].shape[-1])


class _CachedCosines:
    """Cosines of checked features (N, ``dim``), computed once for the same array in succession."""

    def __init__(self, compute: CosineFunction, dim: int) -> None:
        self._compute, self._dim = compute, dim
        self._last: tuple[FloatArray, Float64Array] | None = None

    def __call__(self, features: FloatArray) -> Float64Array:
        if self._last is None or self._last[0] is not features:
            check_features(features, self._dim)
            cosines = self._compute(features)
            cosines.flags.writeable = False
            self._last = features, cosines
        return self._last[1]
