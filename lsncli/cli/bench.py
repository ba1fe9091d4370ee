"""``lsn bench``: the tables of the paper, measured beside published."""

from pathlib import Path
from typing import Annotated

import typer

from lsncli.cli import options
from lsncli.console import say
from lsncli.errors import UsageError
from lsncli.facts import published as facts
from lsncli.report.render import Column, render

LISTING = [
    Column("table", "Table", digits=0),
    Column("title", "Title", wide=True),
    Column("id_set", "ID", wide=True),
    Column("backbone", "Backbone", wide=True),
    Column("rows", "Rows", digits=0),
]
MEASURING = "Measuring"


def bench(
    table: Annotated[
        str | None,
        typer.Option("--table", help="Number of the table, or a FILE.toml; the list of tables if left out."),
    ] = None,
    published: Annotated[
        bool, typer.Option("--published", help="Print the paper's numbers alone; they need no data.")
    ] = False,
    wide: Annotated[
        bool,
        typer.Option("--wide", help="Every group of columns; csv, jsonl: a row for each row of the table."),
    ] = False,
    suite: Annotated[
        str, typer.Option(help="paper, mini or a FILE.toml: data and model.", rich_help_panel=MEASURING)
    ] = "paper",
    data: Annotated[
        Path | None,
        typer.Option(
            envvar="LSN_DATA", help="Folder of SET/CLASS/FILE or SET.tar.", rich_help_panel=MEASURING
        ),
    ] = None,
    rows: Annotated[
        list[str] | None,
        typer.Option(help="Name of a row, repeatable; all if left out.", rich_help_panel=MEASURING),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="How many. (the suite's)", rich_help_panel=MEASURING)
    ] = None,
    splits: Annotated[
        int | None,
        typer.Option(min=1, help="At most so many class splits. (all)", rich_help_panel=MEASURING),
    ] = None,
    mode: Annotated[
        str, typer.Option(help="Preset of all prompts. (the suite's)", rich_help_panel=MEASURING)
    ] = "",
    model: Annotated[
        str, typer.Option(help="As lsn extract takes it. (the suite's)", rich_help_panel=MEASURING)
    ] = "",
    jobs: Annotated[int, typer.Option(min=1, help="Processes.", rich_help_panel=MEASURING)] = 1,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show what would be done and its cost.", rich_help_panel=MEASURING),
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
    """Measure a table of the LSN paper on a suite and show it beside the published numbers, in percent.

    What is measured is kept: a run that was interrupted goes on, and the same again is instant. Numbers that
    cannot be had say why, and which command fills them in. csv and jsonl hold one number a row.
    """
    from lsncli.bench.tables import listing

    if table is None:
        render(listing(), LISTING, format, output)
        return
    if published:
        _show_published(table, wide, format, output)
        return
    from lsncli.bench.measured import measured
    from lsncli.bench.show import show
    from lsncli.bench.suitefile import load_suite, read_table
    from lsncli.bench.view import COSTS, costs

    chosen = load_suite(suite)
    spec = read_table(Path(table), chosen) if table.endswith(".toml") else chosen.table(table)
    found, plan = measured(
        chosen,
        spec,
        named=(suite, table),
        work=work,
        data=data,
        rows=rows or (),
        seeds=seeds,
        splits=splits,
        mode=mode,
        model=model,
        pretrained=pretrained,
        device=device,
        batch_size=options.images_at_once(batch_size, device),
        workers=options.threads(workers),
        jobs=jobs,
        dry=dry_run,
        quiet=quiet,
    )
    if dry_run:
        render(costs(plan), COSTS, format, output, f"Table {spec.key} on the suite '{chosen.name}'")
        return
    show(found, format, output, wide_rows=wide)
    if not any(cell.n for cells in found.rows.values() for cell in cells.values()):
        say(f"Nothing was measured. `lsn datasets --suite {suite}` says what is needed.", quiet=quiet)


def _show_published(text: str, wide: bool, format: options.FormatName, output: Path | None) -> None:
    from lsncli.bench.render import render_table

    if not text.isdecimal():
        known = ", ".join(map(str, facts.NUMBERS))
        raise UsageError(f"--table: expected the number of a published table ({known}), found '{text}'.")
    if wide and format not in ("csv", "jsonl"):
        raise UsageError(
            f"--wide shapes the rows of csv and jsonl here, found --format {format}.", "Leave it out."
        )
    render_table(facts.table(int(text)), format, output, wide_rows=wide)
