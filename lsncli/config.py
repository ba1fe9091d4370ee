"""Options from ``lsn.toml``. The order of precedence is: flag, environment, this file, default.

device = "cpu"               # at the top: for every command with this option
[extract]                    # one table per command; [store.import] for a command of a group
model = "mini"
batch-size = 128
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lsncli.errors import UsageError, expected_one_of
from lsncli.validation import read_toml

FILE = "lsn.toml"

Options = Mapping[str, Any]
"""The command tree: the name of a command -> the set of its options, of a group -> such a mapping."""


def read_config(path: Path | None) -> dict[str, Any]:
    """Read the tables of ``path``, or of ``lsn.toml`` in the working folder if there is one.

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
    """Convert a configuration to a ``default_map`` of Typer, which follows the command tree.

    Raises UsageError for a table or key that no command knows, naming ``file`` and the known ones.
    """
    shared = {_key(name): value for name, value in config.items() if not isinstance(value, dict)}
    tables = {name: value for name, value in config.items() if isinstance(value, dict)}
    for name in shared:
        _check(name, _all_options(options), f"{file}: no command has an option")
    return _command_defaults(shared, tables, options, f"{file}: ", "")


def _command_defaults(
    shared: Options, tables: Options, options: Options, file: str, group: str
) -> dict[str, Any]:
    for name in tables:
        _check(name, options, f"{file}there is no command {group}".rstrip())
    defaults_of: dict[str, Any] = {}
    for command, known in options.items():
        table = tables.get(command, {})
        if not isinstance(table, Mapping):
            raise UsageError(
                f"{file}expected a table of options [{group}{command}], found {command} = {table!r}."
            )
        if isinstance(known, Mapping):
            defaults_of[command] = _command_defaults(shared, table, known, file, f"{command}.")
            continue
        own = {_key(name): value for name, value in table.items()}
        for name in own:
            _check(name, known, f"{file}[{group}{command}] has no option")
        defaults_of[command] = {name: value for name, value in shared.items() if name in known} | own
    return defaults_of


def _check(name: str, known: Iterable[str], complaint: str) -> None:
    if name not in known:
        names = sorted(option.replace("_", "-") for option in known)
        typed = name.replace("_", "-")
        raise UsageError(f"{complaint} '{typed}'.", expected_one_of(typed, names))


def _all_options(options: Options) -> set[str]:
    return set().union(
        *(_all_options(known) if isinstance(known, Mapping) else known for known in options.values())
    )


def _key(name: str) -> str:
    return name.replace("-", "_")
