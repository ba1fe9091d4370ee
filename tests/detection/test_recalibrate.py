"""Gamma from a user's own images: the rate kept, what is recorded, what is doubted."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lsncli.artefacts.detector import load_detector, save_detector
from lsncli.detection.calibrate import make_detector, recalibrate, unsupported
from lsncli.detection.detect import detect
from lsncli.detection.drift import Drift
from lsncli.detection.zero_shot import zero_shot_detector
from lsncli.errors import LsnError
from lsncli.extraction.extract import extract
from lsncli.images.listing import list_images
from lsncli.methods.spec import parse_method
from lsncli.methods.workspace import Workspace

COLOURS = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200)}


def paint(folder: Path, count: int, colours=COLOURS, *, seed: int = 0, size=(48, 40)) -> Path:
    for name in colours:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            noise = np.random.default_rng([seed, i]).integers(-60, 60, (size[1], size[0], 3))
            pixels = np.clip(noise + COLOURS[name], 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def stored(tmp_path_factory, tiny_backbone):
    """A detector of the three colours, calibrated on few stored rows."""
    root = tmp_path_factory.mktemp("recalibrate")
    work = Workspace(root / "work")
    photos = paint(root / "photos", 8)
    extract(
        list_images([photos]), source="photos", store=work.features, split="train", backbone=tiny_backbone
    )
    return make_detector(work, parse_method("mcm"), model=lambda: tiny_backbone)


def run(detector, folder, backbone, target=0.9):
    return recalibrate(detector, list_images([folder]), backbone, target, batch_size=8, workers=2)


def test_the_new_gamma_keeps_the_target_of_the_images(stored, tiny_backbone, tmp_path) -> None:
    images = paint(tmp_path / "own", 40, seed=1)
    found = run(stored, images, tiny_backbone)
    save_detector(tmp_path / "d", found.detector)
    again = load_detector(tmp_path / "d")
    verdicts = [
        one
        for _, batch in detect(list_images([images]), again, tiny_backbone, batch_size=5, workers=2)
        for one in batch
    ]
    kept = np.mean([not one.is_ood for one in verdicts])
    assert 0.9 <= kept <= 0.9 + 1 / 120
    assert (again.threshold.n, again.threshold.target_tpr) == (120, 0.9)
    assert again.seen.ood == pytest.approx(1 - kept)
    assert again.seen.images == 120
    assert again.seen.side == (40, 40, 40)
    assert (again.method, again.label, again.settings) == (stored.method, stored.label, stored.settings)
    old = np.mean([one.score >= stored.threshold.gamma for one in verdicts])
    assert found.kept_before == pytest.approx(old)
    assert sum(found.predicted.values()) == 120
    assert found.failures == ()


def test_scoring_such_images_again_is_no_drift_and_others_are(stored, tiny_backbone, tmp_path) -> None:
    detector = run(stored, paint(tmp_path / "own", 40, seed=1), tiny_backbone).detector

    def warned(folder: Path) -> str:
        drift, listing = Drift(detector), list_images([folder])
        watched = drift.watching(tiny_backbone)
        for _, batch in detect(listing, detector, watched, batch_size=8, workers=2):
            drift.count(batch)
        return " ".join(drift.warnings())

    assert "shorter side" not in warned(paint(tmp_path / "more", 20, seed=5))
    assert "The images are larger than calibration's" in warned(
        paint(tmp_path / "large", 20, seed=6, size=(300, 200))
    )


def test_broken_images_set_nothing_and_are_told(stored, tiny_backbone, tmp_path) -> None:
    images = paint(tmp_path / "own", 10)
    (images / "red" / "0.png").write_bytes(b"no image")
    found = run(stored, images, tiny_backbone)
    assert found.detector.threshold.n == 29
    (failure,) = found.failures
    assert failure.key.endswith("0.png")
    for path in images.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(LsnError, match="no readable image to set the threshold") as caught:
        run(stored, images, tiny_backbone)
    assert "an empty file" in caught.value.hint


def test_a_zero_shot_detector_becomes_a_calibrated_one(tiny_backbone, tmp_path) -> None:
    before = zero_shot_detector(["red", "green", "blue"], tiny_backbone)
    after = run(before, paint(tmp_path / "own", 40), tiny_backbone, 0.95).detector
    assert (before.threshold.calibrated, after.threshold.calibrated) == (False, True)
    assert after.threshold.tpr_low < 0.95 < after.threshold.tpr_high


def test_few_images_and_few_classes_are_doubted(stored, tiny_backbone, tmp_path) -> None:
    few = run(stored, paint(tmp_path / "few", 2), tiny_backbone, 0.95)
    assert "6 held-out images cannot resolve a TPR of 95%" in few.warnings[0]
    assert "held-out images are few" in run(stored, paint(tmp_path / "some", 10), tiny_backbone).warnings[0]


def test_classes_without_images_are_told_if_they_are_most() -> None:
    assert unsupported("abcd", {"a", "b"}) == ""
    text = unsupported("abcd", ["a", "a"])
    assert text.startswith("3 of 4 classes, such as 'b', have no image among those that set gamma")
    assert unsupported("abcd", "abcd") == ""
