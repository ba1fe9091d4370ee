"""Options from ``lsn.toml``: a flag wins over the environment, that over this file, that over the default.

device = "cpu"               # at the top: for every command that has such an option
[extract]                    # one table a command; [store.import] for a command of a group
model = "mini"
batch-size = 128
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lsncli.errors import UsageError
from lsncli.validation import read_toml

FILE = "lsn.toml"

Options = Mapping[str, Any]
"""The command tree: a command's name -> the set of its options, a group's name -> such a mapping."""


def read_config(path: Path | None) -> dict[str, Any]:
    """The tables of ``path``, or of ``lsn.toml`` here if there is one, or nothing.

    Raises UsageError if a named file is missing or a file is not TOML.
    """
    if path is None:
        path = Path(FILE)
        if not path.is_file():
            return {}
    try:
        return read_toml(path)
    except OSError as error:
        raise UsageError(f"--config {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise UsageError(f"{path} is not valid TOML: {error}.") from error


def defaults(config: Mapping[str, Any], options: Options, file: str = FILE) -> dict[str, Any]:
    """Spread a configuration over the command tree as Typer's ``default_map`` wants it.

    Raises UsageError for a table or key that no command knows, naming ``file`` and what it could have been.
    """
    shared = {_key(name): value for name, value in config.items() if not isinstance(value, dict)}
    tables = {name: value for name, value in config.items() if isinstance(value, dict)}
    for name in shared:
        _check(name, _every(options), f"{file}: no command has an option")
    return _spread(shared, tables, options, f"{file}: ", "")


def _spread(shared: Options, tables: Options, options: Options, file: str, group: str) -> dict[str, Any]:
    for name in tables:
        _check(name, options, f"{file}there is no command {group}".rstrip())
    spread: dict[str, Any] = {}
    for command, inside in options.items():
        table = tables.get(command, {})
        if not isinstance(table, Mapping):
            raise UsageError(
                f"{file}expected a table of options [{group}{command}], found {command} = {table!r}."
            )
        if isinstance(inside, Mapping):
            spread[command] = _spread(shared, table, inside, file, f"{command}.")
            continue
        own = {_key(name): value for name, value in table.items()}
        for name in own:
            _check(name, inside, f"{file}[{group}{command}] has no option")
        spread[command] = {name: value for name, value in shared.items() if name in inside} | own
    return spread


def _check(name: str, known: Iterable[str], complaint: str) -> None:
    if name not in known:
        shown = ", ".join(sorted(one.replace("_", "-") for one in known))
        raise UsageError(f"{complaint} '{name.replace('_', '-')}'.", f"Expected one of {shown}.")


def _every(options: Options) -> set[str]:
    return set().union(*(_every(o) if isinstance(o, Mapping) else o for o in options.values()))


def _key(name: str) -> str:
    return name.replace("-", "_")
