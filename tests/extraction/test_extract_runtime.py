"""The runtime of an extraction: chosen once, recorded, and the same until the split is finished."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_backbone import make_images

from lsncli.backbones import load_backbone, on_runtime, runtimes_of
from lsncli.backbones.runtimes import ImageForwards
from lsncli.errors import LsnError, Unavailable
from lsncli.extraction import extract as extraction
from lsncli.extraction import int8_agreement
from lsncli.extraction.extract import Extraction, extract
from lsncli.extraction.part_job import PartJob, encoder_for
from lsncli.images.listing import list_images
from lsncli.prompts import kernels
from lsncli.store.reader import list_splits, read_split
from lsncli.store.staging import parts_folder, read_plan

pytestmark = pytest.mark.skipif(not kernels.works(), reason="this torch has no oneDNN linear operator")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_images(tmp_path / "images", 22)
    return tmp_path


def run(root: Path, backbone: Any, **options: Any) -> Extraction:
    settings = {
        "store": root / "f.h5",
        "split": "train",
        "batch_size": 4,
        "workers": 1,
        "commit_seconds": 0.0,
    }
    images = root / "images"
    return extract(list_images([images]), source=str(images), backbone=backbone, **settings | options)


def interrupt(root: Path, backbone: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave an unfinished extraction of which some batches are committed."""
    encode, calls = type(backbone).encode, []

    def stopping(self: Any, pixels: torch.Tensor) -> Any:
        calls.append(len(pixels))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return encode(self, pixels)

    with monkeypatch.context() as patch:
        patch.setattr(type(backbone), "encode", stopping)
        with pytest.raises(KeyboardInterrupt):
            run(root, backbone)


def features(root: Path, split: str = "train") -> bytes:
    return np.asarray(read_split(root / "f.h5", split).features).tobytes()


def test_a_split_says_its_runtime(root: Path, tiny_backbone: Any) -> None:
    assert run(root, tiny_backbone).runtime == "torch"
    assert run(root, on_runtime(tiny_backbone, "fused"), split="fused").runtime == "fused"
    made = {name: info.created_by for name, info in list_splits(root / "f.h5").items()}
    assert made["train"].endswith(", runtime torch")
    assert made["fused"].endswith(", runtime fused")


def test_many_images_get_the_fastest_runtime(root: Path, tiny_backbone: Any, monkeypatch) -> None:
    monkeypatch.setattr(extraction, "for_images", lambda backbone, images: on_runtime(backbone, "fused"))
    remarks: list[str] = []
    assert run(root, tiny_backbone, remark=remarks.append).runtime == "fused"
    assert "Runtime fused: the fastest one here, by a self-test." in remarks


def test_an_unfinished_extraction_keeps_its_runtime(root: Path, tiny_backbone: Any, monkeypatch) -> None:
    fused = on_runtime(tiny_backbone, "fused")
    run(root, fused, split="whole")
    interrupt(root, fused, monkeypatch)
    stored = read_plan(parts_folder(root / "f.h5", "train"))
    assert stored is not None
    assert stored.plan.options["runtime"] == "fused"
    monkeypatch.setattr(extraction, "for_images", lambda *_: pytest.fail("it was chosen before"))
    done = run(root, tiny_backbone)
    assert done.resumed
    assert done.runtime == "fused"
    assert features(root) == features(root, "whole")


def test_another_runtime_than_the_planned_one_is_refused(root: Path, tiny_backbone: Any, monkeypatch) -> None:
    interrupt(root, on_runtime(tiny_backbone, "fused"), monkeypatch)
    with pytest.raises(LsnError, match=r"had other arguments: options was .*fused.*, is .*torch"):
        run(root, on_runtime(tiny_backbone, "torch"))
    assert run(root, on_runtime(tiny_backbone, "torch"), overwrite=True).runtime == "torch"


def test_an_unfinished_runtime_that_is_not_here_is_said(root: Path, tiny_backbone: Any, monkeypatch) -> None:
    interrupt(root, on_runtime(tiny_backbone, "fused"), monkeypatch)
    monkeypatch.setattr(kernels, "works", lambda: False)
    fresh = ImageForwards(tiny_backbone.model.visual, (32, 32))
    monkeypatch.setattr(ImageForwards, "names", ("torch", "another"))
    with pytest.raises(Unavailable, match="The unfinished extraction uses the runtime fused") as caught:
        run(root, replace(tiny_backbone, forwards=fresh))
    assert "--overwrite" in caught.value.hint


def test_a_plan_of_an_older_version_is_resumed(root: Path, tiny_backbone: Any, monkeypatch) -> None:
    """Its plan names no runtime, and neither does the split."""
    with monkeypatch.context() as patch:
        patch.setattr("lsncli.extraction.encoder.runtime_of", lambda backbone: "")
        interrupt(root, tiny_backbone, monkeypatch)
    path = parts_folder(root / "f.h5", "train") / "plan.json"
    assert "runtime" not in json.loads(path.read_text())["options"]
    assert run(root, tiny_backbone).resumed
    assert "runtime" not in list_splits(root / "f.h5")["train"].created_by


def test_every_process_takes_the_runtime_of_the_plan(root: Path, tiny_backbone: Any, monkeypatch) -> None:
    interrupt(root, on_runtime(tiny_backbone, "fused"), monkeypatch)
    stored = read_plan(parts_folder(root / "f.h5", "train"))
    assert stored is not None
    job = PartJob(root / "f.h5", "train", stored.plan, tiny_backbone.fingerprint)
    assert encoder_for(job, "cpu").runtime == "fused"
    older = replace(stored.plan, options={})
    assert encoder_for(replace(job, plan=older), "cpu").runtime == "torch"


class TestInt8:
    def test_its_agreement_is_said_once(self, root: Path, tiny_model: str) -> None:
        backbone, remarks = load_backbone(tiny_model, device="cpu", precision="int8"), []
        assert run(root, backbone, remark=remarks.append).runtime == "fused"
        (said,) = [text for text in remarks if text.startswith("int8")]
        assert said.startswith("int8 against fp32 on the first 22 images: cosine at least 0.99")
        assert ", rank correlation of MCM " in said
        assert runtimes_of(backbone) == ("fused",)
        remarks.clear()
        run(root, backbone, remark=remarks.append)
        assert remarks == []

    def test_without_classes_there_is_no_rank_correlation(self, root: Path, tiny_model: str) -> None:
        items = list_images([root / "images"]).items
        backbone = load_backbone(tiny_model, device="cpu", precision="int8")
        found = int8_agreement.agreement(backbone, items, ["one"])
        assert found is not None
        assert found.correlation is None
        assert "MCM" not in str(found)

    def test_images_that_cannot_be_read_do_not_count(self, tmp_path: Path, tiny_model: str) -> None:
        make_images(tmp_path / "images", 4, broken=(0, 1, 2, 3))
        backbone = load_backbone(tiny_model, device="cpu", precision="int8")
        assert int8_agreement.agreement(backbone, list_images([tmp_path / "images"]).items, []) is None

    def test_too_little_agreement_ends_the_extraction(self, root: Path, tiny_model: str, monkeypatch) -> None:
        backbone = load_backbone(tiny_model, device="cpu", precision="int8")
        monkeypatch.setattr(int8_agreement, "LEAST_COSINE", 0.9999999)
        with pytest.raises(LsnError, match="--precision int8: expected a cosine with fp32 of at least"):
            run(root, backbone)
        assert not (root / "f.h5").exists()
