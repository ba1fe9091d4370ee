"""``lsn explain``: the verdict of `lsn score` and its reasons, pictures, numbers and refusals."""

import json
import shutil

import numpy as np
import pytest
from cli_runner import exit_code
from PIL import Image
from training_samples import QUICK, features_of


def of(kind: str, done) -> list[dict]:
    """The rows of one kind."""
    assert done.code == 0, done.err
    return [row for row in json.loads(done.out) if row["what"] == kind]


@pytest.fixture(scope="module")
def work(tmp_path_factory, tiny_backbone):
    """A workspace with learned prompts, positive and negative."""
    folder = features_of(tiny_backbone.fingerprint, tmp_path_factory.mktemp("explain"))
    for command in ("train-pos", "train-neg"):
        assert exit_code(command, "--work", str(folder), *QUICK, "--quiet") == 0
    pixels = np.random.default_rng(4).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "an image.png")
    return folder


def test_the_predicted_class_gets_a_sheet_pictures_and_numbers(lsn, work, tmp_path) -> None:
    words = ("explain", work / "an image.png", "--work", work, "--device", "cpu", "--to", "out")
    done = lsn(*words, "--format", "json")
    rows = of("prompt", done)
    assert [row["prompt"] for row in rows] == ["positive", "negative 1", "negative 2", "negative 3"]
    assert len({row["class"] for row in rows}) == 1
    numbers = json.loads((tmp_path / "out" / "an image.explain.json").read_text())
    assert numbers["predicted"] == rows[0]["class"]
    assert [one["cosine"] for one in numbers["maps"]] == [row["cosine"] for row in rows]
    for row in rows:
        with Image.open(tmp_path / row["file"]) as picture:
            assert picture.size == (336, 336)
    with Image.open(tmp_path / "out" / "an image.explain.png") as sheet:
        assert sheet.width > 5 * 336
    again = lsn(*words, "--format", "json")
    assert again.out == done.out


def test_nothing_is_written_unless_asked_and_the_way_to_pictures_is_said(lsn, work, tmp_path) -> None:
    words = ("explain", work / "an image.png", "--work", work, "--device", "cpu")
    before = sorted(work.rglob("*"))
    done = lsn(*words, "--format", "json")
    assert done.code == 0, done.err
    assert done.err.rstrip().endswith("Pictures of this: add --to DIR")
    assert (list(tmp_path.glob("*explain*")), sorted(work.rglob("*"))) == ([], before)
    rows = of("prompt", done)
    assert [row["file"] for row in rows] == [None] * 4
    written = of("prompt", lsn(*words, "--format", "json", "--to", "out"))
    assert [{**row, "file": None} for row in written] == rows
    assert "File" not in lsn(*words).out


def test_another_class_is_shown_beside_the_predicted_one(lsn, work, tmp_path) -> None:
    words = ("explain", work / "an image.png", "--work", work, "--device", "cpu", "--format", "json")
    for name in ("cat", "dog", "small red bird"):
        words = (*words, "--class", name)
    rows = of("prompt", lsn(*words, "--to", "."))
    assert {row["class"] for row in rows} == {"cat", "dog", "small red bird"}
    assert len(rows) == 12
    assert len({row["file"] for row in rows}) == 12


def test_hand_written_prompts_need_no_learning(lsn, tiny_backbone, work, tmp_path) -> None:
    folder = features_of(tiny_backbone.fingerprint, tmp_path / "untrained")
    done = lsn("explain", work / "an image.png", "--work", folder, "--device", "cpu")
    assert done.code == 0, done.err
    assert "These prompts have no negative ones: `lsn train-neg` learns them" in done.err
    assert "No detector, so no verdict" in done.err
    assert "gamma" not in done.out
    for title in ("Most like", "Nearest images of the split train", "Where the prompts look"):
        assert title in done.out


def test_the_verdict_is_that_of_lsn_score(lsn, work) -> None:
    words = (work / "an image.png", "--work", work, "--device", "cpu", "--format", "json")
    (scored,) = json.loads(lsn("score", *words).out)
    done = lsn("explain", *words, "--top", "2", "--nearest", "4")
    (verdict,) = of("verdict", done)
    for key in ("score", "positive", "negative", "threshold", "is_ood"):
        assert verdict[key] == scored[key]
    assert 0 <= verdict["below"] <= 1
    likely, nearest = of("class", done), of("nearest", done)
    assert likely[0]["class"] == verdict["class"] == scored["predicted"]
    assert (len(likely), len(nearest)) == (2, 4)
    assert [row["cosine"] for row in nearest] == sorted((row["cosine"] for row in nearest), reverse=True)
    assert {row["class"] for row in nearest} <= {"cat", "dog", "small red bird"}
    assert of("nearest", lsn("explain", *words, "--nearest", "0")) == []


def test_people_read_why(lsn, work) -> None:
    done = lsn("explain", work / "an image.png", "--work", work, "--device", "cpu")
    assert done.code == 0, done.err
    first = done.out.splitlines()[0]
    assert first.startswith(("OOD: the score is", "ID: the score is"))
    for text in ("CoOp + LSN", "positive", "negative", "gamma", "Probability %", ".jpg"):
        assert text in done.out


def test_a_detector_alone_explains_its_verdict(lsn, work, tmp_path) -> None:
    (tmp_path / "alone").mkdir()
    shutil.copy(work / "detector.safetensors", tmp_path / "alone")
    words = (work / "an image.png", "--device", "cpu", "--format", "json")
    done = lsn("explain", *words, "--work", tmp_path / "alone")
    assert (
        of("verdict", done)[0]["score"] == of("verdict", lsn("explain", *words, "--work", work))[0]["score"]
    )
    assert of("nearest", done) == []
    assert "no training images to show" in done.err
    assert len(of("prompt", done)) == 4


def test_the_prompts_that_decide_are_looked_through_unless_others_are_named(lsn, work, tmp_path) -> None:
    folder = shutil.copytree(work, tmp_path / "copy")
    words = ("--work", folder, "--device", "cpu")
    assert lsn("calibrate", "--method", "mcm", *words).code == 0
    own = lsn("explain", folder / "an image.png", *words, "--format", "json")
    assert [row["prompt"] for row in of("prompt", own)] == ["positive"]
    assert "--head positive looks through the learned ones" in own.err
    assert (of("verdict", own)[0]["positive"], of("verdict", own)[0]["negative"]) == (None, None)
    learned = lsn("explain", folder / "an image.png", *words, "--format", "json", "--head", "positive")
    assert len(of("prompt", learned)) == 4
    assert of("verdict", learned) == of("verdict", own)


def test_a_detector_of_another_model_gives_no_verdict(lsn, tiny_backbone, work, tmp_path) -> None:
    from dataclasses import replace

    from lsncli.artefacts.detector import load_detector, save_detector

    folder = shutil.copytree(work, tmp_path / "copy")
    detector = load_detector(folder / "detector.safetensors")
    other = replace(detector, fingerprint=replace(detector.fingerprint, weights="ff"))
    save_detector(folder / "detector.safetensors", other)
    words = (folder / "an image.png", "--work", folder, "--device", "cpu", "--format", "json")
    done = lsn("explain", *words)
    assert of("verdict", done) == []
    assert "The detector is of another model than the store" in done.err
    assert len(of("prompt", done)) == 4
    assert lsn("explain", *words, "--head", "detector").code == 1


def test_cocoop_prompts_have_reasons_but_no_maps(lsn, tiny_backbone, tmp_path) -> None:
    folder = features_of(tiny_backbone.fingerprint, tmp_path / "cocoop")
    words = ("--work", folder, "--device", "cpu")
    assert lsn("train-pos", "--learner", "cocoop", *words, *QUICK).code == 0
    Image.new("RGB", (40, 40), "red").save(tmp_path / "red.png")
    done = lsn("explain", tmp_path / "red.png", *words, "--format", "json", "--to", ".")
    assert len(of("verdict", done)) == 1
    assert of("prompt", done) == []
    assert "There are no heat maps: CoCoOp prompts have no heat maps" in done.err
    with Image.open(tmp_path / "red.explain.png") as sheet:
        assert sheet.width == 10 + 3 * 346
    assert lsn("explain", tmp_path / "red.png", *words, "--class", "hen").code == 2


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["an image.png", "--class", "hen"], 2, "found 'hen'"),
        (["an image.png", "--head", "linear"], 2, "--head: expected one of"),
        (["an image.png", "--head", "hand", "--train", "absent"], 1, "no split 'absent'"),
        (["absent.png"], 2, "There is no"),
        (["an image.png", "--top", "0"], 2, "--top"),
        (["an image.png", "--to", "an image.png"], 1, "cannot be written"),
    ],
)
def test_what_cannot_be_meant_is_refused(lsn, work, monkeypatch, words, code, message) -> None:
    monkeypatch.chdir(work)
    done = lsn("explain", *words, "--work", work, "--device", "cpu")
    assert (done.code, done.out) == (code, "")
    assert message in done.err
