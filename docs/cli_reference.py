"""Write docs/cli.md from the commands themselves: ``make docs``, or ``python docs/cli_reference.py``.

Names, defaults and help come from the commands as Typer built them, types from the functions' annotations:
Typer's own words for types change from release to release, and the page must not.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from lsncli.cli.app import app
from lsncli.cli.help_page import (
    OPTIONS_PANEL,
    about,
    default,
    describe,
    hints,
    panels,
    shown_argument,
    takes,
    usage,
)

PAGE = Path(__file__).with_name("cli.md")

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
        f"| [{name}](#{name.replace(' ', '-')}) | {cell(describe(one).summary)} |"
        for name, one in known
        if not hasattr(one, "commands")
    ]
    parts = [
        HEAD + "\n" + variables(known) + "\n",
        "\n".join(["| command | what it does |", "|---|---|", *rows]) + "\n",
    ]
    return "\n".join([*parts, *(section(name, one) for name, one in known)])


def variables(known: list[tuple[str, Any]]) -> str:
    """A table of the environment variables that set an option of every command that has it."""
    named = {
        str(option.envvar): option.opts[0]
        for _, command in known
        for option in command.params
        if option.param_type_name == "option" and option.envvar
    }
    rows = [f"| `{variable}` | `{option}` |" for variable, option in sorted(named.items())]
    return "\n".join(["| variable | option, of all commands |", "|---|---|", *rows])


def section(name: str, command: Any) -> str:
    """Usage, description, examples, arguments and options of one command."""
    described = describe(command)
    parts = [f"## {name}\n", f"```text\n{usage(command, name)}\n```\n", f"{described.summary}\n"]
    if described.examples:
        parts.append("```sh\n" + "\n".join(described.examples) + "\n```\n")
    parts += [f"{text}\n" for text in described.more]
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    if arguments:
        rows = [f"| `{shown_argument(one)}` | {cell(one.help or '')} |" for one in arguments]
        parts.append("\n".join(["| argument | what it is |", "|---|---|", *rows]) + "\n")
    types_of = hints(command)
    for panel, options in panels(command).items():
        rows = [row(one, types_of[one.name]) for one in options]
        if panel != OPTIONS_PANEL:
            parts.append(f"{panel}:\n")
        parts.append("\n".join(["| option | default | what it does |", "|---|---|---|", *rows]) + "\n")
    return "\n".join(parts)


def row(option: Any, hint: object) -> str:
    """One line of a table of options."""
    names = ", ".join(option.opts)
    if option.secondary_opts:
        names += " / " + ", ".join(option.secondary_opts)
    taken = takes(option, hint)
    code = f"{names} {taken}" if taken else names
    text = cell(about(option, hint))
    limits = option if hasattr(option, "max") else option.type  # before typer 0.29 the type has them
    least, most = getattr(limits, "min", None), getattr(limits, "max", None)
    if most is not None:
        text += f" From {least} to {most}."
    elif least:
        text += f" At least {least}."
    if option.envvar:
        text += f" (`{option.envvar}`)"
    elif not option.allow_from_autoenv:
        text += " (Never from the environment or `lsn.toml`.)"
    return f"| `{code.replace('|', chr(92) + '|')}` | {default_cell(option)} | {text} |"


def default_cell(option: Any) -> str:
    """The default: as code if it can be typed, else in words."""
    if option.required:
        return "required"
    text = default(option)
    return cell(text) if isinstance(option.show_default, str) or not text else f"`{text}`"


def cell(text: str) -> str:
    """Plain text in a table: nothing of it is Markdown, but `code` stays code."""
    pieces = " ".join(text.split()).split("`")
    for number in range(0, len(pieces), 2):
        for mark in "*<[":
            pieces[number] = pieces[number].replace(mark, f"\\{mark}")
    return "`".join(pieces).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
