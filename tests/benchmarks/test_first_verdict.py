"""The benchmark of the first verdict runs, accounts for the whole process and records only its full form."""

import pytest

from benchmarks.speed import first_verdict


def test_the_mini_model_goes_through_every_part(monkeypatch, capsys) -> None:
    monkeypatch.setattr(first_verdict, "one_image", one_image)
    first_verdict.main(["--tiny"])
    text = capsys.readouterr().out
    for what in (
        "lsn score ONE.jpg, mini",
        "import torch ",
        "create the model and load its",
        "fingerprint: sha256",
        "encode the image",
        "Detector.score([image]), mini",
    ):
        assert what in text
    assert "make the text tower" not in text, "the detector stores its text features"


def one_image(detector, image, rounds: int) -> dict[str, dict[str, float]]:
    (verdict,) = detector.score([image])
    assert verdict.error is None
    row = {"wall_s": 0.01, "cpu_s": 0.01, "ratio": 0.5, "lowest": 0.4, "highest": 0.6}
    return dict.fromkeys(("forward", "preprocessing and forward", "Detector.score"), row)


def test_the_time_of_an_image_in_memory_is_compared_with_what_it_takes_alone() -> None:
    row = {"wall_s": 0.01, "cpu_s": 0.01, "ratio": 1.0, "lowest": 0.9, "highest": 1.1}
    image = {"forward": row, "both": row | {"ratio": 0.5}, "ours": row | {"ratio": 0.4}}
    numbers = {"seconds": 2.0, "fastest": 1.9, "slowest": 2.1, "cpu_seconds": 1.8}
    rows = first_verdict.rows_of({"mini": numbers | {"parts": {"import torch": 1.0}, "one image": image}})
    assert [row.what.strip() for row in rows][2] == "import torch"
    assert rows[-1].measured == pytest.approx(0.8)
    assert rows[-1].met


def test_what_is_inside_a_part_does_not_count_for_the_part_around_it(monkeypatch) -> None:
    now = iter([1.0, 2.0, 5.0, 9.0])
    monkeypatch.setattr(first_verdict.time, "process_time", lambda: next(now))
    parts = first_verdict.Parts()
    parts.end("start")
    with parts.inside("inner"):
        pass
    parts.end("outer")
    assert parts.seconds == {"start": 1.0, "inner": 3.0, "outer": 5.0}
