"""The settings of both learners, with the defaults of the paper and of the authors' code."""

from dataclasses import dataclass, replace
from typing import Any, TypeVar

from lsncli.errors import UsageError
from lsncli.prompts.losses import MODES, Mode


@dataclass(frozen=True)
class PositiveSettings:
    """CoOp: one context shared by all classes, SGD, Eq. 4. Defaults: Appendix D of the paper."""

    mode: Mode = "paper"
    length: int = 16
    epochs: int = 50
    batch_size: int = 8
    rate: float = 0.002
    momentum: float = 0.9
    weight_decay: float = 5e-4
    seed: int = 0


@dataclass(frozen=True)
class NegativeSettings:
    """K sets of class-specific contexts, Adam, Eq. 8. Defaults: section 4.2 and Appendix D of the paper."""

    mode: Mode = "paper"
    length: int = 16
    epochs: int = 100
    batch_size: int = 8
    rate: float = 0.001
    sets: int = 3
    weight: float = 0.1
    """Lambda of Eq. 8, the weight of the orthogonality term."""
    seed: int = 0


POSITIVE: dict[str, PositiveSettings] = {
    "paper": PositiveSettings(),
    "official": PositiveSettings(mode="official", rate=0.001),
}
NEGATIVE: dict[str, NegativeSettings] = {
    "paper": NegativeSettings(),
    "official": NegativeSettings(mode="official", rate=0.002, weight=1.0),
}

S = TypeVar("S", PositiveSettings, NegativeSettings)


def choose(presets: dict[str, S], mode: str, **given: float | int | None) -> S:
    """The preset of ``mode`` with every given (not None) value in place of its own.

    Raises UsageError for an unknown mode or a value that cannot be meant.
    """
    if mode not in presets:
        raise UsageError(f"--mode: expected one of {', '.join(MODES)}, found '{mode}'.")
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    settings = replace(presets[mode], **changes)
    for name in ("length", "epochs", "batch_size", "rate", "sets"):
        value = getattr(settings, name, 1)
        if not 0 < value < float("inf"):
            raise UsageError(f"--{name.replace('_', '-')}: expected a number above zero, found {value}.")
    weight = getattr(settings, "weight", 0.0)
    if not 0 <= weight < float("inf"):
        raise UsageError(f"--weight: expected zero or a number above it, found {weight}.")
    return settings
