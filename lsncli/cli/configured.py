"""What ``lsn.toml`` sets for a command, and what it may not set because it was found and not named.

Whoever fills a folder can put an ``lsn.toml`` into it. Options of paths that are written, and others that
reach out of the folder, are taken only from a file that the user named.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import typer
from typer.core import TyperCommand

from lsncli.console import printable, say

ONLY_READ = "only read"
"""Marks, in ``Annotated``, an option whose path is never written."""
REACHES_OUT = "reaches out"
"""Marks an option that is no path and yet reaches out of the folder."""
FOUND = "lsncli.found"


@dataclass(frozen=True)
class ConfigFile:
    """A file of options that was found: its name, and by command what it sets and must not."""

    file: str
    withheld: Mapping[str, Any]


class Configured(TyperCommand):
    """A command that says what a file that was found sets for it."""

    def invoke(self, ctx: Any) -> Any:
        """Say it, then run."""
        found = ctx.meta.get(FOUND)
        if found is not None:
            _announce(ctx, found)
        return super().invoke(ctx)


def needs_named_file(command: Any) -> set[str]:
    """The options of a command that only a named file may set: paths, unless marked as ``ONLY_READ``, and
    those marked with ``REACHES_OUT``."""
    if command.callback is None:
        return set()
    hints = get_type_hints(command.callback, include_extras=True)
    options = {one.name for one in command.params if one.param_type_name == "option"}
    return {
        name
        for name, hint in hints.items()
        if name in options
        and ((Path in _parts(hint) and ONLY_READ not in _parts(hint)) or REACHES_OUT in _parts(hint))
    }


def without_withheld(
    spread: Mapping[str, Any], protected: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a found file may set by command, and what it must not; ``protected`` are names by command."""
    taken: dict[str, Any] = {}
    withheld: dict[str, Any] = {}
    for command, values in spread.items():
        names = protected[command]
        if isinstance(names, Mapping):
            taken[command], withheld[command] = without_withheld(values, names)
        else:
            taken[command] = {name: value for name, value in values.items() if name not in names}
            withheld[command] = sorted(values.keys() & names)
    return taken, withheld


def _announce(context: typer.Context, found: ConfigFile) -> None:
    sources = {
        name: source.name
        for name in context.params
        if (source := context.get_parameter_source(name)) is not None
    }
    withheld: Any = found.withheld
    for name in context.command_path.split()[1:]:
        withheld = withheld[name]
    taken = _listed(name for name, source in sources.items() if source == "DEFAULT_MAP")
    missed = _listed(name for name in withheld if sources.get(name) not in ("COMMANDLINE", "ENVIRONMENT"))
    file = printable(found.file)
    said = [f"Options from {file}: {taken}."] * bool(taken)
    if missed:
        said.append(
            f"Not used from {file}, which was found and not named: {missed} "
            f"(take them by lsn --config {file})."
        )
    if said:
        say(" ".join(said), quiet=bool(context.params.get("quiet")) and not missed)


def _listed(names: Iterator[str]) -> str:
    return ", ".join(sorted(name.replace("_", "-") for name in names))


def _parts(hint: Any) -> set[Any]:
    """A type, all that it is made of, and what it is annotated with."""
    parts: set[Any] = set()
    todo = [hint]
    while todo:
        one = todo.pop()
        if isinstance(one, type | str):
            parts.add(one)
        todo += [
            *get_args(one),
            *(text for text in getattr(one, "__metadata__", ()) if isinstance(text, str)),
        ]
    return parts
