"""Settings, presets and losses of prompt learning (Eq. 3-8 of the paper).

Presets: the paper, the authors' code, and two of our own. Losses: as in the paper and as in the authors'
code.

LSN: Nie et al., "Out-of-Distribution Detection with Negative Prompts", ICLR 2024; code: junz-debug/lsn.
The two differ (docs/decisions/0003-two-modes.md):

* the paper takes the cross-entropy of one softmax; the code passes the softmax to a cross-entropy that
  applies a second one, so that its loss never falls below log(1 + (C - 1) / e);
* the paper sums |cos| over classes and pairs of sets (Eq. 7); the code takes a mean of signed cosines.
"""

from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from lsncli.errors import UsageError, did_you_mean
from lsncli.prompts.layout import Position

Kind = Literal["positive", "negative"]
Orthogonality = Literal["sum", "mean", "signed"]


def logits(images: Tensor, text: Tensor, kind: Kind, tau: float) -> Tensor:
    """Return the logits (K, B, C) of Eq. 3 (positive: cos / tau) or Eq. 6 (negative: (1 - cos) / tau).

    ``images`` (B, D) and ``text``, unit: (K, C, D), or (K, B, C, D) where prompts depend on the image
    (CoCoOp).
    """
    form = "bd,kcd->kbc" if text.ndim == 3 else "bd,kbcd->kbc"
    cosines = torch.einsum(form, images, text)
    return (cosines if kind == "positive" else 1 - cosines) / tau


def classification(logits: Tensor, labels: Tensor, *, double_softmax: bool) -> Tensor:
    """Return Eq. 4 and 5: cross-entropy of ``logits`` (K, B, C), mean over images, summed over sets.

    ``labels`` are (B,). A negative loss is small when the negative prompt of an image's own class matches
    the image least of all.
    """
    values = logits.softmax(-1) if double_softmax else logits
    return torch.stack([cross_entropy(of_set, labels) for of_set in values]).sum()


def orthogonality(text: Tensor, form: Orthogonality, own: int | None = None) -> Tensor:
    """Return Eq. 7 over pairs i < j of K sets of unit text features (K, ..., C, D); 0 for one set.

    "sum": sum over classes and pairs of |cos|, as the paper writes it; "mean": the mean over classes and
    pairs of |cos|; "signed": the mean of cos, as in the code. With ``own`` only that set's
    pairs count. Image-conditional features (K, B, C, D) are averaged over the B images.
    """
    count = len(text)
    if count < 2:
        return text.new_zeros(())
    pairs = [(i, j) for i in range(count) for j in range(i + 1, count) if own in (None, i, j)]
    first, second = (list(side) for side in zip(*pairs, strict=True))
    cosines = (text[first] * text[second]).sum(-1)
    if form == "signed":
        return cosines.mean()
    mean = cosines.abs().mean()
    return mean if form == "mean" else mean * (len(pairs) * text.shape[-2])


Mode = Literal["paper", "official", "fast", "best"]
MODES: tuple[Mode, ...] = get_args(Mode)
Learner = Literal["coop", "cocoop"]


@dataclass(frozen=True)
class PromptSettings:
    """The settings of prompt learning: all that it depends on except tower, rows and classes.

    The defaults are CoOp's positive prompts as in Appendix D of the paper.
    """

    kind: Kind = "positive"
    mode: Mode = "paper"
    """The preset that these settings started from."""
    learner: Learner = "coop"
    """``cocoop`` shifts every context vector by a small network of the image features."""
    sets: int = 1
    """K, the number of prompts for every class."""
    specific: bool = False
    """Whether every class has its own context, or all share one."""
    names: bool = True
    position: Position = "end"
    """The position of the class name."""
    length: int = 16
    """M, the number of vectors in a context."""
    init: str = ""
    """Words whose embeddings initialise contexts; empty for random vectors."""
    tau: float = 0.01
    """Temperature of Eq. 3 or Eq. 6."""
    double_softmax: bool = False
    weight: float = 0.0
    """Lambda of Eq. 8, the weight of the orthogonality term."""
    orthogonality: Orthogonality = "sum"
    turns: bool = False
    """Whether sets are trained one after the other within an epoch, not all in every step."""
    optimizer: Literal["sgd", "adam"] = "sgd"
    rate: float = 0.002
    momentum: float = 0.9
    """SGD's."""
    weight_decay: float = 5e-4
    """SGD's."""
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: int = 0
    """Epochs at the rate 1e-5 before the schedule."""
    epochs: int = 50
    batch_size: int = 8
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Of the frozen text tower; contexts and losses are always float32."""
    seed: int = 0
    score: dict[str, Any] = field(default_factory=dict)
    """Settings of the LSN score for these negative prompts that are not its defaults."""


_POSITIVE = PromptSettings()
_NEGATIVE = PromptSettings(
    kind="negative", sets=3, specific=True, tau=0.05, weight=0.1, optimizer="adam", rate=0.001, epochs=100
)

_FAST_POSITIVE = replace(_POSITIVE, mode="fast", batch_size=128, rate=0.03)
_FAST_NEGATIVE = replace(_NEGATIVE, mode="fast", batch_size=128, rate=0.01)

PRESETS: dict[Kind, dict[Mode, PromptSettings]] = {
    "positive": {
        "paper": _POSITIVE,
        "official": replace(_POSITIVE, mode="official", double_softmax=True, rate=0.001),
        "fast": _FAST_POSITIVE,
        "best": replace(_FAST_POSITIVE, mode="best"),
    },
    "negative": {
        "paper": _NEGATIVE,
        "official": replace(
            _NEGATIVE,
            mode="official",
            double_softmax=True,
            weight=1.0,
            orthogonality="signed",
            turns=True,
            rate=0.002,
            score={"form": "official"},
        ),
        "fast": _FAST_NEGATIVE,
        "best": replace(_FAST_NEGATIVE, mode="best", score={"form": "logit", "tau_bar": 5.0}),
    },
}
"""Appendix D of the paper, the authors' code, and ours: docs/decisions/0011 says how they were chosen."""

_COCOOP: dict[Kind, dict[str, Any]] = {"positive": {"length": 4}, "negative": {}}
_COCOOP_SCHEDULE: dict[str, Any] = {"epochs": 10, "batch_size": 1}
"""Appendix D: positive contexts of 4 vectors; 10 epochs of single images."""


def preset(kind: Kind, mode: str = "paper", learner: str = "coop", **options: Any) -> PromptSettings:
    """Return the settings of a preset with every option that is not None replaced.

    Raises UsageError for an unknown name or an invalid value.
    """
    _check_choice("mode", mode, MODES)
    _check_choice("learner", learner, get_args(Learner))
    settings = next(values for name, values in PRESETS[kind].items() if name == mode)
    if learner == "cocoop":
        settings = replace(settings, learner="cocoop", **_COCOOP[kind], **_COCOOP_SCHEDULE)
    changed = replace(settings, **{name: value for name, value in options.items() if value is not None})
    check(changed)
    return changed


def check(settings: PromptSettings) -> None:
    """Raise UsageError for an invalid value."""
    for name, kind in get_type_hints(PromptSettings).items():
        if get_origin(kind) is Literal:
            _check_choice(name, getattr(settings, name), get_args(kind))
    for name in ("length", "epochs", "batch_size", "rate", "sets", "tau"):
        value = getattr(settings, name)
        if not 0 < value < float("inf"):
            raise UsageError(f"{_option(name)}: expected a number above zero, found {value}.")
    for name in ("weight", "warmup", "weight_decay", "momentum"):
        value = getattr(settings, name)
        if not 0 <= value < float("inf"):
            raise UsageError(f"{_option(name)}: expected zero or a number above it, found {value}.")
    if settings.warmup >= settings.epochs:
        raise UsageError(
            f"--warmup: expected fewer than the {settings.epochs} epochs, found {settings.warmup}."
        )


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UsageError(
            f"{_option(name)}: expected one of {', '.join(choices)}, found '{value}'.",
            did_you_mean(value, choices),
        )


def _option(name: str) -> str:
    """Return the command-line option of a field."""
    return "--context-length" if name == "length" else f"--{name.replace('_', '-')}"
