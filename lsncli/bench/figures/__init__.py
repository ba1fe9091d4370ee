"""The figures of the paper that can be computed, one module each."""

from typing import TYPE_CHECKING

from lsncli.errors import UsageError
from lsncli.registry import load

if TYPE_CHECKING:
    from lsncli.bench.figures.request import FigureResult, Request

FIGURES = {
    2: "lsncli.bench.figures.saliency:draw",
    3: "lsncli.bench.figures.choices:draw",
    4: "lsncli.bench.figures.choices:draw",
    5: "lsncli.bench.figures.toy:draw",
    7: "lsncli.bench.figures.shots:draw",
    8: "lsncli.bench.figures.choices:draw",
    9: "lsncli.bench.figures.counts:draw",
    10: "lsncli.bench.figures.counts:draw",
    11: "lsncli.bench.figures.counts:draw",
    12: "lsncli.bench.figures.counts:draw",
}
"""By number: a function of a ``Request`` and the number that returns a ``FigureResult``."""


def check_number(number: int) -> None:
    """Raise UsageError for a figure that is not in ``FIGURES``."""
    if number not in FIGURES:
        known = ", ".join(map(str, FIGURES))
        raise UsageError(
            f"There is no figure {number} to compute: expected one of {known}.",
            "Figures 1 and 6 are drawings; they hold no numbers.",
        )


def draw_figure(number: int, request: "Request") -> "FigureResult":
    """Measure what is missing of a figure and draw it into ``request.to``.

    Raises UsageError for an unknown number, or a suite without the table of the figure; LsnError if data are
    missing.
    """
    check_number(number)
    result: FigureResult = load(FIGURES[number])(request, number)
    return result
