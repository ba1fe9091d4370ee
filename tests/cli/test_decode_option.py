"""``lsn extract --decode fast``: what goes with it, what does not, and what all later commands make of it."""

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lsncli.store.reader import read_fingerprint, read_split
from lsncli.types import unit

pytest.importorskip("simplejpeg")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of eight JPEGs, of many sizes; one of them is cut short."""
    random = np.random.default_rng(3)
    for index in range(16):
        coarse = random.integers(0, 256, (4 + index % 3, 5, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((90 + 11 * index, 130 - 5 * index), Image.Resampling.BICUBIC)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=80, progressive=index % 5 == 0)
        path = tmp_path / "photos" / "ab"[index % 2] / f"{index:02d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(buffer.getvalue()[: 300 if index == 7 else None])
    return tmp_path / "photos"


def test_fast_features_are_near_and_every_command_decodes_as_the_store_did(
    lsn, photos: Path, tmp_path: Path
) -> None:
    for how in ("exact", "fast"):
        words = ("extract", photos, "--model", "mini", "--work", how, "--max-failure-rate", "0.1")
        assert lsn(*words, "--decode", how).code == 0
    stores = [tmp_path / how / "features.h5" for how in ("exact", "fast")]
    exact, fast = (read_split(store, "train") for store in stores)
    assert [read_fingerprint(store).decode for store in stores] == ["exact", "fast"]
    assert fast.keys == exact.keys
    assert fast.failures == exact.failures
    assert len(fast.failures) == 1
    assert (unit(fast.features) * unit(exact.features)).sum(axis=1).min() > 0.9999
    assert not np.array_equal(fast.features, exact.features)
    # Another split of the store, with no option, and the other decoding, which is another model.
    assert lsn("extract", photos, "--work", "fast", "--split", "test", "--max-failure-rate", 1).code == 0
    assert np.array_equal(read_split(stores[1], "test").features, fast.features)
    other = lsn("extract", photos, "--work", "fast", "--split", "more", "--decode", "exact")
    assert other.code == 4
    assert "mini fp32 fast decoding" in other.err

    assert lsn("calibrate", "--method", "mcm", "--work", "fast").code == 0
    options = ("--work", "fast", "--format", "json", "--max-failure-rate", 1)
    stored, images = lsn("score", "--split", "train", *options), lsn("score", photos, *options)
    assert stored.code == images.code == 0
    of_split, of_images = (
        {
            Path(row["path"]).name: row["score"]
            for row in json.loads(result.out)
            if row.get("score") is not None
        }
        for result in (stored, images)
    )
    assert of_images == of_split
    assert len(of_images) == 15


def test_another_word_and_a_missing_library_are_clear(
    lsn, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("extract", photos, "--model", "mini", "--work", "w", "--decode")
    wrong = lsn(*words, "quick")
    assert wrong.code == 2
    assert "expected exact or fast, found 'quick'" in wrong.err
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    missing = lsn(*words, "fast")
    assert missing.code == 5
    assert "pip install 'lsncli[fast]'" in missing.err
    assert not Path("w/features.h5.parts").exists()
