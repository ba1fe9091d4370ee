"""An extraction that lsn 0.1 left unfinished, before the package was divided into rooms, goes on."""

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from lsncli.backbones import load_backbone
from lsncli.extraction.extract import extract
from lsncli.images.listing import list_images
from lsncli.store.verify import verify

GOLDEN = Path(__file__).parent / "golden" / "unfinished"
"""The first of two parts of ``lsn extract images --model mini --batch-size 3 --part-rows 3``."""


def test_an_extraction_of_before_goes_on(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(6):
        path = Path(f"images/class {number % 2}/{number}.bmp")
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    store = tmp_path / "features.h5"
    shutil.copytree(GOLDEN, tmp_path / "features.h5.parts" / "train")
    done = extract(
        list_images([Path("images")]),
        source="images",
        store=store,
        split="train",
        backbone=load_backbone("mini", device="cpu"),
        batch_size=3,
        part_rows=3,
        record=tmp_path / "record.json",
    )
    assert (done.resumed, done.rows, done.finished) == (3, 6, True)
    verify(store)
    assert not (tmp_path / "features.h5.parts").exists()
