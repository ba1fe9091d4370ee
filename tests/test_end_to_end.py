"""A researcher's afternoon: photos in, prompts learned, strangers found, all through the command line."""

import contextlib
import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from cli_runner import exit_code
from PIL import Image
from sklearn.datasets import load_sample_image

from lsncli.artefacts.detector import load_detector
from lsncli.console import printable
from lsncli.store.verify import verify

skimage = pytest.importorskip("skimage.data", reason="needs the sample photos of scikit-image")

CLASSES = {"cat": "chelsea", "coffee": "coffee", "flower": "flower.jpg"}
STRANGERS = ("rocket", "china.jpg", "astronaut", "hubble_deep_field")


def pixels(name: str) -> np.ndarray:
    return load_sample_image(name) if name.endswith(".jpg") else getattr(skimage, name)()


def crops(name: str, folder: Path, count: int, seed: int) -> None:
    """Squares of 180 to 280 pixels from random places of a photo."""
    photo, random = pixels(name), np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        size = int(random.integers(180, 280))
        top, left = (int(random.integers(0, edge - size)) for edge in photo.shape[:2])
        crop = Image.fromarray(photo[top : top + size, left : left + size])
        crop.save(folder / f"{printable(name.split('.')[0])}-{i:02}.jpg", quality=90)


class Story:
    """A folder with photos and a workspace; each step is one command."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.outputs: dict[str, str] = {}
        self.remarks: dict[str, str] = {}

    def lsn(self, *words: str, name: str) -> str:
        out, err = io.StringIO(), io.StringIO()
        with (
            contextlib.chdir(self.folder),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            code = exit_code(*words)
        assert code == 0, err.getvalue()
        self.outputs[name], self.remarks[name] = out.getvalue(), err.getvalue()
        return out.getvalue()


@pytest.fixture(scope="module")
def story(tmp_path_factory) -> Story:
    folder = tmp_path_factory.mktemp("story")
    for name, photo in CLASSES.items():
        crops(photo, folder / "photos" / name, 14, seed=1)
        crops(photo, folder / "new" / "in" / name, 6, seed=2)
    for photo in STRANGERS:
        crops(photo, folder / "new" / "out", 5, seed=3)
    told = Story(folder)
    told.lsn("extract", "photos", "--model", "mini", "--device", "cpu", name="extract")
    told.lsn("extract", "new/in", "--split", "test", "--device", "cpu", name="extract test")
    told.lsn("extract", "new/out", "--split", "strangers", "--format", "json", name="extract ood")
    told.lsn("train-pos", "--epochs", "15", "--batch-size", "16", "--rate", "0.02", name="train-pos")
    told.lsn("train-neg", "--epochs", "15", "--batch-size", "16", "--rate", "0.005", name="train-neg")
    told.lsn("score", "new", "--format", "csv", name="score")
    told.lsn("eval", "--format", "json", "--method", "mcm", "--method", "lsn", name="eval")
    return told


def test_every_step_leaves_its_file_and_nothing_else(story: Story) -> None:
    files = {path.name for path in (story.folder / "lsn-work").iterdir()}
    learned = {"positive.safetensors", "negative.safetensors", "detector.safetensors"}
    # "cache": scores of lsn eval; "results": seconds of lsn extract
    assert files == {"features.h5", *learned, "cache", "results"}
    assert verify(story.folder / "lsn-work" / "features.h5") == []


def test_every_step_says_what_it_did(story: Story) -> None:
    assert "train 42 3" in " ".join(story.outputs["extract"].split())
    (row,) = json.loads(story.outputs["extract ood"])
    assert (row["split"], row["rows"], row["classes"], row["failures"]) == ("strangers", 20, 0, 0)
    assert "Next: lsn train-neg" in story.remarks["train-pos"]
    assert "Next: lsn score ./images" in story.remarks["train-neg"]
    assert "positive" in story.outputs["train-pos"]
    assert "38 images: " in story.remarks["score"]
    for text in story.outputs.values():
        if not text.startswith(("[", "path,")):
            assert max(map(len, text.splitlines())) <= 100


def test_the_detector_is_lsn_on_three_classes(story: Story) -> None:
    detector = load_detector(story.folder / "lsn-work" / "detector.safetensors")
    assert (detector.method, detector.head_name, detector.fingerprint.model) == ("lsn", "positive", "mini")
    assert detector.head.classes == ("cat", "coffee", "flower")
    assert detector.head.negative is not None
    assert detector.head.negative.shape[:2] == (3, 3)
    assert detector.threshold.n == 9


def test_more_strangers_than_friends_are_turned_away(story: Story) -> None:
    rows = list(csv.DictReader(io.StringIO(story.outputs["score"])))
    assert [row["path"] for row in rows] == sorted(row["path"] for row in rows)
    friends = [row for row in rows if row["path"].startswith("new/in/")]
    strangers = [row for row in rows if row["path"].startswith("new/out/")]
    assert (len(friends), len(strangers)) == (18, 20)
    rate = {
        name: np.mean([row["is_ood"] == "True" for row in some])
        for name, some in (("friends", friends), ("strangers", strangers))
    }
    assert rate["friends"] < rate["strangers"]
    assert np.mean([float(row["score"]) for row in friends]) > np.mean([float(r["score"]) for r in strangers])
    right = [row["predicted"] == row["path"].split("/")[2] for row in friends]
    assert np.mean(right) > 0.8


def test_eval_says_the_same_in_numbers(story: Story) -> None:
    found = {row["method"]: row for row in json.loads(story.outputs["eval"])}
    assert found.keys() == {"MCM", "CoOp + LSN,form=logit"}
    lsn = found["CoOp + LSN,form=logit"]
    assert lsn["ood"] == "strangers"
    assert (lsn["n_id"], lsn["n_ood"]) == (18, 20)
    assert lsn["auroc"] > 0.75
    assert lsn["id_accuracy"] > 0.8
    scores = list(csv.DictReader(io.StringIO(story.outputs["score"])))
    inside = [float(row["score"]) for row in scores if row["path"].startswith("new/in/")]
    outside = [float(row["score"]) for row in scores if row["path"].startswith("new/out/")]
    by_hand = np.mean([(i > o) + 0.5 * (i == o) for i in inside for o in outside])
    assert lsn["auroc"] == pytest.approx(by_hand, abs=0.01)  # features were rounded in batches of their own


def test_a_second_run_changes_nothing(story: Story) -> None:
    files = sorted(path for path in (story.folder / "lsn-work").rglob("*") if path.is_file())
    before = [path.read_bytes() for path in files]
    story.lsn("extract", "photos", "--device", "cpu", name="again")
    assert "was complete" in story.remarks["again"]
    story.lsn("train-pos", "--epochs", "15", "--batch-size", "16", "--rate", "0.02", name="again")
    story.lsn("train-neg", "--epochs", "15", "--batch-size", "16", "--rate", "0.005", name="again")
    assert [path.read_bytes() for path in files] == before
