"""The benchmark's feature store: extracted once, then usable without images; a loud end without either."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from mini_samples import write_store
from PIL import Image

from benchmarks.mini import store
from lsncli.errors import FingerprintMismatch, LsnError, Unavailable
from lsncli.store.reader import list_splits


def make_tar(folder: Path, name: str, classes: tuple[str, ...], count: int = 3) -> None:
    random = np.random.default_rng(0)
    with tarfile.open(folder / f"{name}.tar", "w") as tar:
        for label in classes:
            for number in range(count):
                data = io.BytesIO()
                pixels = random.integers(0, 255, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(data, "png")
                member = tarfile.TarInfo(f"{name}/{label}/{number}.png")
                member.size = len(data.getvalue())
                tar.addfile(member, io.BytesIO(data.getvalue()))


def test_a_set_is_extracted_once_and_then_needs_no_images(tmp_path, monkeypatch) -> None:
    images, cache = tmp_path / "images", tmp_path / "cache"
    images.mkdir()
    make_tar(images, "imagenette-val", ("n01440764_tench", "n03445777_golf_ball"))
    monkeypatch.setenv("LSN_IMAGES", str(images))
    first = store.read_set("imagenette-val", cache)
    assert first.classes == ("tench", "golf ball")
    assert first.labels.tolist() == [0, 0, 0, 1, 1, 1]
    monkeypatch.delenv("LSN_IMAGES")
    store.read_set.cache_clear()
    again = store.read_set("imagenette-val", cache)
    assert np.array_equal(first.features, again.features)
    assert store.logit_scale(cache) == pytest.approx(100, abs=0.1)


def test_without_images_and_cache_there_is_one_sentence_and_exit_code_5(
    tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.delenv("LSN_IMAGES", raising=False)
    monkeypatch.setattr("sys.argv", ["mini_store", "--cache", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        store.exit_like_lsn(store.main)
    assert stop.value.code == Unavailable.exit_code == 5
    said = capsys.readouterr().err
    assert "LSN_IMAGES" in said
    assert "needs 11 image sets" in said
    assert not list(tmp_path.iterdir())


def test_only_what_is_missing_is_asked_for(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("LSN_IMAGES", raising=False)
    write_store(tmp_path, rows=1)
    assert set(list_splits(store.store_at(tmp_path))) == set(store.SETS)
    store.prepare(store.SETS, tmp_path)
    with pytest.raises(Unavailable, match=r"needs 1 image sets .*\(svhn\)"):
        store.prepare([*store.SETS, "svhn"], tmp_path)


def test_prompts_are_never_learned_with_another_model_than_the_features(tmp_path, monkeypatch) -> None:
    images = tmp_path / "images"
    images.mkdir()
    make_tar(images, "imagenette-val", ("n01440764_tench", "n03445777_golf_ball"))
    store.prepare(["imagenette-val"], tmp_path, images, quiet=True)
    made = store.read_fingerprint(store.store_at(tmp_path))
    monkeypatch.setattr(
        store, "read_fingerprint", lambda path: type(made)(**{**made.__dict__, "weights": "00" * 32})
    )
    with pytest.raises(FingerprintMismatch):
        store.text_tower(tmp_path)


def test_an_unreadable_image_is_not_passed_over(tmp_path) -> None:
    (tmp_path / "imagenette-val.tar").write_bytes(b"")
    make_tar(tmp_path, "imagenette-val", ("n01440764_tench",))
    with tarfile.open(tmp_path / "imagenette-val.tar", "a") as tar:
        member = tarfile.TarInfo("imagenette-val/n01440764_tench/broken.png")
        member.size = 4
        tar.addfile(member, io.BytesIO(b"junk"))
    with pytest.raises(LsnError, match=r"1 of 4 images failed"):
        store.prepare(["imagenette-val"], tmp_path / "cache", tmp_path, quiet=True)
    with pytest.raises(LsnError, match="1 images of imagenette-val could not be read"):
        store.read_set("imagenette-val", tmp_path / "cache")


def test_the_cache_is_named_by_the_environment_or_the_users_own(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("LSN_MINI_BENCH", str(tmp_path))
    assert store.default_cache() == tmp_path
    monkeypatch.delenv("LSN_MINI_BENCH")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert store.default_cache() == tmp_path / "lsn-mini-bench"
