"""CoCoOp from the first command to the last: learned, calibrated, evaluated, and any image scored."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from training_samples import CLASSES, features_of

from lsncli.store.format import Split
from lsncli.store.writer import write_split

SHORT = ("--learner", "cocoop", "--epochs", "1", "--batch-size", "8", "--context-length", "4")


@pytest.fixture
def work(tmp_path: Path, tiny_backbone) -> Path:
    folder = features_of(tiny_backbone.fingerprint, tmp_path / "lsn-work")
    random = np.random.default_rng(3)
    for name, rows in (("test", 12), ("far", 9)):
        labels = (np.arange(rows) % 3 if name == "test" else np.full(rows, -1)).astype(np.int32)
        features = random.normal(size=(rows, tiny_backbone.fingerprint.dim)).astype(np.float16)
        keys = tuple(f"{row}.jpg" for row in range(rows))
        split = Split(name, features, labels, keys, CLASSES if name == "test" else ())
        write_split(folder / "features.h5", split, tiny_backbone.fingerprint)
    return folder


def rows(done) -> list[dict]:
    assert done.code == 0, done.err
    return json.loads(done.out)


def test_the_whole_story(lsn, work, tmp_path) -> None:
    for i in range(4):
        noise = np.random.default_rng(i).integers(0, 255, (40, 48, 3), dtype=np.uint8)
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.fromarray(noise).save(tmp_path / "photos" / f"{i}.png")
    model = ("--device", "cpu")
    json_ = ("--format", "json")
    assert rows(lsn("train-pos", *SHORT, *model, *json_))[0]["learner"] == "CoCoOp"
    done = lsn("train-neg", *SHORT, "--sets", "2", *model, *json_)
    assert rows(done)[0]["learner"] == "CoCoOp"
    found = rows(
        lsn("eval", *model, *json_, "--method", "mcm:positive", "--method", "lsn", "--method", "mincm")
    )
    assert {row["method"] for row in found} == {
        "CoCoOp + MCM",
        "CoCoOp + LSN,form=logit",
        "CoCoOp + MinCM,form=logit",
    }
    assert all(0 <= row["auroc"] <= 1 and (row["n_id"], row["n_ood"]) == (12, 9) for row in found)
    (calibrated,) = rows(lsn("calibrate", *model, *json_))
    assert calibrated["method"] == "CoCoOp + LSN,form=logit"
    verdicts = lsn("score", "photos", *model, *json_)
    assert "(CoCoOp + LSN on 3 classes" in verdicts.err
    assert {row["predicted"] for row in rows(verdicts)} <= set(CLASSES)
    # The detector is all that is needed: no store, no prompts, and another number of images at a time.
    (tmp_path / "alone").mkdir()
    shutil.copy(work / "detector.safetensors", tmp_path / "alone")
    shutil.rmtree(work)
    again = rows(lsn("score", "photos", *model, *json_, "--work", "alone", "--batch-size", "3"))
    assert [row["score"] for row in again] == pytest.approx(
        [row["score"] for row in rows(verdicts)], abs=1e-5
    )
    assert {row["threshold"] for row in again} == {calibrated["gamma"]}


def test_a_mix_of_learners_is_named_in_full(lsn, work) -> None:
    assert lsn("train-pos", *SHORT, "--device", "cpu").code == 0
    coop = ("--epochs", "1", "--context-length", "4", "--device", "cpu")
    assert lsn("train-neg", *coop).code == 0
    (row,) = rows(lsn("eval", "--method", "lsn", "--format", "json", "--device", "cpu"))
    assert row["method"] == "CoCoOp + LSN (CoOp negatives),form=logit"


def test_prompts_of_a_model_that_has_moved_take_its_new_place(lsn, work, tiny_model) -> None:
    assert lsn("train-pos", *SHORT, "--device", "cpu").code == 0
    home = Path(tiny_model.partition(":")[2])
    moved = home.rename(home.with_name("moved"))
    try:
        for command in (("eval", "--method", "mcm:positive"), ("calibrate", "--method", "mcm:positive")):
            assert lsn(*command, "--device", "cpu").code == (1 if command[0] == "eval" else 5)
            assert lsn(*command, "--device", "cpu", "--pretrained", moved).code == 0
    finally:
        moved.rename(home)
