"""The self-check: nothing is said of images like calibration's, a sentence of each way to be unlike them."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from lsncli.artefacts.detector import ImageStatistics, SavedDetector, load_detector, save_detector
from lsncli.artefacts.prompts import HeadSource
from lsncli.detection import drift
from lsncli.detection.detect import Verdict
from lsncli.detection.drift import Drift, ImageSample, image_statistics, sharpness
from lsncli.threshold import Threshold, uncalibrated
from lsncli.types import Fingerprint

SEEN = ImageStatistics(images=200, ood=0.05, side=(100.0, 200.0, 400.0), sharpness=(0.2, 0.5, 1.0))


def made(record=SEEN, threshold=None):
    model = Fingerprint("m", "", "0" * 64, 2, 64, "bicubic", "squash", (0.0,) * 3, (1.0,) * 3, "fp32", 100.0)
    threshold = threshold or Threshold(0.5, 0.95, 200, 0.91, 0.97)
    head = HeadSource(("cat", "dog"), 100.0, np.eye(2), None)
    return SavedDetector("mcm", "MCM", {"tau": 1.0}, "hand", head, model, threshold, seen=record)


def verdicts(ood: int, count: int):
    return [Verdict(str(i), "cat", 0.0, 0.5, i < ood) for i in range(count)]


def photo(size, blur: float = 0.0, seed: int = 0) -> Image.Image:
    rough = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(rough).filter(ImageFilter.GaussianBlur(0.7 + blur))


class Plain:
    """A backbone that scales to 64 pixels."""

    def preprocess(self, image):
        small = np.array(image.resize((64, 64), Image.Resampling.BICUBIC), dtype=np.float32)
        return torch.from_numpy(small).permute(2, 0, 1)

    def encode(self, pixels):
        return "encoded"


def rough(blur: float, random: np.random.Generator) -> np.ndarray:
    """Pixels whose sharpness falls with ``blur``."""
    noise = random.normal(size=(3, 32, 32))
    smooth = np.cumsum(random.normal(size=(3, 32, 32)), axis=2)
    return (noise + blur * smooth).astype(np.float32)


def warnings_of(images, record, ood=2):
    found = Drift(made(record))
    backbone = found.watching(Plain())
    for image in images:
        backbone.preprocess(image)
    found.count(verdicts(ood, 40))
    return found.warnings()


@pytest.fixture(scope="module")
def record() -> ImageStatistics:
    looks = ImageSample()
    watched = looks.watching(Plain())
    for i in range(200):
        watched.preprocess(photo((100 + i % 30, 90 + i % 20), seed=i))
    return image_statistics(looks, 200, 0.05)


def test_images_like_those_of_calibration_are_no_news(record) -> None:
    assert warnings_of([photo((110, 100), seed=1000 + i) for i in range(40)], record) == []
    assert 90 <= record.side[0] <= record.side[1] <= record.side[2] <= 110


def test_small_large_blurred_and_sharp_images_are_told(record) -> None:
    (small,) = [t for t in warnings_of([photo((40, 30))] * 40, record) if "shorter side" in t]
    assert small.startswith(
        "The images are smaller than calibration's: the median of the shorter side is 30 "
    )
    (large,) = [t for t in warnings_of([photo((900, 700))] * 40, record) if "shorter side" in t]
    assert "larger" in large
    (blurred,) = warnings_of([photo((110, 100), blur=3.0, seed=i) for i in range(40)], record)
    assert blurred.startswith("The images are blurrier than 95% of calibration's")
    low = ImageStatistics(200, 0.05, record.side, (0.0, 0.01, 0.02))
    (sharp,) = warnings_of([photo((110, 100), seed=i) for i in range(40)], low)
    assert "sharper" in sharp


@pytest.mark.parametrize(("ood", "said"), [(0, False), (5, False), (20, False), (30, True), (40, True)])
def test_more_than_half_of_what_calibration_kept_must_be_lost(ood, said) -> None:
    found = Drift(made())
    found.count(verdicts(ood, 40))
    texts = found.warnings()
    assert bool(texts) is said
    if said:
        shares = f"({ood / 40:.0%}) are below the detector's threshold, 5% at calibration"
        assert f"{ood} of 40 images {shares}" in texts[0]
        assert "lsn calibrate FOLDER" in texts[0]


def test_unlikely_few_ood_images_hint_at_images_that_prompts_learned_from() -> None:
    found = Drift(made())
    found.count(verdicts(0, 400))
    (text,) = found.warnings()
    assert "0 of 400 images (0%) are below the detector's threshold" in text
    assert "did the prompts learn from these?" in text


def test_few_images_failures_and_uncalibrated_detectors_say_nothing() -> None:
    few = Drift(made())
    few.count(verdicts(19, 19))
    few.count([Verdict("x", error="broken")] * 100)
    assert few.warnings() == []
    few.count(verdicts(1, 1))
    assert few.warnings() != []
    free = Drift(made(None, uncalibrated(0.5)))
    free.count(verdicts(100, 100))
    assert free.warnings() == []


def test_without_a_record_images_are_not_looked_at_but_the_share_is_watched() -> None:
    found, plain = Drift(made(None)), Plain()
    assert found.watching(plain) is plain
    found.count(verdicts(40, 40))
    assert len(found.warnings()) == 1


def test_a_watched_backbone_is_otherwise_the_same() -> None:
    watched = ImageSample().watching(Plain())
    assert watched.encode(None) == "encoded"
    image = photo((50, 60))
    assert torch.equal(watched.preprocess(image), Plain().preprocess(image))


def test_sharpness_falls_with_blur_and_not_with_contrast_or_brightness() -> None:
    plain = Plain()
    values = [sharpness(plain.preprocess(photo((64, 64), blur)).numpy()) for blur in (0, 0.5, 1, 2)]
    assert values == sorted(values, reverse=True)
    pixels = plain.preprocess(photo((64, 64))).numpy()
    assert sharpness(0.1 * pixels + 3) == pytest.approx(sharpness(pixels), rel=1e-3)
    assert sharpness(np.full((3, 8, 8), 0.3, np.float32)) == 0
    assert sharpness(np.zeros((3, 2, 2), np.float32)) == 0


def test_a_bounded_even_sample_is_kept_of_any_number(monkeypatch) -> None:
    monkeypatch.setattr(drift, "SAMPLE", 10)
    looks = ImageSample()
    for number in range(1, 1001):
        looks.see(Image.new("RGB", (number, 2000)), torch.zeros(3, 4, 4))
    sides = [side for side, _ in looks._samples]
    assert 10 <= len(sides) <= 20
    assert len({b - a for a, b in pairwise(sides)}) == 1
    assert sides[-1] > 900


def test_few_images_of_the_same_kind_are_no_news() -> None:
    """30 to calibrate with and 20 to score, the least that is judged: every image counts in both."""
    alarms = 0
    random = np.random.default_rng(0)
    for _ in range(100):
        looks, found = ImageSample(), None
        for images, count in ((looks, 30), (None, 20)):
            if images is None:
                found = Drift(made(image_statistics(looks, 30, 0.05)))
                images = found._sample
            for blur in random.uniform(0, 2, count):
                images.see(Image.new("RGB", (100, 100)), torch.from_numpy(rough(blur, random)))
        found.count(verdicts(1, 20))
        alarms += bool(found.warnings())
    assert alarms <= 1


def test_calibration_on_fewer_images_than_are_judged_says_nothing_of_sharpness() -> None:
    few = ImageStatistics(19, 0.05, (100.0, 100.0, 100.0), (0.0, 0.01, 0.02))
    assert warnings_of([photo((110, 100), seed=i) for i in range(40)], few) == []


def test_a_look_costs_little_because_it_reads_a_twelfth_of_the_pixels() -> None:
    """The green channel in the middle half of both sides; nothing else may be so much as added up."""
    pixels = np.random.default_rng(0).random((3, 224, 224)).astype(np.float32)
    middle = np.full_like(pixels, np.nan)
    middle[1, 56:168, 56:168] = pixels[1, 56:168, 56:168]
    assert sharpness(middle) == sharpness(pixels) > 0
    assert np.isfinite(middle).sum() * 12 == pixels.size


def test_a_detector_file_keeps_what_calibration_saw_and_older_files_have_none(tmp_path) -> None:
    for record in (SEEN, None):
        save_detector(tmp_path / "d", made(record))
        assert load_detector(tmp_path / "d").seen == record


def test_a_rate_does_not_hold_for_images_unlike_those_of_calibration() -> None:
    far = Drift(made())
    far.count(verdicts(38, 40))
    assert far.warnings(rate=True) == [*far.warnings(), drift.RATE_IN_DOUBT]
    small = Drift(made())
    backbone = small.watching(Plain())
    for at in range(40):
        backbone.preprocess(photo((40, 30), seed=at))
    small.count(verdicts(2, 40))
    assert small.warnings(rate=True) == [*small.warnings(), drift.RATE_LOST]
    usual = Drift(made())
    usual.count(verdicts(2, 40))
    assert usual.warnings(rate=True) == []
