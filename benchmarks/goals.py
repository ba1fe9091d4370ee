"""A measured figure beside its goal, and many of them as one table."""

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
    """One figure.

    ``unit`` is "x" for a ratio (above 1 = faster or smaller than the plain form). ``goal`` None: there is
    none, the figure is for orientation. ``of`` says what it is a figure of: a clock, a size, or the date of a
    recorded run. ``problem``: why there is no figure; such a row has met no goal.
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
        """Whether the goal was reached; None without a goal."""
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
        """What the table shows."""
        spread = "..".join(map(_number, self.spread)) if self.spread else ""
        measured = f"{_number(self.measured)} {self.unit}" if self.measured is not None else "none"
        met = {True: "yes", False: "NO", None: ""}[self.met]
        return (self.what, self.goal_text, measured, spread, met, self.problem or self.of)

    def as_dict(self) -> dict[str, Any]:
        """For a JSON file."""
        return asdict(self) | {"met": self.met}


def ratio(what: str, figures: dict[str, float], goal: float | None, of: str = "CPU time") -> Row:
    """A row from what ``timing.interleaved`` found for a variant."""
    spread = figures["lowest"], figures["highest"]
    return Row(what, figures["ratio"], "x", goal, of=of, spread=spread)


HEAD = ("what", "goal", "measured", "range", "met", "of")
WIDTH = 100
WIDEST = {"what": 34, "of": 20}
"""Columns of words, which go on in the next line."""


def table(sections: dict[str, list[Row]]) -> str:
    """All sections under one head, in at most 100 columns."""
    shown = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in HEAD:
        shown.add_column(name, no_wrap=name not in WIDEST, max_width=WIDEST.get(name))
    for title, rows in sections.items():
        shown.add_row(f"{title}:")
        for row in rows:
            shown.add_row(*row.cells)
        shown.add_row()
    text = StringIO()
    Console(file=text, width=WIDTH, markup=False, highlight=False).print(shown)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def summary(rows: Iterable[Row]) -> str:
    """How many goals were reached, and which were not."""
    goals = [row for row in rows if row.goal is not None or row.problem]
    lines = [f"{sum(row.met is True for row in goals)} of {len(goals)} goals met"]
    for words, answer in (("not met", False), ("without a figure", None)):
        if found := [row.what for row in goals if row.met is answer]:
            lines.append(f"{words}: {'; '.join(found)}")
    return "\n".join(lines)


def note(text: str) -> None:
    """What is going on, for whoever waits."""
    print(text, file=sys.stderr, flush=True)


def _number(value: float) -> str:
    if value and abs(value) < 0.01:
        return f"{value:.1e}"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
