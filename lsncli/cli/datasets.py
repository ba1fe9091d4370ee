"""``lsn datasets``: list the image sets that the tables need, and check those that are present."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lsncli.cli import options
from lsncli.cli.configured import ONLY_READ
from lsncli.console import printable, progress_bar, say
from lsncli.errors import LsnError, UsageError
from lsncli.report.formats import FORMATS, Column, render

if TYPE_CHECKING:
    from lsncli.bench.suite import Suite
    from lsncli.evaluation.dataset_check import Verified
    from lsncli.reference.datasets import Dataset

NEEDED = [
    Column("set", "Set"),
    Column("title", "What it is", wide=True),
    Column("images", "Images", digits=0),
    Column("classes", "Classes", digits=0),
    Column("tables", "Tables", wide=True, detail=True),
    Column("found", "Found"),
]
MORE = [
    Column("path", "Path"),
    Column("per_class", "Per class", digits=0),
    Column("source", "Source"),
    Column("address", "Address"),
    Column("layout", "Layout"),
    Column("note", "Note"),
]
"""Columns for programs; people get this text below the table."""

CHECKED = [
    Column("set", "Set", identifies=True),
    Column("what", "What", wide=True, identifies=True),
    Column("expected", "Expected"),
    Column("found", "Found", wide=True),
    Column("ok", "As expected"),
]
SHOWN = 10
"""Most differences of one set in output for people; programs get all."""


@dataclass(frozen=True, kw_only=True)
class DatasetsOptions:
    """The options of `lsn datasets`."""

    action: Annotated[
        Literal["list", "verify"],
        typer.Argument(
            help="list: what is needed, found and missing. verify: count images and classes of what is there."
        ),
    ] = "list"
    suite: Annotated[str, typer.Option(help="paper, mini or a FILE.toml.")] = "paper"
    data: Annotated[Path, ONLY_READ, typer.Option(envvar="LSN_DATA", help="Folder of the image sets.")] = (
        Path("data")
    )
    only: Annotated[
        list[str] | None, typer.Option("--set", help="Only this set; repeatable.", show_default="all")
    ] = None
    format: options.Format = "table"
    output: options.Output = None
    wide: options.Wide = False
    quiet: options.Quiet = False


@options.command(DatasetsOptions)
def datasets(arguments: DatasetsOptions) -> None:
    """List the image sets that a suite's tables need, or check what is there.

    Examples:
        lsn datasets --data ./datasets
        lsn datasets verify --data ./datasets
        lsn datasets --suite mini

    `lsn datasets verify` opens no image: it counts files in folders and tars, lists every difference, and
    exits with 1 if there is one.
    """
    from lsncli.bench.suite_toml import load_suite

    loaded, only = load_suite(arguments.suite), arguments.only or ()
    for name in only:
        if name not in loaded.sets:
            known = ", ".join(loaded.sets)
            raise UsageError(
                f"--set: the suite '{loaded.name}' has no set '{name}'.", f"Expected one of {known}."
            )
    sets = [dataset for name, dataset in loaded.sets.items() if not only or name in only]
    if arguments.action == "verify":
        _verify(sets, arguments)
    else:
        _list(sets, loaded.tables_by_set(), _bundled(loaded), arguments)


def _bundled(suite: "Suite") -> Collection[str]:
    """Return the sets whose features come with the suite."""
    if suite.features is None:
        return ()
    from lsncli.store.reader import list_splits

    return list_splits(suite.features)


def _list(
    sets: "Sequence[Dataset]",
    tables: dict[str, tuple[str, ...]],
    bundled: Collection[str],
    arguments: DatasetsOptions,
) -> None:
    """Print the needed sets, where each was found, and how to obtain the missing ones."""
    from lsncli.evaluation.dataset_check import locate

    quiet, data = arguments.quiet, arguments.data
    layouts = {dataset.name: locate(data, dataset) for dataset in sets}
    rows = []
    for dataset in sets:
        layout = layouts[dataset.name]
        absent = "features" if dataset.name in bundled else "missing"
        row = {
            "set": dataset.name,
            "tables": ", ".join(tables[dataset.name]),
            "found": layout.description if layout else absent,
        }
        rows.append(vars(dataset) | row | {"path": str(layout.path) if layout else ""})
    people = FORMATS[arguments.format].people
    columns = NEEDED if people else [*NEEDED, *MORE]
    render(rows, columns, arguments.format, arguments.output, wide=arguments.wide)
    for dataset in sets:
        layout = layouts[dataset.name]
        if layout is not None and layout.path.stem != dataset.name:
            say(
                f"{dataset.name}: found at {printable(str(layout.path))} ({layout.description}).", quiet=quiet
            )
    missing = [dataset for dataset in sets if layouts[dataset.name] is None and dataset.name not in bundled]
    for dataset in missing:
        origin = "; ".join(filter(None, [dataset.source, dataset.address]))
        for line in filter(None, [origin, dataset.layout]):
            say(f"{dataset.name}: {printable(line)}", quiet=quiet)
    if bundled:
        say("features: they came with the suite, and no images are needed to measure them.", quiet=quiet)
    if missing:
        say(
            f"{len(missing)} of {len(sets)} sets are not in {printable(str(data))} (--data or LSN_DATA), "
            "where each is laid out as above, a folder SET/CLASS/FILE, or an uncompressed SET.tar of that.",
            quiet=quiet,
        )


def _verify(sets: "Sequence[Dataset]", arguments: DatasetsOptions) -> None:
    """Count images and classes of the present sets. Raises LsnError for a difference, or without sets."""
    from lsncli.evaluation.dataset_check import locate, verify

    quiet, data = arguments.quiet, arguments.data
    layouts = [(dataset, locate(data, dataset)) for dataset in sets]
    present = [(dataset, layout) for dataset, layout in layouts if layout is not None]
    missing = [dataset.name for dataset, layout in layouts if layout is None]
    if not present:
        raise LsnError(
            f"None of the {len(sets)} sets is in {data}.",
            "Name the folder of the images with --data DIR or LSN_DATA; lsn datasets says what goes there.",
        )
    checked = []
    with progress_bar("counting", len(present), quiet=quiet) as progress:
        for dataset, layout in present:
            checked.append(verify(dataset, layout))
            progress(1, dataset.name)
    people = FORMATS[arguments.format].people
    rows = [row for result in checked for row in _rows(result, SHOWN if people else None)]
    render(rows, CHECKED, arguments.format, arguments.output)
    if missing:
        say(f"Not there, so not verified: {', '.join(missing)}.", quiet=quiet)
    wrong = [result for result in checked if not result.ok]
    if wrong:
        count = sum(not finding.ok for result in wrong for finding in result.findings)
        names = ", ".join(result.dataset.name for result in wrong)
        raise LsnError(
            f"{count} difference{'s' if count > 1 else ''} in {len(wrong)} of {len(checked)} sets: {names}.",
            "--format csv lists every one; lsn datasets says how sets are laid out.",
        )
    say(f"All {len(checked)} sets are as expected.", quiet=quiet)


def _rows(result: "Verified", limit: int | None) -> list[dict[str, Any]]:
    """Return a row for each finding; beyond ``limit`` differences, one row with the number of others."""
    wrong = [finding for finding in result.findings if not finding.ok]
    hidden = wrong[len(wrong) if limit is None else limit :]
    rows = [
        vars(finding) | {"set": result.dataset.name} for finding in result.findings if finding not in hidden
    ]
    if hidden:
        more = f"{len(hidden)} more"
        rows.append({"set": result.dataset.name, "what": more, "expected": None, "found": "", "ok": False})
    return rows
