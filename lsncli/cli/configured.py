"""Commands that report the options they take from ``lsn.toml``, and the options such a file may not set.

Anyone who fills a folder can put an ``lsn.toml`` into it. Options of paths that are written, and others that
reach out of the folder, are therefore taken only from a file that the user named.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import typer
from typer.main import get_command

from lsncli.cli.help_page import OUTPUT_PANEL, HelpfulCommand
from lsncli.console import VERBOSE, printable, say

ONLY_READ = "only read"
"""Marks, in ``Annotated``, an option whose path is only read."""
REACHES_OUT = "reaches out"
"""Marks an option that is not a path but reaches out of the folder."""
FOUND = "lsncli.found"


@dataclass(frozen=True)
class ConfigFile:
    """A configuration file that was found and not named, and the options it must not set, by command."""

    file: str
    withheld: Mapping[str, Any]


def _set_verbose(value: bool) -> None:
    os.environ[VERBOSE] = "1" if value else ""


def _shared(
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose",
            "-v",
            envvar=VERBOSE,
            expose_value=False,
            callback=_set_verbose,
            help="More remarks: seconds by stage, the model's fingerprint, settings of methods.",
            rich_help_panel=OUTPUT_PANEL,
        ),
    ] = False,
) -> None:
    """Declare the option that every command has: nobody reads it but its callback."""


@cache
def _shared_options() -> list[Any]:
    program = typer.Typer(add_completion=False)
    program.command()(_shared)
    return list(get_command(program).params)


class Configured(HelpfulCommand):
    """A command with --verbose that prints which options a configuration file that was found sets for it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.params += _shared_options()

    def invoke(self, ctx: Any) -> Any:
        """Print the options of the configuration file, then run the command."""
        file = ctx.meta.get(FOUND)
        if file is not None:
            _announce(ctx, file)
        return super().invoke(ctx)


def needs_named_file(command: Any) -> set[str]:
    """Return the options of a command that only a named file may set.

    These are paths, unless marked with ``ONLY_READ``, and options marked with ``REACHES_OUT``.
    """
    if command.callback is None:
        return set()
    hints = get_type_hints(command.callback, include_extras=True)
    options = {each.name for each in command.params if each.param_type_name == "option"}
    return {
        name
        for name, hint in hints.items()
        if name in options
        and ((Path in _parts(hint) and ONLY_READ not in _parts(hint)) or REACHES_OUT in _parts(hint))
    }


def without_withheld(
    values_by_command: Mapping[str, Any], protected: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options that a found file may set, and the names of those it must not, both by command.

    ``protected`` are the names of protected options by command.
    """
    taken: dict[str, Any] = {}
    withheld: dict[str, Any] = {}
    for command, values in values_by_command.items():
        names = protected[command]
        if isinstance(names, Mapping):
            taken[command], withheld[command] = without_withheld(values, names)
        else:
            taken[command] = {name: value for name, value in values.items() if name not in names}
            withheld[command] = sorted(values.keys() & names)
    return taken, withheld


def _announce(context: typer.Context, config: ConfigFile) -> None:
    sources = {
        name: source.name
        for name in context.params
        if (source := context.get_parameter_source(name)) is not None
    }
    withheld: Any = config.withheld
    for name in context.command_path.split()[1:]:
        withheld = withheld[name]
    taken = _join(name for name, source in sources.items() if source == "DEFAULT_MAP")
    missed = _join(name for name in withheld if sources.get(name) not in ("COMMANDLINE", "ENVIRONMENT"))
    file = printable(config.file)
    sentences = [f"Options from {file}: {taken}."] * bool(taken)
    if missed:
        sentences.append(
            f"Not used from {file}, which was found and not named: {missed} "
            f"(take them by lsn --config {file})."
        )
    if sentences:
        say(" ".join(sentences), quiet=bool(context.params.get("quiet")) and not missed)


def _join(names: Iterator[str]) -> str:
    return ", ".join(sorted(name.replace("_", "-") for name in names))


def _parts(hint: Any) -> set[Any]:
    """Return a type, its type arguments, and the texts that annotate them."""
    parts: set[Any] = set()
    pending = [hint]
    while pending:
        part = pending.pop()
        if isinstance(part, type | str):
            parts.add(part)
        marks = (text for text in getattr(part, "__metadata__", ()) if isinstance(text, str))
        pending += [*get_args(part), *marks]
    return parts
