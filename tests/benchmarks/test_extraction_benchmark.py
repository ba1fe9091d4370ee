"""The extraction benchmark: plain loops that compute what open_clip computes, and the script itself."""

import numpy as np
import pytest
import torch

from benchmarks.speed import extraction, plain_extraction, subjects
from benchmarks.speed.subjects import load, made_up, photos, run_ours, sources
from lsncli.images.item import Listing
from lsncli.store.reader import read_split


@pytest.fixture(scope="module")
def listing() -> Listing:
    return photos(sources(None), 5)


def test_photos_repeat_under_other_names() -> None:
    count = len(photos(sources(None), 1).items)
    more = photos(sources(None), 100).items
    assert count == 1
    assert len({item.key for item in more}) == 100
    assert len({item.path for item in more}) < 50


def test_made_up_photos_are_like_those_of_imagenet(tmp_path) -> None:
    items = photos(made_up(tmp_path, 2), 4).items
    assert len({(item.offset, item.path) for item in items}) == 2
    assert all(50_000 < item.size < 200_000 for item in items)
    assert plain_extraction.open_image(items[0]).size == (500, 375)


def test_the_plain_loops_and_ours_encode_the_same_images(listing: Listing, tmp_path) -> None:
    backbone, cpu = load("mini", tmp_path), torch.device("cpu")
    theirs = plain_extraction.loader(listing.items, backbone.model, backbone.transform, cpu).numpy()
    run_ours(listing, backbone, tmp_path / "features.h5")
    ours = np.asarray(read_split(tmp_path / "features.h5", "photos").features)
    assert extraction.smallest_cosine(ours, theirs) > 0.9999
    authors = plain_extraction.authors(
        listing.items, backbone.model, backbone.fingerprint.image_size, cpu
    ).numpy()
    assert np.linalg.norm(authors.astype(float), axis=1) == pytest.approx(1, abs=2e-3)
    assert 0.9 < extraction.smallest_cosine(ours, authors) < 0.99999  # bilinear is another preprocessing


def test_extraction_runs_in_its_tiny_form(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extraction, "record", lambda *_, **__: pytest.fail("a reduced form wrote a record"))
    monkeypatch.delenv("LSN_IMAGES", raising=False)
    extraction.main(["--tiny"])
    out = capsys.readouterr().out
    for variant in (extraction.AUTHORS, extraction.LOADER, extraction.FP32, extraction.ALONE + "exact"):
        assert variant in out
    assert "smallest cosine with open_clip's features: 1.0000" in out


@pytest.mark.parametrize("native", [True, False])
def test_bf16_is_measured_and_judged_only_where_it_is_native(
    tmp_path, monkeypatch: pytest.MonkeyPatch, native: bool
) -> None:
    here = {"kind": "amx", "instructions": ["amx_bf16"] if native else []}
    for module in (subjects, extraction):
        monkeypatch.setattr(module, "machine", lambda: here)
    ways = subjects.ways("mini", tmp_path, fast=False)
    assert list(ways) == ["lsn fp32, exact"] + ["lsn bf16, exact"] * native
    time = {"wall_s": 1.0, "cpu_s": 1.0, "ratio": 2.0, "lowest": 1.9, "highest": 2.1}
    times = dict.fromkeys((extraction.AUTHORS, extraction.LOADER, *ways), time)
    rows = extraction.goals("ViT-B-16", extraction.Measured(4, times, {way: {} for way in ways}, 1.0))
    [half] = [row for row in rows if row.what == "extraction, ViT-B-16, bf16"]
    if native:
        assert (half.goal, half.met) == (1.8, True)
    else:
        assert (half.measured, half.goal, half.of) == (None, None, "this processor has no bf16")
    assert {row.what: row.goal for row in rows}["extraction, ViT-B-16, fp32"] == 1.15
