"""The time that learning takes is said once, from the first steps, with a clock of the test."""

import pytest

from lsncli.prompts.learner import steps
from lsncli.prompts.settings import preset
from lsncli.training.duration import announcing_training, describe_duration

ROWS = 512


def announced(settings, seconds_per_step: float, first: int = 0) -> list[str]:
    """Return the remarks of a training whose steps take equally long; ``first`` steps are resumed."""
    said: list[str] = []
    shown: list[int] = []
    now = 0.0

    def progress(step: int, note: str = "") -> None:
        shown.append(step)

    announce = announcing_training(progress, settings, ROWS, said.append, clock=lambda: now)
    if first:
        announce(first, "resumed")
    total = steps(ROWS, settings)
    for _ in range(total - first):
        now += seconds_per_step
        announce(1)
    assert sum(shown) == total
    return said


def test_a_long_training_is_announced_once_with_what_is_left() -> None:
    best = preset("positive", "best")  # 50 epochs of 4 steps
    assert announced(best, 0.6) == ["This takes about 2 min (197 steps)."]
    assert announced(best, 3.0, first=100) == ["This takes about 5 min (99 steps)."]


def test_a_short_training_is_not_announced() -> None:
    assert announced(preset("positive", "best"), 0.04) == []


@pytest.mark.parametrize(("mode", "left"), [("paper", 6400), ("official", 3 * 6400)])
def test_the_papers_schedule_names_the_quicker_preset(mode: str, left: int) -> None:
    settings = preset("negative", mode)
    assert steps(ROWS, settings) == left
    text = describe_duration(settings, ROWS, left, 600.0)
    # 6400 steps of three sets, against 100 epochs of four steps of three sets: a sixteenth.
    assert text == f"This takes about 10 min ({left:,} steps). With --mode best it is about 38 s."


def test_no_other_preset_is_named_where_it_is_not_quicker() -> None:
    for settings in (
        preset("negative", "best"),
        preset("negative", "best", epochs=1000),
        preset("negative", "fast"),
        preset("positive", "paper", learner="cocoop"),
    ):
        assert "--mode" not in describe_duration(settings, ROWS, steps(ROWS, settings), 600.0)
    nearly_done = preset("negative", "paper")
    assert "--mode" not in describe_duration(nearly_done, ROWS, 100, 20.0)
