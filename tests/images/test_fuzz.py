"""Damaged images give pixels or a reason, soon and within bounds; ``benchmarks/fuzz.py`` tries many more."""

import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.fuzz import Outcome, attempt, run
from benchmarks.mutations import MUTATIONS, case, samples
from lsncli.images.decode import decode
from lsncli.images.sources import ImageItem


@pytest.fixture(scope="module")
def images() -> dict[str, bytes]:
    sklearn = pytest.importorskip("sklearn")
    return samples(Image.open(Path(sklearn.__file__).parent / "datasets/images/flower.jpg"))


def test_every_format_is_decoded_whole(images: dict[str, bytes]) -> None:
    plain = np.asarray(decode(images["PPM"]), dtype=float)
    for name, data in images.items():
        found = decode(data)
        upright = found if found.size == (97, 64) else found.transpose(Image.Transpose.ROTATE_90)
        assert upright.size == (97, 64), name
        if name in ("JPEG", "PNG", "WebP", "TIFF", "AVIF", "HEIC", "BMP", "MPO", "JPEG CMYK"):
            assert np.abs(np.asarray(upright) - plain).mean() < 12, name


def test_cases_are_the_same_every_time_and_use_every_mutation(images: dict[str, bytes]) -> None:
    first = [case(number, images) for number in range(300)]
    assert first == [case(number, images) for number in range(300)]
    assert {done for one in first for done in one.done} == set(MUTATIONS)
    assert {one.format for one in first} == set(images)
    assert case(1, images, seed=1) != case(1, images)


def test_three_hundred_damaged_images_give_pixels_or_a_reason(
    images: dict[str, bytes], tmp_path: Path
) -> None:
    reasons = []
    for number in range(300):
        path = tmp_path / "case.jpg"
        path.write_bytes(case(number, images).data)
        began = time.perf_counter()
        reasons.append(attempt(ImageItem("case.jpg", -1, str(path), None, None)))
        assert time.perf_counter() - began < 20, number
    assert 30 < reasons.count("") < 270
    assert all("\n" not in reason for reason in reasons)


def test_the_fuzzer_sees_crashes_hangs_and_what_escapes(images: dict[str, bytes], monkeypatch) -> None:
    outcome = run({"PPM": images["PPM"]}, 3, 20, 0, None)
    assert not outcome.failed
    assert outcome.decoded + outcome.reasons.total() == 3
    assert Outcome(crashes=["x"]).failed
    hung = run({"PPM": images["PPM"]}, 1, 0.0, 0, None)
    assert len(hung.hangs) == 1
