"""A table of the paper as rows and records for programs, and in the words that people read around it."""

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from lsncli.reference.published import MARKS, METRICS, MISSING, NUMBERS, SOURCE, Column, Row, Table, table

DIGITS = 2
"""Digits after the point of every number in the paper."""

Record = dict[str, Any]


def shown(row: Row, column: Column) -> str:
    """A number with the paper's digits, or the paper's dash where the row has none."""
    value = row.values.get(column.key)
    return MISSING if value is None else f"{value:.{DIGITS}f}"


def groups(columns: tuple[Column, ...]) -> list[tuple[str, tuple[Column, ...]]]:
    """Neighbouring columns of one group, with its name."""
    return [(name, tuple(inside)) for name, inside in groupby(columns, lambda one: one.group)]


def sections(rows: tuple[Row, ...]) -> list[tuple[Row, ...]]:
    """Neighbouring rows of one section."""
    return [tuple(inside) for _, inside in groupby(rows, lambda one: one.section)]


def tidy(table: Table) -> Iterator[Record]:
    """One number a row, in percent; numbers that the paper leaves out have none."""
    for row in table.rows:
        for column in table.columns:
            if column.key in row.values:
                yield {
                    "table": table.number,
                    "row": row.name,
                    "marks": " ".join(row.marks),
                    "section": row.section,
                    "group": column.group,
                    "metric": column.metric,
                    "value": row.values[column.key],
                }


def wide(table: Table) -> Iterator[Record]:
    """One row a row of the table, in percent; None where the paper leaves a number out."""
    for row in table.rows:
        yield {
            "table": table.number,
            "row": row.name,
            "marks": " ".join(row.marks),
            "section": row.section,
            **{column.key: row.values.get(column.key) for column in table.columns},
        }


def record(table: Table) -> Record:
    """The whole table as one JSON object; ``values`` in percent, None where the paper leaves a number out."""
    return {
        "table": table.number,
        "title": table.title,
        "id_set": table.id_set,
        "backbone": table.backbone,
        "unit": "percent",
        "source": SOURCE,
        "marks": MARKS if any(row.marks for row in table.rows) else {},
        "notes": list(table.notes),
        "columns": [{"key": one.key, "group": one.group, "metric": one.metric} for one in table.columns],
        "rows": [
            {
                "name": row.name,
                "marks": list(row.marks),
                "section": row.section,
                "values": {column.key: row.values.get(column.key) for column in table.columns},
                "bold": [column.key for column in table.columns if column.key in row.bold],
            }
            for row in table.rows
        ],
    }


def headline(table: Table) -> str:
    """The caption with the table's number."""
    return f"Table {table.number}: {table.title}"


def footer(table: Table) -> list[str]:
    """What a reader must know, a paragraph each: data, directions, meaning of marks, notes, source."""
    metrics = [METRICS[key] for key in dict.fromkeys(one.metric for one in table.columns)]
    higher = ", ".join(one.title for one in metrics if one.higher_is_better)
    lower = ", ".join(one.title for one in metrics if not one.higher_is_better)
    block = " and block of rows" if len(sections(table.rows)) > 1 else ""
    signs = [mark for mark in MARKS if any(mark in row.marks for row in table.rows)]
    return [
        f"Published numbers, in percent. ID: {table.id_set}. Backbone: {table.backbone}.",
        f"Lower is better: {lower}. Higher is better: {higher}. Bold: best of its column{block}.",
        *(f"{sign} {MARKS[sign]}." for sign in signs),
        *table.notes,
        f"Source: {SOURCE}, Table {table.number}.",
    ]


def listing() -> Iterator[Record]:
    """What tables there are."""
    for number in NUMBERS:
        one = table(number)
        yield {
            "table": number,
            "title": one.title,
            "id_set": one.id_set,
            "backbone": one.backbone,
            "rows": len(one.rows),
        }
