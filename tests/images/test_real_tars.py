"""Real photographs, where there are any: the environment variable LSN_IMAGES names a folder of tars."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lsncli.images.decode import decode
from lsncli.images.listing import list_images
from lsncli.images.loader import load_batches
from lsncli.images.read import read_bytes

FOLDER = os.environ.get("LSN_IMAGES", "")
TARS = sorted(Path(FOLDER).glob("*.tar")) if FOLDER else []

pytestmark = pytest.mark.skipif(not TARS, reason="LSN_IMAGES names no folder of tars with real images")


@pytest.mark.parametrize("tar", TARS, ids=lambda path: path.stem)
def test_every_kind_of_photograph_is_decoded_as_open_clip_would(tar: Path) -> None:
    listing = list_images([tar])
    assert listing.problems == ()
    assert listing.items
    for item in listing.items[:: max(1, len(listing.items) // 20)]:
        data = read_bytes(item)
        with Image.open(io.BytesIO(data)) as image:
            assert (np.asarray(decode(data)) == np.asarray(image.convert("RGB"))).all(), item.key


@pytest.mark.parametrize("tar", [tar for tar in TARS if tar.stem == "photos-original"], ids=lambda p: p.stem)
def test_threads_give_the_same_pixels_as_one_thread(tar: Path) -> None:
    def small(data: bytes) -> torch.Tensor:
        return torch.tensor(np.asarray(decode(data).resize((32, 32)))).permute(2, 0, 1)

    items = list_images([tar]).items
    one = list(load_batches(items, small, batch_size=16, workers=1))
    four = list(load_batches(items, small, batch_size=16, workers=4))
    assert all(torch.equal(a.pixels, b.pixels) for a, b in zip(one, four, strict=True))
    assert sum(len(batch.keys) for batch in one) == len(items)
