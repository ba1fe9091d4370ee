"""``lsn`` in this process, in an empty folder: a call gives the exit code and both outputs."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from lsncli.cli.app import main


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str


Lsn = Callable[..., Result]


@pytest.fixture
def lsn(tmp_path: Path, monkeypatch, capsys) -> Lsn:
    """Call it with the words of a command line."""
    monkeypatch.chdir(tmp_path)
    # Set and removed, so that what --debug and --no-verify leave in the environment is undone after the test.
    monkeypatch.setenv("LSN_DEBUG", "")
    monkeypatch.setenv("LSN_NO_VERIFY", "")

    def run(*words: object) -> Result:
        os.environ["LSN_DEBUG"] = os.environ["LSN_NO_VERIFY"] = ""
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([str(word) for word in words])
        captured = capsys.readouterr()
        return Result(int(stop.value.code or 0), captured.out, captured.err)

    return run
