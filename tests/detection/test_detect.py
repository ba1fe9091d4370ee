"""Verdicts on real image files: those of the stored features, in order, with failures in their place."""

import io
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lsncli.detection.calibrate import make_detector
from lsncli.detection.detect import Verdict, detect, detect_split
from lsncli.errors import FingerprintMismatch, LsnError
from lsncli.extraction.extract import extract
from lsncli.images.listing import list_images
from lsncli.methods.spec import parse_method
from lsncli.methods.workspace import Workspace
from lsncli.scores import load_score
from lsncli.store.reader import read_split
from lsncli.types import Failure, unit


def painted(path: Path, colour: tuple[int, int, int], seed: int) -> None:
    noise = np.random.default_rng(seed).integers(-30, 30, (40, 48, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(noise + colour, 0, 255).astype(np.uint8)).save(path)


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for name, colour in (("red", (200, 40, 40)), ("green", (40, 200, 40)), ("blue", (40, 40, 200))):
        for i in range(6):
            painted(folder / name / f"{i}.png", colour, i)
    return folder


@pytest.fixture(scope="module")
def made(photos: Path, tmp_path_factory, tiny_backbone):
    work = Workspace(tmp_path_factory.mktemp("work"))
    extract(
        list_images([photos]),
        source="photos",
        store=work.features,
        split="train",
        backbone=tiny_backbone,
        batch_size=4,
        workers=2,
    )
    return work, make_detector(work, parse_method("mcm"), target_tpr=0.5)


def verdicts(paths: list[Path], detector, backbone, batch_size: int = 4):
    done, found = 0, []
    for count, batch in detect(list_images(paths), detector, backbone, batch_size=batch_size, workers=2):
        done += count
        found += batch
    return done, found


def test_verdicts_are_those_of_the_stored_features(photos: Path, made, tiny_backbone) -> None:
    work, detector = made
    done, found = verdicts([photos], detector, tiny_backbone)
    split = read_split(work.features, "train")
    scores = load_score("mcm").scorer(detector.head, {})(split.features)
    gamma = detector.threshold.gamma
    assert done == len(found) == 18
    assert [Path(one.path).relative_to(photos).as_posix() for one in found] == list(split.keys)
    assert [one.score for one in found] == pytest.approx(scores.tolist(), abs=1e-12)
    assert [one.is_ood for one in found] == (scores < gamma).tolist()
    assert {one.is_ood for one in found} == {True, False}
    held_out = detector.held_out.tolist()
    assert len(held_out) == detector.threshold.n == 3
    assert [one.p_value for one in found] == [
        (1 + sum(score <= one.score for score in held_out)) / 4 for one in found
    ]
    assert len({one.p_value for one in found}) > 1
    assert {one.threshold for one in found} == {gamma}
    assert {one.predicted for one in found} <= set(split.classes)
    assert all(type(one.is_ood) is bool and type(one.score) is float for one in found)


def test_a_detector_of_an_older_file_gives_no_p_value(photos: Path, made, tiny_backbone) -> None:
    older = replace(made[1], held_out=None)
    found, again = (verdicts([photos], one, tiny_backbone)[1] for one in (made[1], older))
    assert [replace(one, p_value=None) for one in found] == again


def test_a_score_that_equals_the_threshold_is_id(photos: Path, made, tiny_backbone) -> None:
    detector = made[1]
    _, found = verdicts([photos], detector, tiny_backbone)
    middle = sorted(one.score for one in found)[9]
    strict = replace(detector, threshold=replace(detector.threshold, gamma=middle))
    _, again = verdicts([photos], strict, tiny_backbone)
    assert [one.is_ood for one in again] == [one.score < middle for one in found]
    assert sum(one.is_ood for one in again) < sum(one.score <= middle for one in found)


def test_failures_stand_where_their_image_would(photos: Path, made, tiny_backbone, tmp_path: Path) -> None:
    for i in range(7):
        painted(tmp_path / f"{i}.png", (200, 40, 40), i)
    (tmp_path / "0.png").write_bytes(b"")
    (tmp_path / "3.png").write_text("not an image")
    (tmp_path / "loop").symlink_to(tmp_path)
    done, found = verdicts([tmp_path], made[1], tiny_backbone, batch_size=2)
    assert done == 7
    assert [one.error is None for one in found] == [False, False, True, True, False, True, True, True]
    assert found[0] == Verdict(
        f"{tmp_path}/loop/", error="a symbolic link back to one of its own parent folders"
    )
    assert found[1] == Verdict(str(tmp_path / "0.png"), error="an empty file")
    assert found[4].path == str(tmp_path / "3.png")
    assert found[4].error.startswith("not an image")


def test_a_batch_in_which_nothing_can_be_read_is_no_trouble(made, tiny_backbone, tmp_path: Path) -> None:
    for i in range(5):
        (tmp_path / f"{i}.jpg").write_bytes(b"")
    done, found = verdicts([tmp_path], made[1], tiny_backbone, batch_size=2)
    assert done == 5
    assert all(one.kind == "failed" for one in found)


def test_members_of_a_tar_are_shown_with_it(photos: Path, made, tiny_backbone, tmp_path: Path) -> None:
    path = tmp_path / "some.tar"
    with tarfile.open(path, "w") as tar:
        for name in ("green/0.png", "red/0.png"):
            data = (photos / name).read_bytes()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    _, found = verdicts([path], made[1], tiny_backbone)
    _, loose = verdicts([photos / "red" / "0.png"], made[1], tiny_backbone)
    assert [one.path for one in found] == [f"{path}:green/0.png", f"{path}:red/0.png"]
    assert found[1].score == pytest.approx(loose[0].score, abs=1e-5)


def test_the_batch_size_changes_no_verdict(photos: Path, made, tiny_backbone) -> None:
    _, small = verdicts([photos], made[1], tiny_backbone, batch_size=1)
    _, large = verdicts([photos], made[1], tiny_backbone, batch_size=64)
    assert [one.predicted for one in small] == [one.predicted for one in large]
    assert [one.score for one in small] == pytest.approx([one.score for one in large], abs=1e-5)


def test_a_detector_that_lacks_what_its_score_learned_is_damaged(
    made, photos, tiny_backbone, tmp_path: Path
) -> None:
    work = Workspace(Path(shutil.copytree(made[0].folder, tmp_path / "work")))
    detector = make_detector(work, parse_method("knn,k=2"))
    with pytest.raises(LsnError, match="it lacks 'bank', which the score 'knn' learned") as caught:
        verdicts([photos], replace(detector, learned={}), tiny_backbone)
    assert "lsn calibrate --method knn" in caught.value.hint


def test_only_an_lsn_score_has_two_parts_and_they_add_up(made, photos, tiny_backbone) -> None:
    plain = made[1]
    _, found = verdicts([photos], plain, tiny_backbone)
    assert {(one.positive, one.negative) for one in found} == {(None, None)}
    negative = np.random.default_rng(1).normal(size=(2, *plain.head.weights.shape))
    head = replace(plain.head, negative=unit(negative))
    _, found = verdicts([photos], replace(plain, method="lsn", settings={}, head=head), tiny_backbone)
    assert [one.positive + one.negative for one in found] == [one.score for one in found]
    assert all(one.negative < 0 < one.positive for one in found)


def test_stored_features_are_judged_as_images_are(made, photos, tiny_backbone) -> None:
    work, detector = made
    split = replace(read_split(work.features, "train"), failures=(Failure("lost.png", "an empty file"),))
    _, found = verdicts([photos], detector, tiny_backbone)

    def model():
        raise AssertionError("no model is needed")

    batches = list(detect_split(split, detector.fingerprint, detector, model))
    assert batches[0] == (1, [Verdict("lost.png", error="an empty file")])
    assert sum(done for done, _ in batches) == 19
    stored = [one for _, batch in batches[1:] for one in batch]
    assert [one.path for one in stored] == list(split.keys)
    assert [one.score for one in stored] == pytest.approx([one.score for one in found], abs=1e-12)
    with pytest.raises(FingerprintMismatch, match="of another model"):
        next(detect_split(split, replace(detector.fingerprint, weights="other"), detector, model))
