"""`lsn extract` by several processes, and `lsn store merge`: one store, whoever made its parts."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from waiting import wait_until

from lsncli.device import pick_device
from lsncli.extraction.engines import WorkerGroup
from lsncli.extraction.engines.local import devices

PARTS = ("--part-rows", "8", "--batch-size", "4")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return make_images(tmp_path / "images", 40)


def make_images(folder: Path, count: int) -> Path:
    """Images of noise in two classes, one of which cannot be read."""
    random = np.random.default_rng(3)
    for i in range(count):
        place = folder / f"class {i % 2}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (20, 24, 3)).astype(np.uint8)).save(place / f"{i:04}.png")
    (folder / "class 1" / "0007.png").write_bytes(b"")
    return folder


def bytes_of(work: str) -> bytes:
    return (Path(work) / "features.h5").read_bytes()


def test_parts_are_left_and_merged_later(lsn, images, tiny_model) -> None:
    words = ("extract", images, "--model", tiny_model, "--device", "cpu", *PARTS)
    assert lsn(*words, "--work", "one").code == 0
    done = lsn(*words, "--work", "w", "--no-merge", "--format", "json")
    assert (done.code, json.loads(done.out)[0]["rows"]) == (0, 39)
    assert "lsn store merge --split train --work w" in done.err
    done = lsn("store", "verify", "--work", "w")
    assert (done.code, "5 of 5 parts are made" in done.err) == (0, True)
    done = lsn("store", "merge", "--work", "w")
    assert (done.code, "39 rows, 1 failures, in part files" in done.err) == (0, True)
    assert lsn("store", "verify", "--work", "w").code == 0
    assert lsn(*words, "--work", "w").err.count("was complete")
    done = lsn("store", "merge", "--work", "w", "--copy", "--max-failure-rate", "0.02")
    assert (done.code, bytes_of("w")) == (3, bytes_of("one"))  # it is done whatever failed, and says so
    assert "1 of 40 images failed, more than the allowed 2.0% (class 1/0007.png: " in done.err
    done = lsn("store", "merge", "--work", "w")
    assert (done.code, "There are no parts of split 'train'" in done.err) == (1, True)


def test_a_merge_names_the_part_that_is_missing_torn_or_foreign(lsn, images, tiny_model) -> None:
    words = ("extract", images, "--model", tiny_model, "--device", "cpu", *PARTS)
    lsn(*words, "--work", "one")
    lsn(*words, "--work", "w", "--no-merge")
    lsn(*words, "--work", "other", "--no-merge", "--shots", "19")
    first, second, third, *_ = sorted(Path("w/features.h5.parts/train").glob("rows-*.h5"))
    first.unlink()
    done = lsn("store", "merge", "--work", "w", "--copy")
    assert (done.code, "1 of 5 parts" in done.err, ": 0." in done.err) == (1, True, True)
    assert lsn(*words, "--work", "w", "--no-merge").code == 0
    second.write_bytes(second.read_bytes()[:-50])
    done = lsn("store", "merge", "--work", "w")
    assert (done.code, "Part 1 of 5 cannot be used" in done.err) == (1, True)
    assert lsn("store", "verify", "--work", "w").code == 1
    assert lsn(*words, "--work", "w", "--no-merge").code == 0
    third.write_bytes((Path("other/features.h5.parts/train") / third.name).read_bytes())
    done = lsn("store", "merge", "--work", "w")
    assert (done.code, "Part 2 of 5 cannot be used" in done.err) == (1, True)
    assert "is of another extraction" in done.err
    assert lsn(*words, "--work", "w").code == 0  # the same command makes it anew, and merges
    assert bytes_of("w") == bytes_of("one")


def test_a_merge_that_was_killed_in_its_last_step_is_finished(lsn, images, tiny_model) -> None:
    words = ("extract", images, "--model", tiny_model, "--device", "cpu", *PARTS, "--work", "w")
    lsn(*words, "--no-merge")
    parts = Path("w/features.h5.parts")
    shutil.copytree(parts, "kept")
    assert lsn("store", "merge", "--work", "w").code == 0
    shutil.copytree("kept", parts)
    done = lsn("store", "merge", "--work", "w")
    assert (done.code, parts.exists()) == (0, False)
    assert lsn("store", "verify", "--work", "w").code == 0


def test_the_record_says_where_the_time_went_over_all_runs(lsn, images, tiny_model) -> None:
    words = ("extract", images, "--model", tiny_model, "--device", "cpu", *PARTS, "--work", "w")
    lsn(*words, "--no-merge")
    Path("w/features.h5.parts/train/rows-000000000008-000000000016.h5").unlink()
    row = json.loads(lsn(*words, "--format", "json").out)[0]
    record = json.loads(Path("w/results/extract-train.json").read_text())
    assert (record["rows"], record["failures"], record["parts"], record["part_rows"]) == (39, 1, 5, 8)
    assert record["seconds"]["encode"] > row["encode"] > 0  # this run made one part of five


def test_options_that_cannot_be_meant_are_usage_errors(lsn, images, tiny_model, monkeypatch) -> None:
    words = ("extract", images, "--model", tiny_model, "--device", "cpu")
    done = lsn(*words, "--part-rows", "30", "--batch-size", "4")
    assert (done.code, "--part-rows 28" in done.err) == (2, True)
    for name in ("RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    assert lsn(*words, "--engine", "torchrun").code == 2
    assert lsn(*words, "--engine", "torchrun", "--processes", "2").code == 2


def test_the_first_of_several_processes_says_whose_rows_and_seconds_it_shows(
    lsn, images, tiny_model, monkeypatch
) -> None:
    words = ("extract", images, "--model", tiny_model, *PARTS, "--work", "w")
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    shares = (*words, "--engine", "torchrun")
    told = lsn(*shares, "--verbose")
    assert told.code == 0, told.err
    titles = ("Rows (process 0)", "Failures (process 0)", "Resumed (process 0)")
    assert all(title in told.out for title in titles)
    assert "Seconds, summed over threads and processes that work at once: read " in told.err
    monkeypatch.setenv("RANK", "1")
    assert lsn(*shares).code == 0
    monkeypatch.setenv("RANK", "0")
    whole = lsn(*words)
    assert "Rows" in whole.out
    assert "process" not in whole.out


def test_the_device_that_auto_stands_for_is_said(lsn, images, tiny_model) -> None:
    done = lsn("extract", images, "--model", tiny_model, *PARTS, "--work", "w", "--format", "json", "-v")
    device = str(pick_device("auto"))
    assert json.loads(done.out)[0]["device"] == device
    assert f" Encoded on {device}, runtime torch." in done.err
    assert devices(WorkerGroup("local", 2)) == (
        [device] * 2 if device != "cuda" else devices(WorkerGroup("local", 2, "cuda"))
    )


def test_a_damaged_part_or_plan_is_made_again_with_a_word(lsn, images, tiny_model) -> None:
    words = ("extract", images, "--model", tiny_model, "--device", "cpu", *PARTS, "--work", "w")
    assert lsn(*words, "--no-merge").code == 0
    folder = Path("w/features.h5.parts/train")
    part = folder / "rows-000000000008-000000000016.h5"
    part.write_bytes(part.read_bytes()[:-50])
    done = lsn(*words, "--no-merge")
    assert done.code == 0
    assert f"Warning: The feature store {part} is damaged" in done.err
    assert " Its images are encoded again.\n" in done.err
    (folder / "plan.json").write_text("[]")
    done = lsn(*words)
    assert done.code == 0
    assert f"Warning: {folder / 'plan.json'} is damaged: the extraction starts anew." in done.err
    assert lsn("store", "verify", "--work", "w").code == 0


@pytest.mark.slow
def test_two_processes_of_this_machine_make_the_store_of_one(lsn, images, tiny_model) -> None:
    words = ("extract", images, "--model", tiny_model, "--device", "cpu", *PARTS, "--quiet")
    assert lsn(*words, "--work", "one").code == 0
    done = lsn(*words, "--work", "two", "--processes", "2")
    assert (done.code, done.err) == (0, "")
    assert bytes_of("two") == bytes_of("one")


ENGINES = {
    "local": ([sys.executable, "-m"], ["--processes", "2"]),
    "torchrun": (
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"],
        ["--engine", "torchrun"],
    ),
}


def start(engine: str, images: Path, work: Path, model: str) -> subprocess.Popen[str]:
    before, after = ENGINES[engine]
    options = ["--model", model, "--device", "cpu", *PARTS, "--work", str(work), "--quiet"]
    return subprocess.Popen(
        [*before, "lsncli", "extract", str(images), *options, *after],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def children(pid: int) -> list[int]:
    """Of a process, and of its children, those that run lsn to encode."""
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        line = Path(f"/proc/{child}/cmdline").read_bytes()
        if b"spawn_main" in line or b"lsncli" in line:
            found.append(int(child))
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("engine", ENGINES)
def test_a_worker_is_killed_and_a_part_lost_and_the_same_command_recovers(
    lsn, tmp_path: Path, tiny_model: str, engine: str
) -> None:
    images = make_images(tmp_path / "images", 600)
    words = ("extract", images, "--model", tiny_model, "--device", "cpu", *PARTS, "--quiet")
    assert lsn(*words, "--work", "one").code == 0
    work = tmp_path / "killed"
    folder = work / "features.h5.parts" / "train"
    running = start(engine, images, work, tiny_model)
    while len(list(folder.glob("rows-*.h5"))) < 5:
        assert running.poll() is None
        time.sleep(0.01)
    os.kill(children(running.pid)[-1], signal.SIGKILL)
    running.communicate()
    assert running.returncode == 1
    made = sorted(folder.glob("rows-*.h5"))
    assert 5 <= len(made) < 75
    made[2].unlink()
    made[3].write_bytes(made[3].read_bytes()[:1000])
    again = start(engine, images, work, tiny_model)
    _, said = again.communicate()
    assert again.returncode == 0, said
    assert bytes_of(str(work)) == bytes_of("one")
    assert sorted(path.name for path in work.iterdir()) == ["features.h5", "results"]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs POSIX signals")
def test_processes_end_with_the_one_that_started_them(tmp_path: Path, tiny_model: str) -> None:
    images = make_images(tmp_path / "images", 600)
    work = tmp_path / "killed"
    running = start("local", images, work, tiny_model)
    while not list((work / "features.h5.parts" / "train").glob("rows-*.h5")):
        assert running.poll() is None
        time.sleep(0.01)
    workers = children(running.pid)
    running.kill()
    running.communicate()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), "the workers' end")
    again = start("local", images, work, tiny_model)
    _, said = again.communicate()
    assert again.returncode == 0, said
