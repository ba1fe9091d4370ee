"""What all kinds of ``lsn train-head`` share: the command line as it was typed, and the row that is shown."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsncli.cli.options import FormatName
from lsncli.images.columns import Columns
from lsncli.report.formats import Column, render

if TYPE_CHECKING:
    from lsncli.training.linear_probe import TrainedHead

COLUMNS = [
    Column("head", "Head"),
    Column("tuned", "Tuned"),
    Column("classes", "Classes", digits=0),
    Column("rows", "Rows", digits=0),
    Column("c", "C", digits=2),
    Column("first_loss", "Loss first", digits=3),
    Column("last_loss", "last", digits=3),
    Column("held_out", "Val", digits=0),
    Column("accuracy", "Val acc %", digits=2, percent=True),
    Column("seconds", "Seconds", digits=1),
]


@dataclass(frozen=True)
class Asked:
    """The command line, for whatever makes the head."""

    sources: list[Path]
    work: Path
    split: str
    c: float | None
    tune: str | None
    settings: dict[str, Any]
    """Of a training in epochs; None where it was not asked for."""
    resume: bool
    columns: Columns
    classes: Path | None
    model: str | None
    pretrained: str
    device: str
    workers: int
    max_failure_rate: float
    format: FormatName
    output: Path | None
    quiet: bool


def show(done: "TrainedHead", asked: Asked, *, tuned: str | None = None) -> None:
    """One row about a trained head; ``tuned`` is the part of the image tower that was."""
    history = done.head.history
    row = {
        "head": done.head.kind,
        "tuned": tuned,
        "classes": len(done.head.classes),
        "rows": done.rows,
        "c": done.head.settings.get("c"),
        "first_loss": history[0] if history else None,
        "last_loss": history[-1] if history else None,
        "held_out": done.held_out,
        "accuracy": done.accuracy,
        "seconds": done.seconds,
    }
    render([row], COLUMNS, asked.format, asked.output)
