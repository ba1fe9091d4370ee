"""``--help``: examples that are valid, options without noise, a default in one place, any width."""

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from cli_samples import imported_workspace
from typer.main import get_command

from lsncli import console
from lsncli.cli.app import app
from lsncli.cli.help_page import ADVANCED, describe, panels

ROOT = get_command(app)


def commands(name: str = "lsn", command: Any = ROOT) -> Iterator[tuple[str, Any]]:
    yield name, command
    for word, inside in getattr(command, "commands", {}).items():
        yield from commands(f"{name} {word}", inside)


COMMANDS = dict(commands())
LEAVES = [name for name, command in COMMANDS.items() if not hasattr(command, "commands")]


@pytest.fixture
def page(lsn, monkeypatch):
    """The help of a command at a width."""

    def show(name: str, width: int = 80) -> str:
        monkeypatch.setattr(console.out, "width", width)
        done = lsn(*name.split()[1:], "--help")
        assert (done.code, done.err) == (0, "")
        return done.out

    return show


@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_the_terminal_and_no_word_is_cut(page, name: str, width: int) -> None:
    text = page(name, width)
    assert max(map(len, text.splitlines())) <= min(width, 100)
    assert "…" not in text
    words = re.sub(r"[│╭╮╰╯─]", " ", text).split()
    for option in (one for one in COMMANDS[name].params if one.param_type_name == "option"):
        assert set(option.opts) <= {word.rstrip(",") for part in words for word in part.split("/")}
        assert set(option.help.split()) <= set(words), option.name


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_no_types_of_switches_and_one_line_of_variables(page, name: str) -> None:
    text = page(name)
    assert "<bool>" not in text
    assert "env var" not in text
    assert text.count("Options can also be set by") <= 1


def test_help_names_the_variables_of_a_command(page) -> None:
    text = " ".join(page("lsn score").split())
    assert "a variable such as LSN_SCORE_" in text
    for shared in ("LSN_WORK", "LSN_DEVICE", "LSN_FORMAT", "LSN_QUIET", "or in lsn.toml"):
        assert shared in text


@pytest.mark.parametrize("name", COMMANDS)
def test_a_default_is_said_once(name: str) -> None:
    for option in (one for one in COMMANDS[name].params if one.param_type_name == "option"):
        text = option.help
        assert not re.search(r"\bDefault\b|default:|if left out", text), f"{option.name}: {text}"


def test_the_first_panel_is_short_and_the_rest_is_advanced(page) -> None:
    for name in LEAVES:
        found = panels(COMMANDS[name])
        assert len(found.get("Options", [])) <= 9, name
        assert ADVANCED not in found or list(found)[-1] == ADVANCED


@pytest.mark.parametrize("name", LEAVES)
def test_a_command_begins_with_a_sentence_and_shows_examples(page, name: str) -> None:
    described = describe(COMMANDS[name])
    assert described.summary.endswith(".")
    assert len(described.summary) <= 78
    assert 1 <= len(described.examples) <= 4
    shown = page(name).splitlines()
    for example in described.examples:
        assert f"│ {example}".ljust(79) + "│" in shown  # a line of its own, as a whole


def parsed(example: str) -> list[str]:
    """Parse each ``lsn`` of a shell line as the program does; return the commands."""
    found = []
    for part in re.split(r"\||&&|;", example.partition("  #")[0]):
        program, *words = shlex.split(re.sub(r"[<>]\s*\S+\s*$", "", part))
        if program != "lsn":
            continue
        name, command = "lsn", ROOT
        while hasattr(command, "commands") and words:
            name, command = f"{name} {words[0]}", command.commands[words[0]]
            words = words[1:]
        command.make_context(name, words)  # raises for an unknown option, and a value that is none
        found.append(name)
    return found


@pytest.mark.parametrize("name", LEAVES)
def test_examples_are_valid_command_lines_of_the_command(name: str) -> None:
    examples = describe(COMMANDS[name]).examples
    assert [example for example in examples if name in parsed(example)][:1] == examples[:1]


def test_examples_of_the_program_are_valid() -> None:
    for example in describe(ROOT).examples:
        assert parsed(example)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ("lsn score ./new --onyl ood", "No such option"),
        ("lsn score --top 0 x", "equal to 1|not in the range"),
        ("lsn eval --format xml", "xml"),
        ("lsn scor x", "scor"),
    ],
)
def test_an_example_that_is_wrong_is_found(wrong: str, error: str) -> None:
    with pytest.raises(Exception, match=error):
        parsed(wrong)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["score", "--onyl", "ood"], "No such option: --onyl. Did you mean '--only'?"),
        (["score", "--forma", "csv"], "No such option: --forma. Did you mean '--format'?"),
        (["score", "--wings"], "No such option: --wings."),
        (["--debgu", "score"], "No such option: --debgu. Did you mean '--debug'?"),
        (["scroe"], "No such command 'scroe'. Did you mean 'score'?"),
        (["store", "inof"], "No such command 'inof'. Did you mean 'info'?"),
        (["fly"], "No such command 'fly'."),
        (["\x1b[31mfly"], "No such command '\\x1b[31mfly'."),
        (["methods", "enrgy"], "There is no score 'enrgy'. Did you mean 'energy'?"),
        (["bench", "--table", "1", "--mode", "bets"], "found 'bets'. Did you mean 'best'?"),
    ],
)
def test_the_nearest_name_comes_first(lsn, words: list[str], said: str) -> None:
    done = lsn(*words)
    assert done.code == 2
    assert said in " ".join(re.sub(r"[│╭╮╰╯─]", " ", done.err).split())
    assert done.err.count("Did you mean") == said.count("Did you mean")


WITHOUT_IMAGES = [
    *(
        "lsn methods",
        "lsn methods knn",
        "lsn models",
        "lsn models vit-b --weights",
        "lsn datasets --suite mini",
    ),
    *("lsn bench", "lsn bench --table 1 --published", "lsn calibrate --method energy", "lsn eval"),
    *("lsn store info", "lsn store info --failures", "lsn store verify --work ./lsn-work"),
    *("lsn store duplicates", "lsn store duplicates --format csv --output copies.csv"),
    *("lsn store export train.parquet", "lsn store export test.csv --split test", "lsn train-head"),
]


@pytest.mark.parametrize("line", WITHOUT_IMAGES)
def test_examples_that_need_no_images_run(lsn, tmp_path, line: str) -> None:
    """The tour of README and the guide run those that need images."""
    imported_workspace(tmp_path / "lsn-work")
    shown = [
        one.partition("  #")[0].rstrip() for each in COMMANDS.values() for one in describe(each).examples
    ]
    assert line in shown
    done = lsn(*shlex.split(line)[1:])
    assert done.code == 0, done.err
