"""``benchmarks.speed.decoding`` in its tiny form: pixels as promised; times mean nothing."""

import pytest

pytest.importorskip("simplejpeg")

from benchmarks.speed import decoding


def test_exact_pixels_are_open_clip_s_and_fast_ones_within_two_levels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("LSN_IMAGES", raising=False)
    found = {row.what: row for row in decoding.rows(tiny=True)}
    assert len(found) == 10
    for name in ("photos", "ImageNet's size"):
        assert found[f"preprocessing, {name}, exact, largest difference"].measured == 0
        fast = found[f"preprocessing, {name}, fast, largest difference"]
        assert 0 < fast.measured <= 2
        assert fast.met
        assert found[f"preprocessing, {name}, fast"].measured > 0
