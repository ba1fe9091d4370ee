"""A bench that is told to end says what is kept, and the same command goes on there."""

import signal
from pathlib import Path

import pytest
from bench_samples import results, write_images, write_suite
from kill_points import signal_after

from lsncli.bench.results import Results
from lsncli.cli.app import main


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
        with pytest.raises(SystemExit) as stop:
            main(command)
    assert stop.value.code == code
    assert capsys.readouterr().err == (
        f"{word}. Features, prompts and rows that are done are kept; the same command goes on there.\n"
    )
    kept = results(tmp_path / "work")
    assert kept
    with pytest.raises(SystemExit) as stop:
        main(command)
    assert stop.value.code == 0
    done = results(tmp_path / "work")
    assert len(done) > len(kept)
    assert done.items() >= kept.items()
