"""``lsn bench``: the tables and figures of the paper, measured beside the published numbers."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lsncli.cli import options
from lsncli.cli.configured import ONLY_READ
from lsncli.console import printable, say
from lsncli.device import pick_device
from lsncli.errors import LsnError, UsageError
from lsncli.reference import published as facts
from lsncli.report.formats import FORMATS, Column, render

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lsncli.bench.figures.request import Request
    from lsncli.bench.jobs import TableRow
    from lsncli.bench.plan import BenchPlan
    from lsncli.bench.suite import Suite, TableSpec

LISTING = [
    Column("table", "Table"),
    Column("title", "Title", wide=True),
    Column("id_set", "ID", wide=True),
    Column("backbone", "Backbone", wide=True, detail=True),
    Column("rows", "Rows", digits=0, detail=True),
]
MEASURING = "Measuring"
DRAWING = "Figures"


def bench(
    table: Annotated[
        str | None,
        typer.Option(
            "--table", help="Number of the table, later, or a FILE.toml.", show_default="the list of tables"
        ),
    ] = None,
    figure: Annotated[
        int | None,
        typer.Option(
            help="Number of a figure: 2-5 or 7-12; --table then says whose sets.", rich_help_panel=DRAWING
        ),
    ] = None,
    plots: Annotated[
        Path | None,
        typer.Option(
            help="Folder for png, svg and csv; of a table: histograms and ROC of every row.",
            show_default="WORK/figures with --figure",
            rich_help_panel=DRAWING,
        ),
    ] = None,
    shots: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            help="Images of each class for --figure 7, repeatable.",
            show_default="1, 2, 4 ...",
            rich_help_panel=DRAWING,
        ),
    ] = None,
    published: Annotated[
        bool, typer.Option("--published", help="Print the published numbers alone; they need no data.")
    ] = False,
    wide: Annotated[
        bool,
        typer.Option("--wide", help="Every group of columns; for programs a row for each row of the table."),
    ] = False,
    suite: Annotated[
        str, typer.Option(help="paper, mini or a FILE.toml: data and model.", rich_help_panel=MEASURING)
    ] = "paper",
    data: Annotated[
        Path | None,
        ONLY_READ,
        typer.Option(
            envvar="LSN_DATA",
            help="Folder of the image sets, in any layout that lsn datasets names.",
            rich_help_panel=MEASURING,
        ),
    ] = None,
    rows: Annotated[
        list[str] | None,
        typer.Option(help="Name of a row, repeatable.", show_default="all", rich_help_panel=MEASURING),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(min=1, help="How many.", show_default="the suite's", rich_help_panel=MEASURING),
    ] = None,
    splits: Annotated[
        int | None,
        typer.Option(
            min=1, help="At most so many class splits.", show_default="all", rich_help_panel=MEASURING
        ),
    ] = None,
    mode: Annotated[
        str,
        typer.Option(help="Preset of all prompts.", show_default="the suite's", rich_help_panel=MEASURING),
    ] = "",
    model: Annotated[
        str,
        typer.Option(help="As lsn extract takes it.", show_default="the suite's", rich_help_panel=MEASURING),
    ] = "",
    jobs: Annotated[int, typer.Option(min=1, help="Processes.", rich_help_panel=MEASURING)] = 1,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Show what is left to do, and how long it takes here.",
            rich_help_panel=MEASURING,
        ),
    ] = False,
    batch_size: options.BatchSize = 0,
    workers: options.Workers = 0,
    work: options.WorkFolder = options.DEFAULT_WORK,
    pretrained: options.Pretrained = "",
    device: options.Device = "auto",
    format: options.Format = "table",
    output: options.Output = None,
    quiet: options.Quiet = False,
) -> None:
    """Measure a table or figure of the LSN paper beside the published numbers.

    Examples:
        lsn bench                               # the tables
        lsn bench --table 1 --published         # as printed; needs no images
        lsn bench --table 3 --suite mini
        lsn bench --table 1 --data ./datasets --dry-run

    Results are cached: an interrupted run resumes, and a repeated run is instant. Missing numbers come with
    the reason and the command that measures them. Formats for programs hold one number a row.
    """
    from lsncli.bench.published_table import list_tables

    _check_options(table, figure, plots, shots, published, dry_run)
    if table is None and figure is None:
        render(list_tables(), LISTING, format, output, wide=wide)
        return
    if published and table is not None:
        _show_published(table, wide, format, output)
        return
    from lsncli.bench.measured_table import measure_table
    from lsncli.bench.measured_view import print_table
    from lsncli.bench.suite_toml import load_suite

    loaded = load_suite(suite)
    settings: dict[str, Any] = {
        "work": work,
        "data": data,
        "seeds": seeds,
        "splits": splits,
        "mode": mode,
        "model": model,
        "pretrained": pretrained,
        "device": str(pick_device(device)),  # times are compared by it
        "batch_size": options.images_at_once(batch_size, device),
        "workers": options.threads(workers),
        "jobs": jobs,
    }
    if figure is not None:
        from lsncli.bench.figures.request import Request

        folder, spec = plots or work / "figures", _load_spec(table, loaded) if table else None
        request = Request(
            loaded, folder, suite, settings, spec, rows or (), shots or (), dry_run, quiet, table or ""
        )
        _print_figure(figure, request, format, output)
        return
    spec = _load_spec(table or "", loaded)
    result, plan = measure_table(
        loaded, spec, named=(suite, table or ""), rows=rows or (), **settings, dry=dry_run, quiet=quiet
    )
    if dry_run:
        from lsncli.bench.jobs import table_rows

        fast = table_rows(loaded, spec, rows=rows or (), splits=splits, mode="fast", model=model)
        title = f"Table {spec.key} on the suite '{loaded.name}'"
        _show_costs(plan, fast, result.command, title, format, output, quiet)
        return
    print_table(result, format, output, wide_rows=wide)
    if plots is not None:
        from lsncli.bench.figures.request import draw_rows

        files = draw_rows(plan, plots, quiet=quiet)
        say(f"Wrote {len(files)} figures to {plots}", quiet=quiet)
    if not any(cell.n for cells in result.rows.values() for cell in cells.values()):
        raise LsnError("Nothing was measured.", f"`lsn datasets --suite {suite}` says what is needed.")


def _load_spec(table: str, suite: "Suite") -> "TableSpec":
    """Return a table of the suite, or read one from a TOML file."""
    from lsncli.bench.suite_toml import read_table

    return read_table(Path(table), suite) if table.endswith(".toml") else suite.table(table)


def _check_options(
    table: str | None,
    figure: int | None,
    plots: Path | None,
    shots: list[int] | None,
    published: bool,
    dry: bool,
) -> None:
    """Check which options go together. Raises UsageError, or Unavailable (exit code 5) without matplotlib."""
    from lsncli.bench.figures import check_number
    from lsncli.report.plots import check_available

    if figure is not None:
        check_number(figure)
        if published:
            raise UsageError("--figure and --published: the paper prints its figures without numbers.")
    elif plots is not None and not table:
        raise UsageError("--plots is for --table or --figure, found neither.")
    if shots and figure != 7:
        raise UsageError("--shots is for --figure 7.", "Of a table, `shots` in the suite's file says so.")
    if published and plots is not None:
        raise UsageError("--published and --plots: published tables have no scores to draw.")
    if not dry and (figure is not None or plots is not None):
        check_available("--plots" if figure is None else "--figure")


def _show_costs(
    plan: "BenchPlan",
    fast: "Sequence[TableRow]",
    command: str,
    title: str,
    format: options.FormatName,
    output: Path | None,
    quiet: bool,
) -> None:
    """Print the remaining work with its estimated time here, and faster options for work of days."""
    from lsncli.bench import costs as use
    from lsncli.bench.speeds import Speeds

    speeds = Speeds(plan.suite_work, quiet=quiet)
    costs = use.estimate_costs(plan, speeds)
    people = FORMATS[format].people
    rows = use.cost_rows_with_totals(costs) if people else use.cost_rows(costs)
    render(rows, use.FOR_PEOPLE if people else use.FOR_PROGRAMS, format, output, title)
    for reason in speeds.reasons.values():
        say(printable(f"No times: {reason}"), quiet=quiet)
    for remark in use.remarks(plan, costs, fast, speeds, command):
        say(printable(remark), quiet=quiet)
    for reason in plan.lacks:
        say(printable(f"Blocked: {reason}."), quiet=quiet)
    if not speeds.reasons:
        say(use.ASSUMED, quiet=quiet)


def _print_figure(number: int, request: "Request", format: options.FormatName, output: Path | None) -> None:
    """Draw a figure of the paper and print its numbers, notes and files."""
    from lsncli.bench.figures import draw_figure

    result = draw_figure(number, request)
    render(result.rows, result.columns, format, output, result.title)
    for note in result.notes:
        say(printable(note), quiet=request.quiet)
    for path in result.files:
        say(f"Wrote {path}", quiet=request.quiet)


def _show_published(text: str, wide: bool, format: options.FormatName, output: Path | None) -> None:
    """Print a published table. Raises UsageError for an unknown one, or --wide without rows."""
    from lsncli.bench.published_table import has_rows, print_table

    if text not in facts.TABLES and not text.isdecimal():
        known = ", ".join(facts.TABLES)
        raise UsageError(f"--table: expected a published table ({known}), found '{text}'.")
    if wide and not has_rows(format):
        known = ", ".join(filter(has_rows, FORMATS))
        raise UsageError(
            f"--wide with --published: expected a --format of rows ({known}), found {format}.",
            "Leave it out.",
        )
    print_table(facts.load_table(int(text) if text.isdecimal() else text), format, output, wide_rows=wide)
