"""A reader that goes away (``| head -1``) ends a command with 141, as SIGPIPE would, without a message."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_samples import imported_workspace

from lsncli.cli.interrupts import PIPE_CLOSED

PROGRAM = [sys.executable, "-m", "lsncli"]


def without_reader(folder: Path, *words: str, of: str = "stdout") -> tuple[int, str]:
    """The exit code of a command that writes into a pipe without a reader, and its other output."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        other = "stderr" if of == "stdout" else "stdout"
        done = subprocess.run(
            [*PROGRAM, *words],
            **{of: writing, other: subprocess.PIPE},  # type: ignore[arg-type]
            text=True,
            cwd=folder,
            check=False,
        )
    finally:
        os.close(writing)
    return done.returncode, getattr(done, other)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pipes")
    imported_workspace(folder / "lsn-work")
    subprocess.run([*PROGRAM, "calibrate", "--method", "mcm", "--quiet"], cwd=folder, check=True)
    return folder


@pytest.mark.parametrize("words", [["--help"], ["score", "--help"], []])
def test_help_ends_with_141(tmp_path: Path, words: list[str]) -> None:
    assert without_reader(tmp_path, *words) == (PIPE_CLOSED, "")


@pytest.mark.parametrize("form", ["table", "csv", "jsonl", "json", "md"])
def test_every_format_ends_with_141(tmp_path: Path, form: str) -> None:
    assert without_reader(tmp_path, "methods", "--format", form) == (PIPE_CLOSED, "")


def test_a_score_ends_with_141_and_without_a_message(folder: Path) -> None:
    code, said = without_reader(folder, "score", "--split", "test", "--format", "csv", "--quiet")
    assert (code, said) == (PIPE_CLOSED, "")


def test_remarks_without_a_reader_end_it_too(folder: Path) -> None:
    code, rows = without_reader(folder, "score", "--split", "test", "--format", "csv", of="stderr")
    assert code == PIPE_CLOSED
    assert "Traceback" not in rows


@pytest.mark.parametrize("form", ["table", "csv", "jsonl"])
def test_head_gets_its_line(folder: Path, form: str) -> None:
    words = f"'{sys.executable}' -m lsncli methods --format {form} | head -n 1"
    run = ["bash", "-c", f"{words}; exit ${{PIPESTATUS[0]}}"]
    done = subprocess.run(run, capture_output=True, text=True, cwd=folder, check=False)
    assert done.returncode in (0, PIPE_CLOSED)  # 0 if all fitted into the pipe
    assert len(done.stdout.splitlines()) == 1
    assert "Error" not in done.stderr
    assert "Traceback" not in done.stderr


def test_an_error_keeps_its_exit_code(tmp_path: Path) -> None:
    done = subprocess.run([*PROGRAM, "score"], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
