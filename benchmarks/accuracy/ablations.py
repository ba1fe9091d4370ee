"""The ablations of the paper's Tables 4 and 5, on the mini benchmark.

    python -m benchmarks.accuracy.ablations 4 [--mode paper|official|fast|best] [--columns NAME,NAME] ...
    python -m benchmarks.accuracy.ablations 5

Prints FPR95 and AUROC of every row and column, mean and standard deviation over seeds, and writes
results/ablation-table4.json. An interrupted run resumes. The paper's tables are on ImageNet-100 with CoCoOp
and ViT-B/16; these are the same comparisons on other data, with CoOp and the mini model.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from benchmarks.accuracy.studies import Cell, Place, Record, measure
from benchmarks.mini import store, suite
from benchmarks.mini.heads import Method, method_name
from benchmarks.records import RESULTS, write
from lsncli.console import out, say
from lsncli.errors import UsageError
from lsncli.prompts.settings import PromptSettings, preset
from lsncli.scores import score_settings

MODES = ("paper", "official", "fast", "best")
MEASURES = ("fpr95", "auroc", "accuracy")
HEADERS = {"tinyimagenet": "tiny"}


@dataclass(frozen=True)
class Row:
    """One row of a table: the prompts and the score."""

    name: str
    positive: PromptSettings | None
    negative: PromptSettings | None
    method: Method


@dataclass(frozen=True)
class Study:
    """The table, its columns and the settings of a run."""

    table: int
    mode: str
    columns: tuple[str, ...]
    splits: int
    seeds: int
    shots: int
    changes: dict[str, Any]
    """Settings other than the preset's, such as fewer epochs."""

    @property
    def notes(self) -> list[str]:
        """Sentences on how this differs from the paper's table."""
        used = {name: min(self.splits, suite.splits(name)) for name in self.columns}
        fewer = [f"{name} {used[name]} of {suite.splits(name)}" for name in self.columns]
        notes = [
            "Mini model and CoOp, where the paper has ViT-B/16 and CoCoOp; other ID and OOD sets.",
            f"Splits: {', '.join(fewer)}. Shots: at most {self.shots} a class. Seeds: {self.seeds}.",
            f"Settings: preset '{self.mode}'"
            + "".join(f", {name} {value}" for name, value in self.changes.items())
            + (" (reduced)." if self.changes else "."),
        ]
        return notes


def rows_of(study: Study) -> list[Row]:
    """Return the six rows of Table 4 or Table 5."""
    positive = preset("positive", mode=study.mode, **study.changes)
    negative = preset("negative", mode=study.mode, **study.changes)
    mcm, lsn, no = _method("mcm", positive), _method("lsn", negative), _method("mincm", negative)
    if study.table == 4:
        return [
            Row("MCM", None, None, ("mcm", {})),
            Row("full model", positive, negative, lsn),
            Row("w/o positive prompts", None, negative, lsn),
            Row("w/o negative prompts", positive, None, mcm),
            Row("w/o semantic orthogonality loss", positive, replace(negative, weight=0.0), lsn),
            Row("multi positive prompts", replace(positive, sets=3), None, mcm),
        ]
    forms: dict[str, dict[str, Any]] = {
        "specific-w name": {"specific": True, "names": True},
        "shared-w name": {"specific": False, "names": True},
        "specific-w/o name": {"specific": True, "names": False},
    }
    return [
        *[Row(f"pos-{name}", replace(positive, **form), None, mcm) for name, form in forms.items()],
        *[Row(f"neg-{name}", None, replace(negative, **form), no) for name, form in forms.items()],
    ]


def run(study: Study, cache: Path, jobs: int, quiet: bool = False) -> dict[str, Any]:
    """Learn and measure; return what is printed and written."""
    rows = rows_of(study)
    cells = [
        Cell(row.name, Place(column, split, seed, study.shots), row.positive, row.negative, (row.method,))
        for seed in range(study.seeds)
        for column in study.columns
        for split in range(min(study.splits, suite.splits(column)))
        for row in rows
    ]
    began = time.monotonic()
    file = cache / "results" / f"ablation-table{study.table}.jsonl"
    records = measure(cells, cache, file=file, jobs=jobs, quiet=quiet)
    return {
        "what": f"Table {study.table} of the paper on the mini benchmark (percent)",
        "notes": study.notes,
        "jobs": jobs,
        "seconds": round(time.monotonic() - began, 1),
        "study": asdict(study),
        "rows": {row.name: _row_result(row, study, records) for row in rows},
    }


def table_of(result: dict[str, Any]) -> Table:
    """Return a table of FPR95 above AUROC for each row, mean ± standard deviation over seeds."""
    chosen = [*result["study"]["columns"], "mean"]
    table = Table(title=result["what"], box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("", max_width=20)
    table.add_column("", no_wrap=True)
    for column in chosen:
        table.add_column(HEADERS.get(column, column), justify="right", no_wrap=True)
    for name, row in result["rows"].items():
        cells = ["\n".join(_shown(row[column][key]) for key in ("fpr95", "auroc")) for column in chosen]
        table.add_row(name, "FPR↓\nAUC↑", *cells)
    return table


def _method(name: str, prompts: PromptSettings) -> Method:
    """Return the score ``name`` with those of its settings that belong to the prompts."""
    return name, {key: prompts.score[key] for key in score_settings(name) if key in prompts.score}


def _row_result(row: Row, study: Study, records: Sequence[Record]) -> dict[str, Any]:
    own = [record for record in records if record["row"] == row.name]
    columns: dict[str, dict[str, list[float]]] = {}
    for column in study.columns:
        columns[column] = {
            key: [_percent(own, column, seed, key) for seed in range(study.seeds)] for key in MEASURES
        }
    mean = {
        key: [round(statistics.mean(one), 3) for one in zip(*(columns[c][key] for c in columns), strict=True)]
        for key in MEASURES
    }
    return {
        "method": method_name(*row.method),
        "positive": row.positive and asdict(row.positive),
        "negative": row.negative and asdict(row.negative),
        "learning_cpu_seconds": round(sum(record["cpu_seconds"] for record in own), 1),
        **columns,
        "mean": mean,
    }


def _percent(records: Sequence[Record], column: str, seed: int, key: str) -> float:
    """Return the mean over the splits of a column, in percent."""
    chosen = [one for one in records if one["column"] == column and one["seed"] == seed]
    return round(100 * statistics.mean(float(one["results"][0][key]) for one in chosen), 3)


def _shown(values: Sequence[float]) -> str:
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.1f}±{spread:.1f}"


def main() -> None:
    """Read the options, run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("table", type=int, choices=(4, 5))
    parser.add_argument("--mode", choices=MODES, default="paper")
    parser.add_argument("--columns", default=",".join(suite.columns()), help="separated by commas")
    parser.add_argument("--splits", type=int, default=2, help="splits of a column, at most")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shots", type=int, default=suite.SHOTS, help="training images a class, at most")
    parser.add_argument("--epochs", type=int, help="instead of the preset's, for both kinds of prompts")
    parser.add_argument("--batch-size", type=int, help="instead of the preset's")
    parser.add_argument("--jobs", type=int, default=2, help="processes, one thread each")
    parser.add_argument("--cache", type=Path, default=store.default_cache())
    parser.add_argument("--output", type=Path, help="default benchmarks/results/ablation-table<N>.json")
    parser.add_argument("--quiet", action="store_true")
    given = parser.parse_args()
    chosen = tuple(given.columns.split(","))
    for name in chosen:
        suite.splits(name)  # an unknown column is an error before any work
    if min(given.splits, given.seeds, given.jobs) < 1:
        raise UsageError("--splits, --seeds and --jobs: expected 1 or more.")
    changes = {"epochs": given.epochs, "batch_size": given.batch_size}
    study = Study(
        table=given.table,
        mode=given.mode,
        columns=chosen,
        splits=given.splits,
        seeds=given.seeds,
        shots=given.shots,
        changes={name: value for name, value in changes.items() if value is not None},
    )
    result = run(study, given.cache, given.jobs, given.quiet)
    out.print(table_of(result))
    for note in study.notes:
        out.print(note)
    output = given.output or RESULTS / f"ablation-table{study.table}.json"
    write(output, result)
    say(f"Written: {output}", quiet=given.quiet)


if __name__ == "__main__":
    store.exit_like_lsn(main)
