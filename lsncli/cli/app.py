"""The ``lsn`` program: registers the commands, reads the configuration, turns errors into exit codes."""

import gc
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from lsncli import __version__, console
from lsncli.cli import (
    bench,
    calibrate,
    candidates,
    catalogue,
    datasets,
    demo,
    evaluate,
    explain,
    extract,
    interrupts,
    negation,
    report,
    score,
    select,
    sorting,
    store,
    train_clipn,
    train_head,
    train_prompts,
    watch,
    words,
)
from lsncli.cli.configured import FOUND, ConfigFile, Configured, needs_named_file, without_withheld
from lsncli.cli.help_page import Group
from lsncli.config import FILE, defaults, read_config
from lsncli.device import DeviceWarning
from lsncli.errors import LsnError, first_sentence
from lsncli.signals import noticed, terminable, terminated
from lsncli.store import NO_VERIFY

DEBUG = "LSN_DEBUG"
LESS_MEMORY = (
    "Use a smaller --batch-size or --device cpu, or end other programs. Finished work is kept: the same "
    "command continues it."
)
"""What to do where memory ran out and no command says something better."""
COLLECTED_EVERY = 50_000
"""Objects between two searches for garbage: Python's 700 make them a seventh of the time to import torch."""

ABOUT = """Find the images that do not belong: OOD detection with CLIP and learned prompts.

Examples:
    lsn demo
    lsn score ./new --classes "cat,dog,truck"
    lsn extract ./known; lsn train-pos; lsn train-neg; lsn score ./new
"""

app = typer.Typer(
    name="lsn",
    cls=Group,
    help=ABOUT,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "LSN"},
)
COMMANDS: dict[str, dict[str, Callable[..., None]]] = {
    "Start": {
        "demo": demo.demo,
        "models": catalogue.models,
        "methods": catalogue.methods,
        "words": words.words,
    },
    "Features": {"extract": extract.extract, "datasets": datasets.datasets},
    "Learning": {
        "train-pos": train_prompts.train_pos,
        "train-neg": train_prompts.train_neg,
        "train-head": train_head.train_head,
        "train-no": train_clipn.train_no,
        "candidates": candidates.candidates,
        "select": select.select,
        "calibrate": calibrate.calibrate,
    },
    "Detecting": {"score": score.score, "watch": watch.watch, "undo": sorting.undo, "report": report.report},
    "Measuring": {"eval": evaluate.evaluate, "bench": bench.bench},
    "Looking closer": {"explain": explain.explain, "not": negation.understands_not},
}
"""The commands by the panel of ``lsn --help`` that lists them."""
for panel, commands in COMMANDS.items():
    for name, command in commands.items():
        app.command(name, cls=Configured, rich_help_panel=panel)(command)
app.add_typer(store.app, name="store", rich_help_panel="Stores")

WELCOME = """\
lsn finds the images that do not belong, with CLIP and learned prompts.
  Demo:     lsn demo
  Names:    lsn score ./new --classes "cat,dog,truck"
  Folders:  lsn extract ./known; lsn train-pos; lsn train-neg; lsn score ./new
  Help:     lsn --help, and lsn COMMAND --help"""
"""Printed without a command."""


def _version(value: bool) -> None:
    if value:
        console.out.print(f"lsn {__version__}")
        raise typer.Exit


@app.callback()
def settings(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option(envvar="LSN_CONFIG", help="Options file; ./lsn.toml if it exists.")
    ] = None,
    debug: Annotated[
        bool, typer.Option("--debug", envvar=DEBUG, help="Show a traceback with every error.")
    ] = False,
    no_verify: Annotated[
        bool,
        typer.Option(
            "--no-verify", envvar=NO_VERIFY, help="Read stores without comparing them with their checksums."
        ),
    ] = False,
    version: Annotated[  # noqa: ARG001 - its callback prints it
        bool,
        typer.Option(
            "--version",
            callback=_version,
            is_eager=True,
            allow_from_autoenv=False,
            help="Print the version.",
        ),
    ] = False,
) -> None:
    """Every option can also be set by LSN_COMMAND_OPTION in the environment or by lsn.toml."""
    if context.invoked_subcommand is None:
        console.out.print(WELCOME, highlight=False, soft_wrap=True)
        return
    interrupts.begin(context.invoked_subcommand)
    if debug:
        os.environ[DEBUG] = "1"
    if no_verify:
        os.environ[NO_VERIFY] = "1"
    options = read_config(config)
    by_command = defaults(options, _option_names(context.command), str(config or FILE))
    if options and config is None:
        by_command, withheld = without_withheld(by_command, _tree(context.command, needs_named_file))
        context.meta[FOUND] = ConfigFile(FILE, withheld)
    context.default_map = by_command


def _option_names(command: Any) -> Any:
    """Return the options of each command for ``config.defaults``, without those to type each time (--yes)."""
    return _tree(
        command,
        lambda each: {
            parameter.name
            for parameter in each.params
            if parameter.param_type_name == "option" and parameter.allow_from_autoenv
        },
    )


def _tree(command: Any, names: Callable[[Any], set[str]]) -> Any:
    """Return ``names`` of each command in a mapping, with a nested mapping for each group of commands."""
    if hasattr(command, "commands"):
        return {name: _tree(inside, names) for name, inside in command.commands.items()}
    return names(command)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run ``lsn`` and exit.

    The exit code is 0, that of the error that ended it, 130 (Ctrl-C), 143 (SIGTERM) or 141 (a closed pipe).
    """
    try:
        _run(argv)
    except SystemExit as stop:
        code = stop.code
    sys.exit(interrupts.PIPE_CLOSED if console.flush_fails() else code)


def _run(argv: Sequence[str] | None) -> NoReturn:
    """Run ``lsn`` and raise SystemExit, before the last output is flushed."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal or a pipe that is not UTF-8 gets escapes
            stream.reconfigure(errors="backslashreplace")
    gc.set_threshold(COLLECTED_EVERY)
    interrupts.begin(None)
    try:
        with terminable(), noticed() as signalled, device_warnings():
            app(args=list(sys.argv[1:] if argv is None else argv), prog_name="lsn")
    except KeyboardInterrupt:
        sys.exit(interrupts.exit_code())
    except SystemExit as stop:
        if stop.code == interrupts.CODE:
            sys.exit(interrupts.exit_code())
        raise
    except Exception as error:
        if signalled or terminated():
            sys.exit(interrupts.exit_code())
        if os.environ.get(DEBUG):
            console.say(traceback.format_exc().rstrip())
        described = _describe_error(error)
        console.say(f"Error: {console.printable(described.message)}", style="bold red")
        if described.hint:
            console.say(console.printable(described.hint))
        sys.exit(described.exit_code)
    sys.exit(0)


@contextmanager
def device_warnings() -> Iterator[None]:
    """Print a DeviceWarning of the block as a remark, without the line of code that other warnings have."""
    show = warnings.showwarning

    def shown(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, DeviceWarning):
            console.say(console.printable(f"Warning: {message}"), style="yellow")
        else:
            show(message, category, *where, **more)

    warnings.showwarning = shown
    try:
        yield
    finally:
        warnings.showwarning = show


def _describe_error(error: Exception) -> LsnError:
    """Return the message, the hint and the exit code for an error that ends the program."""
    if isinstance(error, LsnError):
        return error
    if isinstance(error, OSError) and error.filename and error.strerror:  # such as a folder that is locked
        return LsnError(f"{error.filename} cannot be used: {error.strerror}.")
    from lsncli.memory import out_of_memory

    if out_of_memory(error):
        return LsnError(f"There is not enough memory: {first_sentence(error)}", LESS_MEMORY)
    return LsnError(f"Unexpected {type(error).__name__}: {error}", "This is a bug in lsn; see --debug.")
