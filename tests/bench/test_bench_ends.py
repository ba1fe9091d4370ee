"""A bench that is told to end says what is kept, and the same command goes on there."""

import signal
from pathlib import Path

import pytest
from bench_samples import results, write_images, write_suite
from cli_runner import exit_code
from kill_points import signal_after

from lsncli.bench.results import Results


@pytest.mark.parametrize(
    ("end", "code", "word"), [(signal.SIGTERM, 143, "Terminated"), (signal.SIGINT, 130, "Interrupted")]
)
def test_a_bench_that_is_ended_says_what_is_kept(
    tmp_path: Path, tiny_model: str, monkeypatch, capsys, end: signal.Signals, code: int, word: str
) -> None:
    data, suite = write_images(tmp_path / "data"), write_suite(tmp_path, tiny_model)
    command = ["bench", "--suite", str(suite), "--table", "mine", "--rows", "MCM", "--rows", "two"]
    command += ["--data", str(data), "--work", str(tmp_path / "work"), "--device", "cpu", "--quiet"]
    with monkeypatch.context() as patch:
        patch.setattr(Results, "append", Results.append)  # undone after the block
        signal_after(Results, "append", 1, end, lambda to, _: to.path.name == "noise.jsonl")
        assert exit_code(*command) == code
    assert capsys.readouterr().err == (
        f"{word}. Features, prompts and rows that are done are kept; the same command goes on there.\n"
    )
    kept = results(tmp_path / "work")
    assert kept
    assert exit_code(*command) == 0
    done = results(tmp_path / "work")
    assert len(done) > len(kept)
    assert done.items() >= kept.items()
