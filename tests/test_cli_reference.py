"""docs/cli.md is what the commands say today."""

import re
import runpy
import typing
from pathlib import Path

import pytest
from typer.main import get_command

from lsncli.cli.app import app
from lsncli.cli.help_page import plain

DOCS = Path(__file__).parents[1] / "docs"
PROGRAM = runpy.run_path(str(DOCS / "cli_reference.py"))
COMMANDS = dict(PROGRAM["commands"]())


def section(name: str) -> str:
    """What the page says of one command."""
    text = PROGRAM["reference"]()
    return text.split(f"\n## {name}\n", 1)[1].split("\n## ")[0]


def test_the_page_is_up_to_date() -> None:
    written = (DOCS / "cli.md").read_text(encoding="utf-8")
    assert written == PROGRAM["reference"](), "docs/cli.md is out of date. Rewrite it: make docs"


def test_groups_and_what_is_in_them_are_commands() -> None:
    assert {"lsn", "lsn score", "lsn store", "lsn store import"} <= set(COMMANDS)
    assert len(COMMANDS) == 1 + len(get_command(app).commands) + 6


@pytest.mark.parametrize("name", COMMANDS)
def test_a_section_has_every_option_and_argument(name: str) -> None:
    text = section(name)
    for parameter in COMMANDS[name].params:
        if parameter.param_type_name == "option":
            for option in (*parameter.opts, *parameter.secondary_opts):
                assert re.search(rf"^\| `[^`]*{option}\b", text, re.MULTILINE), option
        assert not parameter.help or parameter.help.split("\n")[0][:12] in text.replace("\\", "")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_table_has_rows_of_equal_length_and_every_parameter_says_what_it_does(name: str) -> None:
    for line in section(name).splitlines():
        if line.startswith("|"):
            cells = re.split(r"(?<!\\)\|", line)[1:-1]
            assert len(cells) in (2, 3)
            assert cells[-1].strip(), line


def test_links_of_the_list_lead_to_sections() -> None:
    page = PROGRAM["reference"]()
    headings = {name.replace(" ", "-") for name in re.findall(r"^## (.*)$", page, re.MULTILINE)}
    linked = set(re.findall(r"\]\(#(.*?)\)", page))
    assert linked <= headings
    assert "lsn-store-verify" in linked


def test_choices_defaults_bounds_and_environment_are_shown() -> None:
    score = section("lsn score")
    assert "| `--sort score\\|path` | tables: score, else as named | Lowest score first" in score
    assert "| `--max-failure-rate X` | `0.05` |" in score
    assert "From 0 to 1. |" in score
    assert "| `--workers N` | 0 = one per core |" in score
    assert 'lsn score ./new --classes "cat,dog,truck"' in score.split("```sh")[1].split("```")[0]
    assert "(`LSN_WORK`) |" in score
    head = PROGRAM["reference"]().split("| command |")[0]
    assert "| `LSN_WORK` | `--work` |" in head
    assert "| `RAY_ADDRESS` | `--ray-address` |" in head
    assert "[PATH]..." in score
    assert "| `--yes` |  | Do it." in score
    assert "(Never from the environment or `lsn.toml`.) |" in score
    assert "| `--resume / --restart` | `--resume` |" in section("lsn train-pos")
    assert "| `--model TEXT` | required |" in section("lsn store import")


def test_nothing_in_a_cell_is_taken_for_markdown_but_code_stays_code() -> None:
    cell = PROGRAM["cell"]
    assert cell("a|b *c* <d>\n e") == "a\\|b \\*c\\* \\<d> e"
    assert cell("see `lsn undo *` now") == "see `lsn undo *` now"


def test_an_optional_type_is_shown_as_the_type() -> None:
    assert plain(int | None) is int
    assert plain(typing.Optional[int]) is int  # noqa: UP045 - as an older annotation has it
    assert plain(list[str]) == list[str]
