"""Methods since the paper on the mini suite: its table ``later``, and the same rows on near OOD images.

    python -m benchmarks.accuracy.later [--work FOLDER] [--seeds 3] [--record]

Every method has the settings of its authors (or lsn's defaults, where they were chosen without OOD images);
none was chosen by these results. ``far`` is the suite's table: Imagenette against flowers, scenes, places and
textures. ``near`` has the same rows on the class splits of Tiny-ImageNet: 20 classes against the other 180.
It leaves out CoCoOp, which takes hours there. An interrupted run resumes; features come with lsn.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.records import record
from lsncli.bench.measured_table import AVERAGE, MeasuredTable, measure_table
from lsncli.bench.measured_view import print_table
from lsncli.bench.suite import Group, TableSpec
from lsncli.bench.suite_toml import load_suite

NAME = "later-mini"
NEAR = "TinyImagenet"
METRICS = ("fpr95", "fpr95_ood", "auroc")
SLOW = "CoCoOp"


def near(spec: TableSpec) -> TableSpec:
    """Return the rows of a table on the class splits of Tiny-ImageNet."""
    rows = tuple(replace(row, id="") for row in spec.rows if SLOW not in row.name)
    return replace(spec, groups=(Group(NEAR, id="tinyimagenet"),), rows=rows)


def summarise(spec: TableSpec, table: MeasuredTable, group: str) -> dict[str, dict[str, Any]]:
    """Return mean and spread of every row by name, in percent; ``group`` is the column that counts."""
    return {
        row.name: {
            "method": row.method,
            "learn": [step.name for step in row.learn],
            "note": row.note,
            "n": table.rows[row.name][f"{group}/auroc"].n,
            **{metric: _mean(table, row.name, f"{group}/{metric}") for metric in METRICS},
            "spread": {
                metric: _rounded(table.rows[row.name][f"{group}/{metric}"].spread) for metric in METRICS
            },
            "auroc_by_set": {each.name: _mean(table, row.name, f"{each.name}/auroc") for each in spec.groups},
        }
        for row in spec.rows
    }


def _mean(table: MeasuredTable, row: str, key: str) -> float | None:
    return _rounded(table.rows[row][key].mean)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure both tables, print them, and record them."""
    parser = argparse.ArgumentParser(description="Methods since the paper on the mini suite.")
    parser.add_argument("--work", type=Path, default=Path("lsn-work"), help="workspace of lsn bench")
    parser.add_argument("--seeds", type=int, default=3, help="of rows that learn, far; near has five splits")
    parser.add_argument("--record", action="store_true", help="write benchmarks/results")
    options = parser.parse_args(arguments)
    suite = load_suite("mini")
    spec = suite.table("later")
    parts = {}
    tables = (("far", spec, AVERAGE, options.seeds), ("near", near(spec), NEAR, 1))
    for name, each, group, seeds in tables:
        table, _ = measure_table(suite, each, work=options.work, seeds=seeds)
        print_table(table, "table")
        parts[name] = summarise(each, table, group)
    if options.record:
        what = "Methods since the paper on the mini suite, percent, by python -m benchmarks.accuracy.later"
        record(NAME, what, seeds=options.seeds, model=suite.model, **parts)


if __name__ == "__main__":
    main()
