"""Say how long learning prompts takes, measured on its first steps."""

import time
from collections.abc import Callable
from dataclasses import replace

from lsncli.console import ProgressCallback, announcing, duration
from lsncli.prompts.learner import steps
from lsncli.prompts.settings import PromptSettings, preset


def announcing_training(
    progress: ProgressCallback,
    settings: PromptSettings,
    rows: int,
    remark: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
) -> ProgressCallback:
    """Return ``progress`` for ``learner.learn`` on ``rows`` rows that also gives ``remark`` an estimate."""

    def announce(left: int, seconds: float) -> None:
        remark(describe_duration(settings, rows, left, seconds))

    return announcing(progress, steps(rows, settings), announce, clock)


def describe_duration(settings: PromptSettings, rows: int, steps_left: int, seconds: float) -> str:
    """Return a sentence about the time that is left, and one about the preset ``best`` if it is far quicker.

    ``seconds`` are those of ``steps_left`` steps with ``settings``.
    """
    text = f"This takes about {duration(seconds)} ({steps_left:,} steps)."
    quicker = preset(settings.kind, "best", settings.learner, sets=settings.sets)
    share = text_passes(quicker, rows) / text_passes(settings, rows)
    whole = seconds * steps(rows, settings) / steps_left
    if settings.mode != "best" and 2 * share * whole < seconds:
        text += f" With --mode best it is about {duration(share * whole)}."
    return text


def text_passes(settings: PromptSettings, rows: int) -> int:
    """Return the passes of a set of prompts through the text tower, which take most of the time."""
    whole = replace(settings, turns=False)  # taking turns, each step has the pass of one set
    passes = steps(rows, whole) * settings.sets
    return passes * settings.batch_size if settings.learner == "cocoop" else passes
