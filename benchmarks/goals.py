"""Rows of a measured figure and its goal, and their table."""

import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from io import StringIO
from typing import Any, Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

Sense = Literal["at least", "at most"]


@dataclass(frozen=True)
class Row:
    """A measured figure.

    ``unit`` is "x" for a ratio (above 1 = faster or smaller than the plain form). ``goal`` is None for a
    figure without a goal. ``of`` names what was measured: a clock, a size, or the date of a recorded run.
    ``problem`` is the reason for a missing figure; such a row has not met its goal.
    """

    what: str
    measured: float | None
    unit: str
    goal: float | None = None
    sense: Sense = "at least"
    of: str = ""
    spread: tuple[float, float] | None = None
    problem: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None without a goal."""
        if self.problem:
            return False
        if self.goal is None or self.measured is None:
            return None
        return self.measured >= self.goal if self.sense == "at least" else self.measured <= self.goal

    @property
    def goal_text(self) -> str:
        if self.goal is None:
            return ""
        return f"{'>=' if self.sense == 'at least' else '<='} {_number(self.goal)} {self.unit}"

    @property
    def cells(self) -> tuple[str, ...]:
        """The cells of the row in the table."""
        spread = "..".join(map(_number, self.spread)) if self.spread else ""
        measured = f"{_number(self.measured)} {self.unit}" if self.measured is not None else "none"
        met = {True: "yes", False: "NO", None: ""}[self.met]
        return (self.what, self.goal_text, measured, spread, met, self.problem or self.of)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for a JSON file."""
        return asdict(self) | {"met": self.met}


def ratio(what: str, figures: dict[str, float], goal: float | None, of: str = "CPU time") -> Row:
    """Return the row of a variant that ``timing.interleaved`` measured."""
    spread = figures["lowest"], figures["highest"]
    return Row(what, figures["ratio"], "x", goal, of=of, spread=spread)


HEAD = ("what", "goal", "measured", "range", "met", "of")
WIDTH = 100
WIDEST = {"what": 34, "of": 20}
"""Columns of text, which wrap."""


def table(sections: dict[str, list[Row]]) -> str:
    """Return all sections under one head, in at most 100 columns."""
    grid = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in HEAD:
        grid.add_column(name, no_wrap=name not in WIDEST, max_width=WIDEST.get(name))
    for title, rows in sections.items():
        grid.add_row(f"{title}:")
        for row in rows:
            grid.add_row(*row.cells)
        grid.add_row()
    text = StringIO()
    Console(file=text, width=WIDTH, markup=False, highlight=False).print(grid)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def summary(rows: Iterable[Row]) -> str:
    """Return how many goals are met, and which are not."""
    goals = [row for row in rows if row.goal is not None or row.problem]
    lines = [f"{sum(row.met is True for row in goals)} of {len(goals)} goals met"]
    for words, answer in (("not met", False), ("without a figure", None)):
        if names := [row.what for row in goals if row.met is answer]:
            lines.append(f"{words}: {'; '.join(names)}")
    return "\n".join(lines)


def note(text: str) -> None:
    """Print a progress message to stderr."""
    print(text, file=sys.stderr, flush=True)


def _number(value: float) -> str:
    if value and abs(value) < 0.01:
        return f"{value:.1e}"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
