"""Figure 7: FPR95 and AUROC of prompts over the number of training images per class."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsncli.bench.costs import cost_rows, estimate_costs
from lsncli.bench.figures.request import FigureResult, Record, Request, describe_costs, figure_paths
from lsncli.bench.jobs import normalise_name
from lsncli.bench.measured_table import AVERAGE, Cell, MeasuredTable
from lsncli.bench.speeds import Speeds
from lsncli.bench.suite import RowSpec, Suite, TableSpec
from lsncli.bench.tasks import HELD_OUT
from lsncli.console import say
from lsncli.errors import UsageError
from lsncli.methods.spec import parse_method
from lsncli.reference import published
from lsncli.report import plots
from lsncli.report.formats import Column

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOTS = (1, 2, 4, 8, 16, 32, 64, 128)
"""Images per class; numbers above those of a training set are left out."""

USUAL = (
    ("4", "MCM", "MCM, nothing learned"),
    ("5", "pos-shared-w name", "positive prompts"),
    ("5", "neg-specific-w name", "negative prompts"),
    ("4", "full model", "both (LSN)"),
)
"""The rows of the paper's Tables 4 and 5 in Figure 7: table, row, name in the figure."""

METRICS = ("fpr95", "auroc")

COLUMNS = [
    Column("row", "Prompts", wide=True),
    Column("source", "Source"),
    Column("shots", "Images a class", digits=0),
    Column("fpr95", "FPR95↓", digits=2),
    Column("fpr95_spread", "±", digits=1),
    Column("auroc", "AUROC↑", digits=2),
    Column("auroc_spread", "±", digits=1),
    Column("n", "n", digits=0),
]

PANELS = {"fpr95": "FPR95 (%), lower is better", "auroc": "AUROC (%), higher is better"}

MARKERS = "os^Dv"

Row = Mapping[str, Any]


@dataclass(frozen=True)
class ShotsRow:
    """A row to measure for several numbers of images; ``table`` is a table of the paper, or ""."""

    row: RowSpec
    title: str
    table: str = ""

    @property
    def learns(self) -> bool:
        """Whether it learns from training images."""
        return bool(self.row.learn) or not parse_method(self.row.method).needs.isdisjoint({"train", "labels"})


def draw(request: Request, number: int) -> FigureResult:
    """Measure FPR95 and AUROC (percent, average of all OOD sets) for each number of images, and draw them.

    Without ``request.spec`` these are rows of the paper's Tables 4 and 5. Raises UsageError if there is no
    row that learns.
    """
    spec, rows = _rows(request)
    shots = tuple(sorted(set(request.shots))) or _usual_shots(request.suite, rows)
    title = f"Figure {number} measured on the suite '{request.suite.name}'"
    specs = [_with_shots(spec, rows, one) for one in shots]
    if request.dry:
        plans = [request.measure(one)[1] for one in specs]
        speeds = Speeds(plans[0].suite_work, quiet=request.quiet)
        lines = [
            {"shots": k, **row}
            for k, plan in zip(shots, plans, strict=True)
            for row in cost_rows(estimate_costs(plan, speeds))
        ]
        head = describe_costs(title, ())
        return replace(head, rows=lines, columns=[Column("shots", "Images a class", digits=0), *head.columns])
    tables = {}
    plans = [request.measure(one, dry=True)[1] for one in specs]
    for turn, (k, one) in enumerate(zip(shots, specs, strict=True), 1):
        images = f"{k} image{'s' if k > 1 else ''} of each class"
        say(f"{images} ({turn} of {len(specs)})", quiet=request.quiet)
        tables[k] = request.measure(one, later=plans[turn:])[0]
    points = [*_measured_rows(rows, tables), *_published_rows(rows)]
    stand_in = any(table.stand_in for table in tables.values())
    png, svg, numbers = figure_paths(request, f"figure{number}")
    plot((png, svg), [point for point in points if not stand_in or point["source"] == "measured"], title)
    write_numbers(numbers, [*(column.key for column in COLUMNS), "why_missing"], points)
    return FigureResult(
        title, points, COLUMNS, (png, svg, numbers), _notes(points, tables, request.command(number))
    )


def _rows(request: Request) -> tuple[TableSpec, list[ShotsRow]]:
    """The table with the OOD sets, and the rows to measure."""
    if request.spec is None:
        spec = request.table("5")
        rows = [
            ShotsRow(row, title, table)
            for table, name, title in USUAL
            if table in request.suite.tables
            for row in request.suite.tables[table].rows
            if row.name == name and _chosen(request.rows, (name, title))
        ]
    else:
        spec = request.spec
        rows = [ShotsRow(row, row.name) for row in spec.rows if _chosen(request.rows, (row.name,))]
    if not any(one.learns for one in rows):
        known = ", ".join(row.name for row in spec.rows)
        raise UsageError(
            f"Figure 7: table {spec.key} has no row that learns from images among those asked for.",
            f"Its rows are {known}.",
        )
    return spec, rows


def _chosen(wanted: Sequence[str], names: Sequence[str]) -> bool:
    asked = {normalise_name(one) for one in wanted}
    return not asked or any(normalise_name(name) in asked for name in names)


def _usual_shots(suite: Suite, rows: Sequence[ShotsRow]) -> tuple[int, ...]:
    """``SHOTS`` below the size of the smallest training set, and that size."""
    smallest = []
    for one in rows:
        train = suite.sets.get(suite.ids[one.row.id].train) if one.row.id else None
        if one.learns and train is not None:
            count = train.per_class or (
                train.images // train.classes if train.images and train.classes else 0
            )
            smallest += [count - max(1, round(HELD_OUT * count))] if count > 1 else []
    if not smallest or min(smallest) >= SHOTS[-1]:
        return SHOTS
    return (*(one for one in SHOTS if one < min(smallest)), min(smallest))


def _with_shots(spec: TableSpec, rows: Sequence[ShotsRow], shots: int) -> TableSpec:
    """The table with ``rows`` that learn from ``shots`` images per class."""
    varied = (replace(one.row, shots=shots, note="") for one in rows)
    return replace(spec, rows=tuple(varied))


def _cells(table: MeasuredTable, name: str) -> dict[str, Cell]:
    """FPR95 and AUROC for the average of all OOD sets, or for the only one."""
    groups = list(dict.fromkeys(one.group for one in table.columns if one.group))
    group = AVERAGE if AVERAGE in groups else groups[0]
    return {metric: table.rows[name][f"{group}/{metric}"] for metric in METRICS}


def _measured_rows(rows: Sequence[ShotsRow], tables: dict[int, MeasuredTable]) -> Iterator[Record]:
    for one in rows:
        for shots, table in tables.items() if one.learns else list(tables.items())[:1]:
            cells = _cells(table, one.row.name)
            yield {
                "row": one.title,
                "source": "measured",
                "shots": shots if one.learns else None,
                **{metric: cell.mean for metric, cell in cells.items()},
                **{f"{metric}_spread": cell.spread for metric, cell in cells.items()},
                "n": cells["auroc"].n,
                "why_missing": cells["auroc"].why_missing,
            }


def _published_rows(rows: Sequence[ShotsRow]) -> Iterator[Record]:
    """The same rows in the paper's tables; the figure itself is printed without numbers."""
    for one in rows:
        if one.table:
            row = next(row for row in published.load_table(int(one.table)).rows if row.name == one.row.name)
            values = {metric: row.values[f"{AVERAGE}/{metric}"] for metric in METRICS}
            nothing = {f"{metric}_spread": None for metric in METRICS}
            yield {
                "row": one.title,
                "source": f"paper, Table {one.table}",
                "shots": None,
                **values,
                **nothing,
                "n": None,
                "why_missing": "",
            }


def _notes(rows: Sequence[Record], tables: dict[int, MeasuredTable], command: str) -> list[str]:
    notes = [
        "The paper prints Figure 7 without numbers, and says: positive and negative prompts improve with "
        "more images, negative prompts more."
    ]
    for name in dict.fromkeys(row["row"] for row in rows):
        line = [row for row in rows if row["row"] == name and row["shots"] and row["auroc"] is not None]
        if len(line) > 1:
            first, last = line[0], line[-1]
            notes.append(
                f"{name}: from {first['shots']} to {last['shots']} images of each class "
                f"AUROC {last['auroc'] - first['auroc']:+.1f}, FPR95 {last['fpr95'] - first['fpr95']:+.1f}."
            )
    if any(row["source"] != "measured" for row in rows):
        notes.append(
            "The paper does not say from how many images the rows of its Tables 4 and 5 were learned."
        )
    missing = {row["why_missing"] for row in rows if row["why_missing"]}
    notes += [f"Missing: {why.rstrip('.')}. To try again: {command}" for why in sorted(missing)]
    return notes + list(tables[max(tables)].notes)


def plot(paths: Sequence[Path], rows: Sequence[Row], title: str) -> None:
    """Draw ``rows``: ``row`` (its name), ``source``, ``shots``, both metrics and their spreads in percent.

    Measured rows are lines with their spread over seeds; without ``shots`` they are level, as nothing is
    learned. Other sources are dotted levels. Raises LsnError if a file cannot be written.
    """
    names = list(dict.fromkeys(row["row"] for row in rows))
    with plots.drawing():
        made: Any = plots.figure(9.0, 4.2)
        made.suptitle(plots.label(title, 110), x=0.01, ha="left", fontsize=10)
        panels = made.subplots(1, 2)
        for axes, (metric, label) in zip(panels, PANELS.items(), strict=True):
            for at, name in enumerate(names):
                _plot_line(axes, at, [row for row in rows if row["row"] == name], metric)
            _scale(axes, sorted({row["shots"] for row in rows if row["shots"]}))
            axes.set_ylabel(label)
        made.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
        plots.save(made, *paths)


def write_numbers(path: Path, keys: Sequence[str], rows: Sequence[Row]) -> None:
    """Write the numbers as csv, a line per row and number of images; missing values are empty."""
    plots.save_numbers(path, keys, ([row[key] for key in keys] for row in rows))


def _plot_line(axes: "Axes", at: int, rows: Sequence[Row], metric: str) -> None:
    """Draw one row of the table: its measured points, or its level."""
    learns = any(row["shots"] for row in rows)
    colour = plots.CYCLE[at % len(plots.CYCLE)] if learns else plots.GREY
    measured = [row for row in rows if row["source"] == "measured" and row[metric] is not None]
    for row in rows:
        if row["source"] != "measured" and row[metric] is not None:
            axes.axhline(
                row[metric],
                color=colour,
                linestyle=":",
                linewidth=1.0,
                label=f"{plots.label(row['row'])} (paper)",
            )
    points = [row for row in measured if row["shots"]]
    spreads = [row[f"{metric}_spread"] for row in points]
    if points:
        axes.errorbar(
            [row["shots"] for row in points],
            [row[metric] for row in points],
            yerr=[one or 0.0 for one in spreads] if any(spreads) else None,
            color=colour,
            marker=MARKERS[at % len(MARKERS)],
            markersize=4,
            capsize=2,
            linestyle=plots.DASHES[at % len(plots.DASHES)],
            label=plots.label(points[0]["row"]),
        )
    elif measured:
        level = measured[0]
        axes.axhline(level[metric], color=colour, linewidth=1.2, label=plots.label(level["row"]))


def _scale(axes: "Axes", shots: Sequence[int]) -> None:
    """Set a logarithmic axis with a tick for each measured number of images."""
    axes.set_xscale("log", base=2)
    if shots:
        axes.set_xlim(shots[0] / 1.2, shots[-1] * 1.2)
    axes.set_xticks(shots, [str(one) for one in shots])
    axes.minorticks_off()
    axes.set_xlabel("Training images of each class")
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
