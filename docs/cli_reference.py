"""Write docs/cli.md from the commands themselves: ``make docs``, or ``python docs/cli_reference.py``.

Names, defaults and help come from the commands as Typer built them, types from the functions' annotations:
Typer's own words for types change from release to release, and the page must not.
"""

import inspect
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from typer.main import get_command

from lsncli.cli.app import app

PAGE = Path(__file__).with_name("cli.md")
TYPER_OWN = {"install_completion": bool, "show_completion": bool}
"""Options of the program that are no arguments of a function of ours."""
WORDS: dict[object, str] = {int: "N", float: "X", str: "TEXT", Path: "PATH"}

HEAD = """\
# Every command and option

Written by `make docs` from the commands: change the help in `lsncli/cli/`, not this page.
`lsn COMMAND --help` says the same. The [guide](guide.md) shows how they work together, with the exit codes.

An option comes from the flag, else from the environment (`LSN_COMMAND_OPTION`, such as
`LSN_SCORE_BATCH_SIZE=64`; some have a shorter name for all commands, given with them), else from `lsn.toml`,
else it has its default:

```toml
device = "cpu"          # at the top: for every command that has the option
[score]                 # for one command; [store.import] for a command of a group
batch-size = 64
```

The file is `--config FILE`, else `LSN_CONFIG`, else `lsn.toml` in the current folder. One that was only
found there may not set options that write or reach out of the folder: paths that are written (`work`,
`output`, `move`, ...), `follow-links` and `ray-address`. What it sets, and what is not used, is said on
stderr.
"""


def commands(command: Any = None, name: str = "lsn") -> Iterator[tuple[str, Any]]:
    """Every command with its full name, groups before what is in them."""
    command = get_command(app) if command is None else command
    yield name, command
    for word, inside in getattr(command, "commands", {}).items():
        yield from commands(inside, f"{name} {word}")


def reference() -> str:
    """The whole page."""
    known = list(commands())
    rows = [
        f"| [{name}](#{name.replace(' ', '-')}) | {cell(paragraphs(one)[0])} |"
        for name, one in known
        if not hasattr(one, "commands")
    ]
    parts = [HEAD, "\n".join(["| command | what it does |", "|---|---|", *rows]) + "\n"]
    return "\n".join([*parts, *(section(name, one) for name, one in known)])


def section(name: str, command: Any) -> str:
    """Usage, description, arguments and options of one command."""
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option"]
    usage = " ".join([name, *(["[OPTIONS]"] if options else []), *(shown(one) for one in arguments)])
    if hasattr(command, "commands"):
        usage += " COMMAND ..."
    parts = [f"## {name}\n", f"```text\n{usage}\n```\n", *(f"{text}\n" for text in paragraphs(command))]
    if arguments:
        rows = [f"| `{shown(one)}` | {cell(one.help or '')} |" for one in arguments]
        parts.append("\n".join(["| argument | what it is |", "|---|---|", *rows]) + "\n")
    types_of = hints(command)
    for panel in dict.fromkeys(one.rich_help_panel for one in options):
        rows = [row(one, types_of[one.name]) for one in options if one.rich_help_panel == panel]
        if panel:
            parts.append(f"{panel}:\n")
        parts.append("\n".join(["| option | default | what it does |", "|---|---|---|", *rows]) + "\n")
    return "\n".join(parts)


def paragraphs(command: Any) -> list[str]:
    """The description, a line a paragraph."""
    text = inspect.cleandoc(command.help or "")
    return [" ".join(block.split()) for block in text.split("\n\n")]


def hints(command: Any) -> dict[str, object]:
    """The type of each parameter of a command, without None and without what Typer is told."""
    if command.callback is None:
        return dict(TYPER_OWN)
    return TYPER_OWN | {name: plain(hint) for name, hint in get_type_hints(command.callback).items()}


def plain(hint: object) -> object:
    """``str`` for ``str | None``."""
    if get_origin(hint) in (Union, types.UnionType):
        return next(one for one in get_args(hint) if one is not type(None))
    return hint


def shown(argument: Any) -> str:
    """``[PATH]...`` for any number of paths."""
    name = argument.metavar or argument.name.upper()
    name = name if argument.required else f"[{name}]"
    return f"{name}..." if argument.nargs == -1 else name


def row(option: Any, hint: object) -> str:
    """One line of a table of options."""
    names = ", ".join(option.opts)
    if option.secondary_opts:
        names += " / " + ", ".join(option.secondary_opts)
    takes = value(option, hint)
    code = f"{names} {takes}" if takes else names
    about = cell(option.help or "")
    if get_origin(hint) is list and "repeatable" not in about.lower():
        about += " Repeatable."
    limits = option if hasattr(option, "max") else option.type  # before typer 0.29 the type has them
    least, most = getattr(limits, "min", None), getattr(limits, "max", None)
    if most is not None:
        about += f" From {least} to {most}."
    elif least:
        about += f" At least {least}."
    if option.envvar:
        about += f" (`{option.envvar}`)"
    elif not option.allow_from_autoenv:
        about += " (Never from the environment or `lsn.toml`.)"
    return f"| `{code.replace('|', chr(92) + '|')}` | {default(option)} | {about} |"


def value(option: Any, hint: object) -> str:
    """What an option takes: its metavar, else its choices, else a word for its type and its bounds."""
    hint = get_args(hint)[0] if get_origin(hint) is list else hint
    if option.metavar:
        return str(option.metavar)
    if hint is bool:
        return ""
    if get_origin(hint) is Literal:
        return "|".join(str(one) for one in get_args(hint))
    return WORDS[hint]


def default(option: Any) -> str:
    """The default as it would be typed; of a pair of switches the one that holds; blank for none."""
    if option.required:
        return "required"
    if option.secondary_opts and option.default is not None:
        return f"`{(option.opts if option.default else option.secondary_opts)[0]}`"
    if option.default is None or option.default is False or option.default == "":
        return ""
    return f"`{option.default}`"


def cell(text: str) -> str:
    """Plain text in a table: nothing of it is Markdown, but `code` stays code."""
    pieces = " ".join(text.split()).split("`")
    for number in range(0, len(pieces), 2):
        for mark in "*<":
            pieces[number] = pieces[number].replace(mark, f"\\{mark}")
    return "`".join(pieces).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
