"""An lsn.toml that was found, in a folder that somebody else may have filled, writes nothing anywhere."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from typer.main import get_command

from lsncli.cli.app import app
from lsncli.cli.configured import ONLY_READ, Configured, needs_named_file


def leaves(command: Any, name: str = "lsn") -> Iterator[tuple[str, Any]]:
    inside = getattr(command, "commands", None)
    if inside is None:
        yield name, command
    for word, one in (inside or {}).items():
        yield from leaves(one, f"{name} {word}")


LEAVES = dict(leaves(get_command(app)))
READ = {
    "lsn extract": {"classes"},
    "lsn train-head": {"classes"},
    "lsn train-no": {"tower", "yes", "no"},
    "lsn candidates": {"words"},
    "lsn not": {"classes"},
    "lsn bench": {"data"},
    "lsn datasets": {"data"},
    "lsn store import": {"labels", "classes", "text"},
}
"""Options of paths that are only read, as somebody checked; any other path is taken to be written."""


@pytest.mark.parametrize("name", LEAVES)
def test_every_path_that_is_not_known_to_be_only_read_needs_a_named_file(name: str) -> None:
    command = LEAVES[name]
    assert isinstance(command, Configured)
    options = {one.name for one in command.params if one.param_type_name == "option"}
    hints = get_type_hints(command.callback)
    paths = {one for one in options & hints.keys() if "Path" in str(hints[one])}
    marked = {
        one
        for one, hint in get_type_hints(command.callback, include_extras=True).items()
        if one in options and ONLY_READ in getattr(hint, "__metadata__", ())
    }
    assert marked == READ.get(name, set())
    assert needs_named_file(command) == (paths - marked) | (options & {"follow_links", "ray_address"})


@pytest.fixture
def precious(tmp_path: Path, lsn) -> Path:
    path = tmp_path.parent / f"{tmp_path.name}-precious"
    path.write_text("precious")
    return path


def test_a_found_file_overwrites_nothing_and_both_is_said(lsn, precious) -> None:
    Path("lsn.toml").write_text(f'format = "csv"\noutput = "{precious}"\n')
    done = lsn("methods")
    assert done.code == 0
    assert precious.read_text() == "precious"
    assert done.out.startswith("name,")  # the rows went to stdout
    assert done.err == (
        "Options from lsn.toml: format. Not used from lsn.toml, which was found and not named: output "
        "(take them by lsn --config lsn.toml).\n"
    )


def test_a_named_file_is_the_users_own_word(lsn, precious, monkeypatch) -> None:
    Path("lsn.toml").write_text(f'[methods]\noutput = "{precious}"\n')
    done = lsn("--config", "lsn.toml", "methods", "--format", "csv")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert precious.read_text().startswith("name,")
    precious.write_text("precious")
    monkeypatch.setenv("LSN_CONFIG", "lsn.toml")
    assert lsn("methods", "--format", "csv").code == 0
    assert precious.read_text().startswith("name,")


def test_what_was_typed_counts_and_nothing_is_said_of_it(lsn) -> None:
    Path("lsn.toml").write_text('output = "theirs.csv"\n')
    done = lsn("methods", "--format", "csv", "--output", "mine.csv")
    assert (done.code, done.err) == (0, "")
    assert Path("mine.csv").exists()
    assert not Path("theirs.csv").exists()


def test_quiet_says_only_what_is_not_used(lsn) -> None:
    Path("lsn.toml").write_text('format = "csv"\n')
    assert "lsn.toml" not in lsn("store", "info", "--quiet").err
    assert lsn("store", "info").err.startswith("Options from lsn.toml: format.\n")
    Path("lsn.toml").write_text('output = "x"\nquiet = true\n')
    assert "Not used from lsn.toml" in lsn("store", "info").err


def test_a_command_in_a_group_is_protected_too(lsn) -> None:
    Path("lsn.toml").write_text('[store.info]\nwork = "elsewhere"\nformat = "csv"\n')
    done = lsn("store", "info")
    assert "Not used from lsn.toml, which was found and not named: work " in done.err
    assert "lsn-work" in done.err.splitlines()[-2]  # where it looked, in vain
    assert done.code == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = " + "[" * 100_000, "lsn.toml is not valid TOML: nested too deep."),
        ("#" * (1 << 20) + "\n", "lsn.toml is not valid TOML: it is larger than 1024 KiB"),
    ],
)
def test_a_file_that_is_no_configuration_is_one_sentence(lsn, text: str, message: str) -> None:
    Path("lsn.toml").write_text(text)
    done = lsn("methods")
    assert done.code == 2
    assert message in done.err
    assert len(done.err) < 300
