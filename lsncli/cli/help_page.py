"""The page that ``--help`` prints: a sentence, examples, options by panel, and the environment variables.

``docs/cli_reference.py`` writes docs/cli.md from the same descriptions. Typer's own page repeats a type and a
variable for each option, which leaves a third of a terminal for what the option does.
"""

import inspect
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from rich.panel import Panel
from rich.text import Text
from typer.core import TyperCommand, TyperGroup

from lsncli.cli.interrupts import ending_with_the_pipe
from lsncli.console import out, printable
from lsncli.errors import did_you_mean

EXAMPLES = "Examples:"
"""The first line of the paragraph of a docstring that holds examples, one a line."""
OPTIONS_PANEL, OUTPUT_PANEL, ADVANCED = "Options", "Output", "Advanced"
"""Panels: what most people need comes first, then output; what few need is last."""
WIDEST = 100
LEFT = 26
"""Longest option that leaves room for its description on the same line."""
TYPER_OWN = {"install_completion": bool, "show_completion": bool, "help": bool, "verbose": bool}
"""Options that are no arguments of a function of ours."""
WORDS: dict[object, str] = {int: "N", float: "X", str: "TEXT", Path: "PATH"}


@dataclass(frozen=True)
class Description:
    """The docstring of a command: its first sentence, its examples, and the paragraphs that follow."""

    summary: str
    examples: list[str]
    more: list[str]


def describe(command: Any) -> Description:
    """Split the docstring of a command."""
    summary, *blocks = inspect.cleandoc(command.help or "").split("\n\n")
    examples = [block for block in blocks if block.startswith(EXAMPLES)]
    more = [" ".join(block.split()) for block in blocks if block not in examples]
    lines = [line.strip() for block in examples for line in block.splitlines()[1:]]
    return Description(" ".join(summary.split()), lines, more)


def hints(command: Any) -> dict[str, object]:
    """Return the type of each parameter of a command, without None and without what Typer is told."""
    if command.callback is None:
        return dict(TYPER_OWN)
    return TYPER_OWN | {name: plain(hint) for name, hint in get_type_hints(command.callback).items()}


def plain(hint: object) -> object:
    """Return ``str`` for ``str | None``."""
    if get_origin(hint) in (Union, types.UnionType):
        return next(one for one in get_args(hint) if one is not type(None))
    return hint


def shown_argument(argument: Any) -> str:
    """Return an argument as usage lines have it, such as ``[PATH]...`` for any number of paths."""
    name = argument.metavar or argument.name.upper()
    name = name if argument.required else f"[{name}]"
    return f"{name}..." if argument.nargs == -1 else name


def usage(command: Any, path: str) -> str:
    """Return the usage line of a command."""
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = ["[OPTIONS]"] if len(command.params) > len(arguments) else []
    inside = ["COMMAND ..."] if hasattr(command, "commands") else []
    return " ".join([path, *options, *map(shown_argument, arguments), *inside])


def takes(option: Any, hint: object) -> str:
    """Return what an option takes: its metavar, else its choices, else a word; empty for a switch."""
    hint = get_args(hint)[0] if get_origin(hint) is list else hint
    if option.metavar:
        return str(option.metavar)
    if hint is bool:
        return ""
    if get_origin(hint) is Literal:
        return "|".join(str(one) for one in get_args(hint))
    return WORDS[hint]


def default(option: Any) -> str:
    """Return the default in words or as it is typed; of a pair of switches the one that holds."""
    if option.required:
        return ""
    if isinstance(option.show_default, str):
        return str(option.show_default)
    if option.secondary_opts and option.default is not None:
        return str((option.opts if option.default else option.secondary_opts)[0])
    if option.default is None or option.default is False or option.default == "":
        return ""
    return str(option.default)


def about(option: Any, hint: object) -> str:
    """Return what an option does."""
    text = " ".join((option.help or "").split())
    return f"{text} Repeatable." if get_origin(hint) is list and "repeatable" not in text else text


def panels(command: Any) -> dict[str, list[Any]]:
    """Return the options of a command by panel: what most need, output, subjects, the rest."""
    shown = [one for one in command.params if one.param_type_name == "option" and not one.hidden]
    found: dict[str, list[Any]] = {OPTIONS_PANEL: [], OUTPUT_PANEL: []}
    for option in shown:
        found.setdefault(option.rich_help_panel or OPTIONS_PANEL, []).append(option)
    if ADVANCED in found:
        found[ADVANCED] = found.pop(ADVANCED)
    return {name: options for name, options in found.items() if options}


def variables(command: Any, path: str) -> str:
    """Return a sentence that names the environment variables of a command; empty if it has none."""
    options = [one for one in command.params if one.param_type_name == "option" and one.allow_from_autoenv]
    named = ", ".join(str(one.envvar) for one in options if one.envvar)
    if hasattr(command, "commands"):
        return f"Options can also be set by {named}." if named else ""
    own = next((one.name for one in options if not one.envvar), None)
    shared = f"for all commands {named}" if named else ""
    if own is not None:
        variable = "_".join([*path.split(), own]).replace("-", "_").upper()
        named = f"a variable such as {variable}" + (f" ({shared})" if shared else "")
    return f"Options can also be set by {named} or in lsn.toml: see docs/cli.md." if named else ""


def print_help(command: Any, context: Any) -> None:
    """Print the help of a command or a group of commands."""
    described, path = describe(command), context.command_path
    for text in (Text(described.summary, "bold"), Text(f"Usage: {usage(command, path)}")):
        out.print(text, width=_width(), end="\n\n")
    if described.examples:
        _print_panel("Examples", [_example(line) for line in described.examples])
    for paragraph in described.more:
        out.print(Text(paragraph), width=_width(), end="\n\n")
    rows: dict[str, list[tuple[str, str, str]]] = {}
    for name, inside in getattr(command, "commands", {}).items():
        rows.setdefault(inside.rich_help_panel or "Commands", []).append((name, describe(inside).summary, ""))
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    if arguments:
        rows["Arguments"] = [(shown_argument(one), one.help or "", "") for one in arguments]
    types_of = hints(command)
    for panel, options in panels(command).items():
        rows[panel] = [
            (_left(one, types_of[one.name]), about(one, types_of[one.name]), default(one)) for one in options
        ]
    rows.setdefault(OPTIONS_PANEL, []).append(("--help, -h", "Show this page.", ""))
    commands = {one.rich_help_panel or "Commands" for one in getattr(command, "commands", {}).values()}
    for panel, lines in rows.items():
        kind = [lines for name, lines in rows.items() if (name in commands) == (panel in commands)]
        lefts = [len(left) for lines in kind for left, *_ in lines]  # aligned in all panels of the kind
        column = max(length for length in lefts if length <= min(LEFT, _width() // 3))
        _print_panel(panel, [text for line in lines for text in _row(*line, column)])
    if line := variables(command, path):
        out.print(Text(line, "dim"), width=_width())


def _left(option: Any, hint: object) -> str:
    names = "/".join([", ".join(option.opts), *option.secondary_opts])
    return f"{names} {takes(option, hint)}".rstrip()


def _width() -> int:
    return min(out.width, WIDEST)


def _example(line: str) -> Text:
    command, mark, comment = line.partition("  #")
    return Text.assemble((command, "cyan"), (mark + comment, "dim"))


def _row(left: str, help: str, default: str, column: int) -> Iterator[Text]:
    """Yield the lines of an option; one whose name is too long has its description below it."""
    words = Text(help)
    if default:
        words.append(" " * bool(help)).append(f"[default: {default}]", "dim")
    lines = list(words.wrap(out, max(_width() - column - 6, 20))) or [Text()]
    name = Text(left, style="cyan")
    if len(left) > column:
        yield name
        name = Text()
    for line in lines:
        yield Text.assemble(name, " " * (column + 2 - len(name)), line)
        name = Text()


def _print_panel(title: str, lines: list[Text]) -> None:
    text = Text("\n").join(lines)
    out.print(Panel(text, title=title, title_align="left", border_style="dim", width=_width()))


def refuse_unknown(command: Any, context: Any, error: Exception) -> None:
    """Fail with the options that are nearest to an unknown one; return if ``error`` is about anything else.

    The list of the parser is sorted by name, and longer.
    """
    if getattr(error, "possibilities", None) is None:
        return
    known = [one for option in command.params for one in (*option.opts, *option.secondary_opts)]
    name = str(getattr(error, "option_name", ""))
    question = did_you_mean(name, [one for one in (*known, "--help") if one.startswith("--")])
    context.fail(f"No such option: {printable(name)}. {question}".rstrip())


class Helpful:
    """What commands and groups share: this help, and the nearest options to an unknown one."""

    def parse_args(self, ctx: Any, args: Any) -> Any:
        """Parse the arguments."""
        try:
            return super().parse_args(ctx, args)  # type: ignore[misc]
        except Exception as error:
            refuse_unknown(self, ctx, error)
            raise

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help."""
        print_help(self, ctx)


class HelpfulCommand(Helpful, TyperCommand):
    """A command with this help."""


class Group(Helpful, TyperGroup):
    """A group of commands with this help, whose commands end when the reader of their output is gone."""

    def resolve_command(self, ctx: Any, args: Any) -> Any:
        """Find the command; fail with the nearest ones if there is none."""
        name = args[0]
        if name not in self.commands and not name.startswith("-") and not ctx.resilient_parsing:
            ctx.fail(f"No such command '{printable(name)}'. {did_you_mean(name, self.commands)}".rstrip())
        return super().resolve_command(ctx, args)

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """Parse the arguments; help is printed here."""
        with ending_with_the_pipe():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        with ending_with_the_pipe():
            return super().invoke(ctx)
