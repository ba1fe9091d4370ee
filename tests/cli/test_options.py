"""No option is forgotten: every command reads each of its options, and passes it on."""

import ast
import inspect
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from types import NoneType, SimpleNamespace
from typing import Any, get_args, get_type_hints

import pytest
import typer.main

from lsncli.cli import train_head, train_prompts
from lsncli.cli.app import app
from lsncli.console import silent
from lsncli.training import prompts as train

ROOT = typer.main.get_command(app)


def functions(command: Any = ROOT, name: str = "lsn") -> dict[str, Callable[..., None]]:
    """The function of every command, by what is typed."""
    found = {name: command.callback.__wrapped__} if command.callback else {}
    for key, inside in getattr(command, "commands", {}).items():
        found |= functions(inside, f"{name} {key}")
    return found


def unread(source: str) -> set[str]:
    """Parameters of a function that its body reads nowhere."""
    function = ast.parse(source).body[0]
    assert isinstance(function, ast.FunctionDef)
    named = {each.arg for each in (*function.args.args, *function.args.kwonlyargs)}
    return named - {
        node.id for line in function.body for node in ast.walk(line) if isinstance(node, ast.Name)
    }


def unread_fields(options: type, source: str) -> set[str]:
    """Fields of a command's options that its module reads nowhere; ``vars(arguments)`` reads them all."""
    if "vars(arguments)" in source:
        return set()
    nodes = ast.walk(ast.parse(source))
    return {each.name for each in fields(options)} - {
        node.attr for node in nodes if isinstance(node, ast.Attribute)
    }


@pytest.mark.parametrize("name", functions())
def test_every_option_is_read(name: str) -> None:
    left = {"version"} if name == "lsn" else set()  # a callback of its own prints it
    function = inspect.unwrap(functions()[name])
    assert unread(inspect.getsource(function)) == left
    for options in get_type_hints(function).values():
        if is_dataclass(options):
            assert not unread_fields(options, inspect.getsource(inspect.getmodule(function)))


def test_an_option_whose_use_is_deleted_is_found() -> None:
    source = inspect.getsource(functions()["lsn eval"])
    assert "keep=cache and not costs," in source
    assert unread(source.replace("keep=cache and not costs,", "keep=not costs,")) == {"cache"}
    source = inspect.getsource(train_head)
    assert "arguments.c," in source
    assert unread_fields(train_head.HeadOptions, source.replace("arguments.c,", "0,")) == {"c"}


VALUES = {"target_tpr": 0.9, "val_fraction": 0.3, "device": "cpu", "output": "rows.csv", "format": "json"}
"""Of options that do not take any number, text or choice."""


def others(command: str, name: str) -> list[list[str]]:
    """Words of a command line that give an option another value than its default; one of them does."""
    option = next(one for one in ROOT.commands[command].params if one.name == name)
    kind = get_type_hints(functions()[f"lsn {command}"])[name]
    kinds = [one for one in get_args(kind) if one is not NoneType] if NoneType in get_args(kind) else [kind]
    if kinds == [bool]:
        return [[flag] for flag in (*option.opts[:1], *option.secondary_opts)]
    *_, usual = get_args(kinds[0]) or [7 if kinds[0] in (int, float) else "elsewhere"]
    return [[option.opts[0], str(VALUES.get(name, usual))]]


OPTIONS = [
    (command, option.name)
    for command in ("train-pos", "train-neg")
    for option in ROOT.commands[command].params
    if option.name not in ("help", "verbose")  # remarks alone
]


@pytest.fixture
def passed_on(monkeypatch, lsn) -> Callable[..., list[Any]]:
    """What the use cases of a training command are called with."""
    calls: list[Any] = []

    def record(name: str, answer: Any) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            named = {key: value for key, value in named.items() if not callable(value)}
            calls.append((name, [str(each) for each in given], named))
            return answer

        return call

    monkeypatch.setattr(train_prompts, "check_exists", lambda path: None)
    plan = SimpleNamespace(rows=SimpleNamespace(train=range(8)))
    for name in ("plan_positive", "plan_negative", "find_learned", "train_prompts"):
        monkeypatch.setattr(train, name, record(name, plan if name.startswith("plan") else None))
    for name in ("workspace_backbone", "_row", "render", "_describe", "progress_bar"):
        monkeypatch.setattr(train_prompts, name, record(name, nullcontext(silent)))

    def run(*words: str) -> list[Any]:
        calls.clear()
        result = lsn(*words)
        assert result.code == 0, result.err
        return [str(call) for call in calls]

    return run


@pytest.mark.parametrize(("command", "name"), OPTIONS)
def test_every_option_of_training_changes_what_is_asked_for(command: str, name: str, passed_on) -> None:
    usual = passed_on(command)
    assert [words for words in others(command, name) if passed_on(command, *words) != usual]


def test_an_option_that_nothing_takes_is_an_error(tmp_path: Path, monkeypatch) -> None:
    @dataclass(frozen=True, kw_only=True)
    class MoreOptions(train_prompts.PromptOptions):
        temperature: float = 2

    monkeypatch.setattr(train_prompts, "check_exists", lambda path: None)
    monkeypatch.setattr(train, "plan_negative", lambda workspace: None)
    with pytest.raises(TypeError, match="temperature"):
        train_prompts.learn("negative", MoreOptions(work=tmp_path), following="")
