"""Shell completion: what Tab offers, by the protocol between a shell and Typer, and in a real bash."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from lsncli.cli.app import app

SHELLS = ["bash", "zsh", "fish", "powershell"]


@pytest.fixture
def offered(lsn, monkeypatch):
    """A function: the words that bash is offered for a line whose last word is being typed."""

    def ask(line: str) -> list[str]:
        words = line.split(" ")
        monkeypatch.setenv("_LSN_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
        done = lsn()
        assert done.code == 0
        assert done.err == ""
        return done.out.split()

    return ask


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("lsn sc", ["score"]),
        ("lsn train-", ["train-pos", "train-neg", "train-head", "train-no"]),
        ("lsn store v", ["verify"]),
        ("lsn --ver", ["--version"]),
        ("lsn score --so", ["--sort"]),
        ("lsn score images --fail", ["--fail-on-ood"]),
        ("lsn score --sort ", ["score", "path"]),
        ("lsn score --only ", ["ood", "id", "failed"]),
        ("lsn score --only o", ["ood"]),
        ("lsn score --format j", ["json", "jsonl"]),
        ("lsn train-pos --re", ["--resume", "--restart"]),
        ("lsn nosuch", []),
    ],
)
def test_tab_offers_commands_options_and_choices(offered, line: str, words: list[str]) -> None:
    assert sorted(offered(line)) == sorted(words)


def test_tab_offers_every_command(offered) -> None:
    assert set(offered("lsn ")) == set(get_command(app).commands)


@pytest.mark.parametrize("name", sorted(set(get_command(app).commands) - {"store"}))
def test_tab_offers_every_option_of_a_command(offered, name: str) -> None:
    options = {
        option
        for parameter in get_command(app).commands[name].params
        for option in (*parameter.opts, *parameter.secondary_opts)
        if option.startswith("--")
    }
    assert set(offered(f"lsn {name} --")) == options | {"--help"}


def test_where_a_path_belongs_the_shell_is_left_to_complete_files(offered) -> None:
    assert offered("lsn score ") == []
    assert offered("lsn score --output ") == []


def test_a_broken_configuration_does_not_disturb_it(offered, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lsn.toml").write_text("not toml [")
    monkeypatch.setenv("LSN_SCORE_TOP", "many")
    assert offered("lsn score --so") == ["--sort"]


def test_other_shells_get_descriptions_too(lsn, monkeypatch) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", "lsn und")
    monkeypatch.setenv("_TYPER_COMPLETE_WORD_TO_COMPLETE", "und")
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    for shell in ("zsh", "fish", "powershell"):
        monkeypatch.setenv("_LSN_COMPLETE", f"complete_{shell}")
        done = lsn()
        assert "undo" in done.out
        assert "Take back what lsn score" in done.out


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_of_a_shell_calls_lsn_back(lsn, monkeypatch, shell: str) -> None:
    monkeypatch.setenv("_LSN_COMPLETE", f"source_{shell}")
    done = lsn()
    assert done.code == 0
    assert "lsn" in done.out
    assert f"complete_{shell}" in done.out


def test_completion_is_quick_it_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom lsncli.cli.app import main\ntry: main([])\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'numpy', 'pandas', 'PIL', 'h5py'} & set(sys.modules)))"
    )
    asked = {"_LSN_COMPLETE": "complete_bash", "COMP_WORDS": "lsn sc", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | asked, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["score", "[]"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
def test_a_real_bash_completes_once_the_script_is_read(tmp_path: Path) -> None:
    program = tmp_path / "lsn"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m lsncli "$@"\n')
    program.chmod(0o755)
    script = (
        'eval "$(_LSN_COMPLETE=source_bash lsn)"\n'
        "COMP_WORDS=(lsn sc) COMP_CWORD=1\n"
        '_lsn_completion lsn sc lsn\necho "${COMPREPLY[@]}"\n'
        "COMP_WORDS=(lsn score --so) COMP_CWORD=2\n"
        '_lsn_completion lsn --so score\necho "${COMPREPLY[@]}"\ncomplete -p lsn\n'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        env=os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.splitlines() == ["score", "--sort", "complete -o default -F _lsn_completion lsn"]


def test_it_is_installed_for_the_shell_that_asks(tmp_path: Path) -> None:
    asked = {"HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "lsncli", "--install-completion", "bash"],
        env=os.environ | asked,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert "bash completion installed in" in done.stdout
    assert "_lsn_completion" in (tmp_path / ".bash_completions" / "lsn.sh").read_text()
    assert "lsn.sh" in (tmp_path / ".bashrc").read_text()
