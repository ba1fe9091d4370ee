"""``lsn.toml``: what it may say, and what is said about what it may not."""

from pathlib import Path

import pytest

from lsncli.config import defaults, read_config
from lsncli.errors import UsageError

OPTIONS = {
    "extract": {"model", "batch_size", "work"},
    "score": {"batch_size", "work", "only"},
    "store": {"import": {"model", "work"}, "verify": {"work"}},
}


def read(tmp_path: Path, text: str) -> dict:
    path = tmp_path / "options.toml"
    path.write_text(text, encoding="utf-8")
    return read_config(path)


def test_a_command_gets_its_table_and_what_is_at_the_top(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        """
        work = "runs/bïrds"
        batch-size = 8
        [extract]
        model = "mini"
        batch-size = 128
        [store.import]
        model = "x"
        """,
    )
    assert defaults(config, OPTIONS) == {
        "extract": {"work": "runs/bïrds", "batch_size": 128, "model": "mini"},
        "score": {"work": "runs/bïrds", "batch_size": 8},
        "store": {"import": {"work": "runs/bïrds", "model": "x"}, "verify": {"work": "runs/bïrds"}},
    }


def test_dashes_and_underscores_are_the_same(tmp_path: Path) -> None:
    both = [read(tmp_path, f"[extract]\n{name} = 3\n") for name in ("batch-size", "batch_size")]
    assert defaults(both[0], OPTIONS) == defaults(both[1], OPTIONS)


def test_without_a_file_there_are_no_options(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_config(None) == {}
    assert defaults({}, OPTIONS)["extract"] == {}


def test_lsn_toml_here_is_read_without_being_named(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lsn.toml").write_text('work = "here"\n')
    assert read_config(None) == {"work": "here"}


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("colour = 1", "mine.toml: no command has an option 'colour'", "batch-size, model, only, work"),
        ("[extract]\nshots_ = 1", "mine.toml: [extract] has no option 'shots-'", "batch-size, model, work"),
        ("[extrct]", "mine.toml: there is no command 'extrct'", "extract, score, store"),
        ("[store.impot]", "mine.toml: there is no command store. 'impot'", "import, verify"),
        ("[store.import]\nx = 1", "mine.toml: [store.import] has no option 'x'", "model, work"),
        (
            "[store]\nverify = 5",
            "mine.toml: expected a table of options [store.verify], found verify = 5",
            "",
        ),
    ],
)
def test_a_name_that_nothing_has_is_an_error_with_the_names_there_are(tmp_path, text, message, hint) -> None:
    with pytest.raises(UsageError) as caught:
        defaults(read(tmp_path, text), OPTIONS, "mine.toml")
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_a_file_that_is_missing_or_broken_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--config .*none\.toml cannot be read: No such file"):
        read_config(tmp_path / "none.toml")
    with pytest.raises(UsageError, match=r"--config .* cannot be read: Is a directory"):
        read_config(tmp_path)
    with pytest.raises(UsageError, match=r"options\.toml is not valid TOML: Invalid value"):
        read(tmp_path, "work = ")
    (tmp_path / "latin.toml").write_bytes(b'work = "\xe9"\n')
    with pytest.raises(UsageError, match="is not valid TOML"):
        read_config(tmp_path / "latin.toml")
