"""What is said of a selection that keeps the default: why, and how far the best is above it."""

import numpy as np
import pytest

from lsncli.report.selection_table import conclusion
from lsncli.selection.choose import choose

SPREAD = 0.04 * np.cos(3 * np.arange(10))


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (0.79 + SPREAD, "No method that was considered is better than mcm. Keeping it."),
        (0.805 + SPREAD, "No evidence that it matters: the best, knn, is 0."),
        (0.81 + SPREAD, " of AUROC above mcm (90% interval for 2 methods together). Keeping mcm."),
        (0.9 + SPREAD, "Chosen: knn, "),
    ],
)
def test_the_reason_for_the_default_is_said(other: np.ndarray, said: str) -> None:
    near = {"mcm": np.full((1, 10), 0.8), "knn": other[None]}
    assert said in conclusion(choose(near, {}, ("random",), default="mcm"))


def test_methods_at_chance_are_a_question_about_the_labels() -> None:
    near = {"mcm": 0.5 + SPREAD[None], "knn": 0.5 - SPREAD[None]}
    text = conclusion(choose(near, {}, ("random",), default="mcm"))
    assert text.startswith(
        "No method tells the images of classes that are left out from the others better than"
    )
    assert text.endswith("do the labels fit the images? Keeping mcm.")
