"""Published tables as data, one file each: those of the LSN paper, and methods since then ("later")."""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

from lsncli.errors import UsageError

SOURCE = "Nie et al., Out-of-Distribution Detection with Negative Prompts, ICLR 2024"

NUMBERS = (1, 2, 3, 4, 5, 7, 8, 9, 10, 11)
"""The paper's tables with numbers. Table 6 lists class splits; its page is missing from the source text."""

LATER = "later"
"""The table of methods since the paper, with sources of their own."""

TABLES = (*map(str, NUMBERS), LATER)
"""The keys of all published tables."""

MARKS = {
    "*": "quoted from the method's own paper, or reproduced by the authors of LSN; they print * and ⋆ for "
    "these, the source text has * for both",
}
"""The meaning of the marks after the names of rows (caption of Table 1)."""

MISSING = "-"
"""Printed in place of a missing number."""


@dataclass(frozen=True)
class Metric:
    """The quantity in a column: its short title, and whether higher or lower numbers are better."""

    title: str
    higher_is_better: bool


METRICS = {
    "fpr95": Metric("FPR95", higher_is_better=False),
    "fpr95_ood": Metric("FPR95 OOD+", higher_is_better=False),
    "auroc": Metric("AUROC", higher_is_better=True),
    "id_accuracy": Metric("ID ACC", higher_is_better=True),
}
"""FPR95: OOD images kept when 95 % of ID images are. FPR95 OOD+: ID images rejected when 95 % of OOD images
are. AUROC: ID is the positive class. ID ACC: ID images classified correctly, by positive prompts alone. All
in percent."""


@dataclass(frozen=True)
class PublishedColumn:
    """A column of numbers: ``metric`` (a key of ``METRICS``) on ``group``.

    ``group`` is the data set above the column ("iNaturalist"), "Average", or empty for metrics of the ID set
    only. ``key`` is unique in a table: "iNaturalist/fpr95", "Average/auroc", "id_accuracy".
    """

    group: str
    metric: str
    key: str


@dataclass(frozen=True)
class PublishedRow:
    """A row of a table: percent by column key, as printed; missing numbers have no key.

    ``name`` is unique in its table, without the ``marks`` ("*") that follow it in print. ``bold`` are the
    keys of the best numbers of their column among the rows of the same ``section`` ("" without sections).
    """

    name: str
    marks: tuple[str, ...]
    values: Mapping[str, float]
    bold: frozenset[str]
    section: str = ""
    source: str = ""
    """Where the numbers are published; empty for the table's source."""


@dataclass(frozen=True)
class PublishedTable:
    """A table: its key (one of ``TABLES``), caption, ID set, backbone, columns and rows."""

    key: str
    title: str
    id_set: str
    backbone: str
    columns: tuple[PublishedColumn, ...]
    rows: tuple[PublishedRow, ...]
    notes: tuple[str, ...]

    @property
    def of_the_paper(self) -> bool:
        """Whether it is a table of the LSN paper."""
        return self.key != LATER

    def title_of(self, metric: str) -> str:
        """Return the title of a metric: FPR95 names its convention in a table with both."""
        both = metric == "fpr95" and any(column.metric == "fpr95_ood" for column in self.columns)
        return METRICS[metric].title + (" ID+" if both else "")


def load_table(key: int | str) -> PublishedTable:
    """Load a published table.

    The source text has no bold type, so ``with_bold`` computes it. Raises UsageError for a key that is not in
    ``TABLES``.
    """
    if str(key) not in TABLES:
        raise UsageError(
            f"There is no table {key} with published numbers: expected one of {', '.join(TABLES)}.",
            "Table 6 (class splits) is missing from the text of the paper that the numbers were taken from.",
        )
    name = f"{key}.toml" if key == LATER else f"table{int(key):02}.toml"
    text = (files("lsncli.reference") / "tables" / name).read_text(encoding="utf-8")
    facts = tomllib.loads(text)
    columns = tuple(parse_column(key) for key in facts["columns"])
    return PublishedTable(
        key=str(key),
        title=facts["title"],
        id_set=facts["id_set"],
        backbone=facts["backbone"],
        columns=columns,
        rows=with_bold((_row(line, columns) for line in facts["rows"]), columns),
        notes=tuple(facts["notes"]),
    )


def parse_column(key: str) -> PublishedColumn:
    """Return the column of a key: "GROUP/METRIC", or "METRIC" for a column without a group."""
    group, _, metric = key.rpartition("/")
    return PublishedColumn(group, metric, key)


def _row(line: Mapping[str, Any], columns: tuple[PublishedColumn, ...]) -> PublishedRow:
    printed = zip(columns, line["values"], strict=True)
    values = {column.key: float(value) for column, value in printed if value != MISSING}
    return PublishedRow(
        line["name"],
        tuple(line.get("marks", ())),
        values,
        frozenset(),
        line.get("section", ""),
        line.get("source", ""),
    )


def with_bold(rows: Iterable[PublishedRow], columns: Iterable[PublishedColumn]) -> tuple[PublishedRow, ...]:
    """Return the rows with ``bold`` set to the best numbers of their column and section, including ties.

    The only number of its column and section is not bold.
    """
    rows = tuple(rows)
    best = {}
    for key, metric in ((column.key, METRICS[column.metric]) for column in columns):
        choose = max if metric.higher_is_better else min
        for section in {row.section for row in rows}:
            values = [row.values[key] for row in rows if row.section == section and key in row.values]
            if len(values) > 1:
                best[section, key] = choose(values)
    return tuple(
        replace(
            row,
            bold=frozenset(key for key, value in row.values.items() if best.get((row.section, key)) == value),
        )
        for row in rows
    )
