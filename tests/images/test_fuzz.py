"""Damaged images give pixels or a reason; ``tests/robustness/fuzz.py`` tries many more, and counts those that
take long. Here one that never ends is stopped by the time limit of every test."""

import os
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from waiting import PATIENCE

from lsncli.images.decode import decode
from lsncli.images.item import ImageItem
from tests.robustness.fuzz import Outcome, attempt, run
from tests.robustness.mutations import MUTATIONS, case, samples


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
        reasons.append(attempt(ImageItem("case.jpg", str(path))))
    assert 30 < reasons.count("") < 270
    assert all("\n" not in reason for reason in reasons)


def stuck(link: Connection, images: dict[str, bytes], start: int, count: int, seed: int) -> None:
    link.send("one that never comes back")
    link.recv()


def troubled(link: Connection, images: dict[str, bytes], start: int, count: int, seed: int) -> None:
    for number in range(start, count):
        link.send(("one that crashes", "one that raises", "a good one")[number])
        if number == 0:
            os._exit(3)
        link.send(("", "ValueError: no reason" if number == 1 else "", 0.0, 0.0))


def test_the_fuzzer_sees_crashes_hangs_and_what_escapes(images: dict[str, bytes]) -> None:
    outcome = run({"PPM": images["PPM"]}, 3, PATIENCE, 0, None)
    assert not outcome.failed
    assert outcome.decoded + outcome.reasons.total() == 3
    hung = run({}, 1, 0.01, 0, None, stuck)
    assert (hung.hangs, hung.failed) == (["case 0, one that never comes back"], True)
    found = run({}, 3, PATIENCE, 0, None, troubled)
    assert found.crashes == ["case 0, one that crashes (exit code 3)"]
    assert found.escaped == ["case 1, one that raises: ValueError: no reason"]
    assert (found.decoded, found.failed) == (1, True)
    assert Outcome(escaped=["x"]).failed
