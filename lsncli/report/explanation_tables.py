"""An explanation of one image: tables for people, one list of rows for programs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsncli.console import printable
from lsncli.report.formats import FORMATS, Column, render, target

if TYPE_CHECKING:
    from lsncli.explanation.evidence import Reasons
    from lsncli.explanation.saliency import Explanation

Rows = list[dict[str, Any]]

MEASURES = [
    Column("value", "Value", digits=6),
    Column("below", "Held-out ID below it, %", digits=0, percent=True),
]
LIKELY = [
    Column("class", "Class", wide=True),
    Column("probability", "Probability %", digits=1, percent=True),
    Column("cosine", "Cosine", digits=4),
]
NEAREST = [
    Column("key", "Training image", wide=True),
    Column("class", "Class"),
    Column("cosine", "Cosine", digits=4),
]
MAPS = [
    Column("class", "Class"),
    Column("prompt", "Prompt"),
    Column("cosine", "Cosine", digits=4),
    Column("peak_x", "Peak x", digits=2),
    Column("peak_y", "Peak y", digits=2),
    Column("overlap", "Shared %", digits=0, percent=True),
]
VERDICT = ("score", "positive", "negative", "threshold", "is_ood", "below")
ALL = [
    Column(key, key)
    for key in dict.fromkeys(
        ["what", "class", "probability", "cosine", *VERDICT, "key", "prompt"]
        + [column.key for column in MAPS]
        + ["file"]
    )
]
"""Columns for programs. ``what`` is verdict, class, nearest or prompt; a row has None in the columns of the
others."""


@dataclass(frozen=True)
class TitledTable:
    """A table with its title."""

    title: str
    columns: Sequence[Column]
    rows: Rows


def print_explanation(
    found: "Explanation", why: "Reasons", files: Sequence[Path], format_name: str, output: Path | None
) -> None:
    """Write an explanation to stdout or ``output``; ``files`` are its heat maps. Raises as ``render``."""
    form = FORMATS[format_name]
    if not form.people:
        render(to_rows(found, why, files), ALL, format_name, output)
        return
    with target(output, format_name) as file:
        for number, table in enumerate(titled_tables(found, why, files)):
            if form.heading:
                file.write("\n" * bool(number) + form.heading(table.title))
            form.write(table.rows, table.columns, file, table.title)


def titled_tables(found: "Explanation", why: "Reasons", files: Sequence[Path]) -> list[TitledTable]:
    """Return the tables that have rows, the verdict first."""
    judged = why.evidence
    measures = [dict(vars(one)) for one in judged.measures] if judged else []
    title, label = (judged.sentence, printable(judged.label)) if judged else ("", "")
    tables = [
        TitledTable(title, [Column("name", label), *MEASURES], measures),
        TitledTable("Most like", LIKELY, likely_rows(why)),
        TitledTable(f"Nearest images of the split {why.split}", NEAREST, nearest_rows(why)),
        TitledTable("Where the prompts look", MAPS, look_rows(found, files)),
    ]
    return [table for table in tables if table.rows]


def to_rows(found: "Explanation", why: "Reasons", files: Sequence[Path]) -> Rows:
    """Return an explanation as rows with the columns ``ALL``."""
    return [
        *({"what": "verdict", **row} for row in verdict_rows(why)),
        *({"what": "class", **row} for row in likely_rows(why)),
        *({"what": "nearest", **row} for row in nearest_rows(why)),
        *({"what": "prompt", **row} for row in look_rows(found, files)),
    ]


def verdict_rows(why: "Reasons") -> Rows:
    """Return the verdict as one row with the names of ``lsn score``, or no row without a detector."""
    if why.evidence is None:
        return []
    fields = dict(vars(why.evidence.verdict))
    shown = {"class": fields["predicted"]} | {key: fields[key] for key in VERDICT if key in fields}
    return [shown | {"below": why.evidence.measures[0].below}]


def likely_rows(why: "Reasons") -> Rows:
    """Return a row for each likely class."""
    return [{"class": one.name, "probability": one.probability, "cosine": one.cosine} for one in why.likely]


def nearest_rows(why: "Reasons") -> Rows:
    """Return a row for each training image."""
    return [{"key": one.key, "class": one.class_name, "cosine": one.cosine} for one in why.nearest]


def look_rows(found: "Explanation", files: Sequence[Path]) -> Rows:
    """Return a row for each prompt; its overlap is with the positive prompt of the same class."""
    positive = {look.name: look for look in found.maps if not look.negative}
    return [
        {
            "class": look.name,
            "prompt": look.prompt,
            "cosine": look.cosine,
            "peak_x": look.peak[0] if look.peak else None,
            "peak_y": look.peak[1] if look.peak else None,
            "overlap": look.overlap(positive[look.name]) if look.negative else None,
            "file": str(file),
        }
        for look, file in zip(found.maps, files, strict=True)
    ]
