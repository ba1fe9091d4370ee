"""The suite 'paper' on miniature image sets in the layouts that people have, with a small random ViT."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from paper_datasets import lay_out

from lsncli.bench.measured_table import MeasuredTable, measure_table
from lsncli.bench.plan import BenchPlan
from lsncli.bench.suite_toml import load_suite
from lsncli.prompts import settings
from lsncli.reference.classes import class_list
from lsncli.reference.published import load_table
from lsncli.store.reader import list_splits
from lsncli.training import checkpoints as resume
from lsncli.training import prompts as train

HERE = Path(__file__).parent
SMALL = ["ImageNet-10/MCM", "ImageNet-10/LSN"]


class Stopped(BaseException):
    """A kill, as far as Python can tell."""


@pytest.fixture(scope="module", autouse=True)
def few_epochs():
    """Four for CoCoOp instead of ten."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(settings._COCOOP_SCHEDULE, "epochs", 4)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """ImageNet with the ten classes of ImageNet-10 alone, and the OOD sets of Table 11."""
    root = tmp_path_factory.mktemp("paper") / "data"
    return lay_out(root, "imagenet10", train=3, val=2, ood=2, imagenet="devkit", open_sets=False)


def run(
    number: int, work: Path, data: Path | None, model: str, **given: Any
) -> tuple[MeasuredTable, BenchPlan]:
    suite = load_suite("paper")
    return measure_table(
        suite, suite.table(number), work=work, data=data, model=model, device="cpu", quiet=True, **given
    )


def splits(work: Path) -> dict[str, int]:
    (store,) = work.glob("bench/paper/*/features.h5")
    return {name: info.rows for name, info in list_splits(store).items()}


def results(work: Path) -> dict[str, dict[str, Any]]:
    lines = (work / "results" / "paper.jsonl").read_text().splitlines()
    told_apart = ("seconds", "date", "revision")
    return {
        one["key"]: {name: value for name, value in one.items() if name not in told_apart}
        for one in map(json.loads, lines)
    }


@pytest.fixture(scope="module")
def done(data, tmp_path_factory, tiny_model) -> tuple[MeasuredTable, Path]:
    """ImageNet-10 of Table 11: the run is stopped while negative prompts are learned, and run again."""
    work = tmp_path_factory.mktemp("work")
    saved: list[int] = []

    def stopping(path, run_of, epochs):
        save = usual(path, run_of, epochs)

        def keep(checkpoint):
            save(checkpoint)
            saved.append(len(checkpoint.history))
            if run_of["settings"]["kind"] == "negative" and len(checkpoint.history) == 2:
                raise Stopped

        return keep

    usual = train.checkpoint_saver
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resume, "SAVE_SECONDS", 0.0)
        patch.setattr(train, "checkpoint_saver", stopping)
        with pytest.raises(Stopped):
            run(11, work, data, tiny_model, rows=SMALL)
        assert saved == [1, 2, 3, 4, 1, 2]
        saved.clear()
        stopping_again = lambda path, run_of, epochs: lambda one: saved.append(len(one.history))  # noqa: E731
        patch.setattr(train, "checkpoint_saver", stopping_again)
        found, _ = run(11, work, data, tiny_model, rows=SMALL)
    assert saved == [3, 4], "it goes on after the last epoch that was kept"
    return found, work


def test_every_cell_is_measured_after_a_stop_in_the_middle_of_a_learning(done) -> None:
    found, _ = done
    assert list(found.rows) == SMALL
    for cells in found.rows.values():
        assert all(cell.mean is not None for cell in cells.values())


def test_a_run_without_a_stop_gives_the_same_numbers(done, data, tmp_path, tiny_model) -> None:
    run(11, tmp_path, data, tiny_model, rows=SMALL)
    assert results(tmp_path) == results(done[1])


def test_only_the_images_that_the_rows_need_are_encoded(done) -> None:
    found = splits(done[1])
    train_split = next(name for name in found if name.startswith("imagenet-train"))
    val_split = next(name for name in found if name.startswith("imagenet-val"))
    assert train_split.startswith("imagenet-train.160-0.")
    assert val_split.startswith("imagenet-val.all.")
    assert {found[train_split], found[val_split]} == {30, 20}
    assert {name: rows for name, rows in found.items() if "imagenet" not in name} == {
        "inaturalist": 2,
        "sun": 2,
        "places": 2,
        "textures": 47,
    }


def test_records_name_the_image_sets(done) -> None:
    sets = {(one["train_set"], one["test_set"]) for one in results(done[1]).values()}
    assert sets == {("", "imagenet-val"), ("imagenet-train", "imagenet-val")}


def test_missing_classes_are_named_before_anything_is_extracted(data, tmp_path, tiny_model, capsys) -> None:
    suite = load_suite("paper")
    found, plan = measure_table(
        suite, suite.table(1), work=tmp_path, data=data, model=tiny_model, device="cpu", rows=["MCM"]
    )
    said = " ".join(capsys.readouterr().err.split())
    first = next(
        name for name in class_list("imagenet100").names if name not in class_list("imagenet10").names
    )
    assert "There are no images of 100 of the 100 classes that are needed of the set 'imagenet-val'" in said
    assert first in said
    assert "and 80 more" in said
    assert found.rows["MCM"]["Average/auroc"].mean is None
    assert "no images of 100 of the 100 classes" in found.rows["MCM"]["Average/auroc"].why_missing
    assert not list(tmp_path.glob("bench/paper/*/features.h5*"))
    assert not plan.scores[0].store.sets


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_all_rows_of_the_tables_print_also_after_a_kill(tmp_path, tiny_model) -> None:
    """SIGKILL as soon as a learning has a checkpoint; the next call goes on and prints every row."""
    data = lay_out(tmp_path / "data")
    outputs = {}
    for number in (1, 3, 4, 5, 11):
        outputs[number] = killed_and_run_again(number, data, tmp_path / "work", tiny_model)
    for number, text in outputs.items():
        rows = json.loads(text)
        unavailable = {"ZOC"} if number == 3 else set()
        assert {row["row"] for row in rows} == {row.name for row in load_table(number).rows}
        missing = {row["row"] for row in rows if row["measured"] is None}
        assert missing == unavailable, (number, [row for row in rows if row["measured"] is None][:2])
    whole = killed_and_run_again(4, data, tmp_path / "whole", tiny_model, kill=False)
    assert json.loads(whole) == json.loads(outputs[4])


def killed_and_run_again(number: int, data: Path, work: Path, model: str, *, kill: bool = True) -> str:
    """What ``lsn bench`` prints of a table as JSON, after a call that was killed while it learned."""
    command = [sys.executable, str(HERE / "paper_driver.py"), "bench", "--table", str(number), "--suite"]
    command += ["paper", "--data", str(data), "--work", str(work), "--model", model, "--format", "json"]
    path = os.pathsep.join([str(HERE), *sys.path])
    env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    if kill:
        child = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while child.poll() is None and not list(work.glob("bench/paper/*/learned/*.unfinished.safetensors")):
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        child.wait()
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
