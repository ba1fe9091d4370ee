"""Goals, by the kind of the processor where it matters; rows of a figure and its goal; their table."""

import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from io import StringIO
from typing import Any, Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks.machines import KINDS, Kind

Sense = Literal["at least", "at most"]

WIDE: tuple[Kind, ...] = ("avx512", "amx")


def _on(goal: float, *kinds: Kind) -> dict[Kind, float]:
    return dict.fromkeys(kinds or KINDS, goal)


GOALS: dict[str, dict[Kind, float]] = {
    "CoOp step, lsn torch": _on(15, *WIDE),
    "CoOp step, lsn onednn": _on(25, *WIDE),
    "CoOp step, lsn auto": _on(22, "avx2"),
    "negative step, one set, lsn torch": _on(3.5, *WIDE),
    "negative step, one set, lsn onednn": _on(6, *WIDE),
    "negative step, one set, lsn auto": _on(5.5, "avx2"),
    "CoCoOp training step, lsn torch": _on(15, *WIDE),
    "CoCoOp training step, lsn onednn": _on(25, *WIDE),
    "CoCoOp training step, lsn auto": _on(24, "avx2"),
    "CoCoOp test step, per image, lsn torch": _on(15, *WIDE),
    "CoCoOp test step, per image, lsn onednn": _on(25, *WIDE),
    "CoCoOp test step, per image, lsn auto": _on(24, "avx2"),
    "preprocessing, photos, fast": _on(2, "other", "avx2", "avx512") | _on(1.7, "amx"),
    "preprocessing, ImageNet's size, fast": _on(2, "other", "avx2", "avx512") | _on(1.7, "amx"),
    "image tower ViT-B-32, auto": _on(1.15),
    "image tower ViT-B-16, auto": _on(1.15),
    "image tower mini, auto": _on(1.5),
    "image tower ViT-B-32, int8": _on(1.7),
    "image tower ViT-B-16, int8": _on(1.7),
    "extraction, ViT-B-32, fp32": _on(1.15),
    "extraction, ViT-B-16, fp32": _on(1.15),
    "extraction, mini, fp32": _on(1.5),
    "extraction, ViT-B-32, int8": _on(1.7),
    "extraction, ViT-B-16, int8": _on(1.7),
    "extraction, ViT-B-32, bf16": _on(1.8, *WIDE),
    "extraction, ViT-B-16, bf16": _on(1.8, *WIDE),
}
"""How many times as fast as the plain loop: by row, and by the kind of the processor.

A kind that is missing has no goal. With AVX2 alone only the kernel that ``auto`` picks has one. On the Intel
processor with AMX that was measured, Pillow resizes faster than on AMD processors, so less can be gained.
"""


@dataclass(frozen=True)
class Row:
    """A measured figure.

    ``unit`` is "x" for a ratio (above 1 = faster or smaller than the plain form). ``goal`` is None for a
    figure without a goal. ``of`` names what was measured: a clock, a size, or the date of a recorded run.
    ``problem`` is the reason for a missing figure; such a row has not met its goal. ``reason`` says why this
    machine cannot meet the goal; it is shown, and excuses the row, only if the goal is missed.
    """

    what: str
    measured: float | None
    unit: str
    goal: float | None = None
    sense: Sense = "at least"
    of: str = ""
    spread: tuple[float, float] | None = None
    problem: str = ""
    reason: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None without a goal."""
        if self.problem:
            return False
        if self.goal is None or self.measured is None:
            return None
        return self.measured >= self.goal if self.sense == "at least" else self.measured <= self.goal

    @property
    def failed(self) -> bool:
        """Whether the goal is missed without a stated reason."""
        return self.met is False and not self.reason

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
        met = {True: "yes", False: "NO" if self.failed else "no", None: ""}[self.met]
        why = self.problem or (self.met is False and self.reason) or self.of
        return (self.what, self.goal_text, measured, spread, met, why)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for a JSON file."""
        return asdict(self) | {"met": self.met}


def ratio(
    what: str, figures: dict[str, float], goal: float | None, of: str = "CPU time", reason: str = ""
) -> Row:
    """Return the row of a variant that ``timing.interleaved`` measured."""
    spread = figures["lowest"], figures["highest"]
    return Row(what, figures["ratio"], "x", goal, of=of, spread=spread, reason=reason)


def goal_of(what: str, kind: Kind) -> float | None:
    """Return the goal of a row on processors of this kind; None without one."""
    return GOALS.get(what, {}).get(kind)


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
    excused = [f"{row.what} ({row.reason})" for row in goals if row.met is False and row.reason]
    lines = [f"{sum(row.met is True for row in goals)} of {len(goals)} goals met"]
    for words, names in (
        ("not met", [row.what for row in goals if row.failed]),
        ("not met for a stated reason", excused),
        ("without a figure", [row.what for row in goals if row.met is None]),
    ):
        if names:
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
