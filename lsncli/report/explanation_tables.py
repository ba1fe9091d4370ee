"""The explanation of one image as tables for people or as one list of rows for programs."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
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
    Column("class", "Class", identifies=True),
    Column("prompt", "Prompt", identifies=True),
    Column("cosine", "Cosine", digits=4),
    Column("peak_x", "Peak x", digits=2),
    Column("peak_y", "Peak y", digits=2),
    Column("overlap", "Shared %", digits=0, percent=True),
]
VERDICT = ("score", "p_value", "positive", "negative", "threshold", "is_ood", "below")
ALL = [
    Column(key, key)
    for key in dict.fromkeys(
        ["what", "class", "probability", "cosine", *VERDICT, "key", "prompt"]
        + [column.key for column in MAPS]
        + ["file"]
    )
]
"""Columns for programs. ``what`` is verdict, class, nearest or prompt; a row has None in the columns of other
kinds."""


@dataclass(frozen=True)
class TitledTable:
    """A table with its title."""

    title: str
    columns: Sequence[Column]
    rows: Rows


def print_explanation(
    explanation: "Explanation",
    reasons: "Reasons",
    files: Sequence[Path],
    format_name: str,
    output: Path | None,
) -> None:
    """Write an explanation to stdout or ``output``; ``files`` are its heat maps, if they were written.

    Raises as ``render`` does.
    """
    form = FORMATS[format_name]
    if not form.people:
        render(to_rows(explanation, reasons, files), ALL, format_name, output)
        return
    with target(output, format_name) as file:
        for number, table in enumerate(titled_tables(explanation, reasons, files)):
            file.write("\n" * bool(number) + (form.heading(table.title) if form.heading else ""))
            form.write(table.rows, table.columns, file, table.title)


def titled_tables(explanation: "Explanation", reasons: "Reasons", files: Sequence[Path]) -> list[TitledTable]:
    """Return the tables that have rows, the verdict first."""
    evidence = reasons.evidence
    measures = [dict(vars(measure)) for measure in evidence.measures] if evidence else []
    title, label = (evidence.sentence, printable(evidence.label)) if evidence else ("", "")
    tables = [
        TitledTable(title, [Column("name", label), *MEASURES], measures),
        TitledTable("Most like", LIKELY, likely_rows(reasons)),
        TitledTable(f"Nearest images of the split {reasons.split}", NEAREST, nearest_rows(reasons)),
        TitledTable("Where the prompts look", MAPS, map_rows(explanation, files)),
    ]
    return [table for table in tables if table.rows]


def to_rows(explanation: "Explanation", reasons: "Reasons", files: Sequence[Path]) -> Rows:
    """Return an explanation as rows with the columns ``ALL``."""
    return [
        *({"what": "verdict", **row} for row in verdict_rows(reasons)),
        *({"what": "class", **row} for row in likely_rows(reasons)),
        *({"what": "nearest", **row} for row in nearest_rows(reasons)),
        *({"what": "prompt", **row} for row in map_rows(explanation, files)),
    ]


def verdict_rows(reasons: "Reasons") -> Rows:
    """Return the verdict as one row with the names of ``lsn score``, or no row without a detector."""
    if reasons.evidence is None:
        return []
    fields = dict(vars(reasons.evidence.verdict))
    row = {"class": fields["predicted"]} | {key: fields[key] for key in VERDICT if key in fields}
    return [row | {"below": reasons.evidence.measures[0].below}]


def likely_rows(reasons: "Reasons") -> Rows:
    """Return a row for each likely class."""
    return [
        {"class": likely.name, "probability": likely.probability, "cosine": likely.cosine}
        for likely in reasons.likely
    ]


def nearest_rows(reasons: "Reasons") -> Rows:
    """Return a row for each training image."""
    return [
        {"key": neighbour.key, "class": neighbour.class_name, "cosine": neighbour.cosine}
        for neighbour in reasons.nearest
    ]


def map_rows(explanation: "Explanation", files: Sequence[Path]) -> Rows:
    """Return a row for each prompt; its overlap is with the positive prompt of the same class."""
    positive = {prompt_map.name: prompt_map for prompt_map in explanation.maps if not prompt_map.negative}
    return [
        {
            "class": prompt_map.name,
            "prompt": prompt_map.prompt,
            "cosine": prompt_map.cosine,
            "peak_x": prompt_map.peak[0] if prompt_map.peak else None,
            "peak_y": prompt_map.peak[1] if prompt_map.peak else None,
            "overlap": prompt_map.overlap(positive[prompt_map.name]) if prompt_map.negative else None,
            "file": str(file) if file else None,
        }
        for prompt_map, file in zip_longest(explanation.maps, files)
    ]
