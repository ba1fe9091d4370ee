"""Photos, models with random weights, and the program's ways to extract, for the extraction benchmarks."""

import io
import os
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from itertools import count, islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image

from benchmarks.machines import has_bf16, machine
from lsncli.backbones import Backbone, load_backbone
from lsncli.backbones.loading import ensure_torchvision
from lsncli.backbones.runtime_choice import for_images
from lsncli.device import images_at_once
from lsncli.extraction.encoder import pixels_of
from lsncli.extraction.extract import Extraction, extract
from lsncli.images.item import Listing
from lsncli.images.listing import list_images

OURS = "lsn"
MANY = 50_000
"""Images of the extraction that runtimes are chosen for."""


def sources(images: Path | None) -> list[Path]:
    """Return photos-original.tar in the folder ``images``; without one, photos of installed packages."""
    if images is not None:
        return [images / "photos-original.tar"]
    from lsncli.evaluation.demo import sample_photos

    return sample_photos()


def photos(found: Sequence[Path], number: int) -> Listing:
    """Return ``number`` images: those of the sources repeated, each time under other names."""
    listing = list_images(found)
    again = (replace(item, key=f"{turn}/{item.key}") for turn in count() for item in listing.items)
    return replace(listing, items=tuple(islice(again, number)))


def made_up(folder: Path, number: int = 200) -> list[Path]:
    """Write a tar of JPEGs of the size of ImageNet's (500 x 375, about 100 kB): noise of several scales."""
    random, path = np.random.default_rng(0), folder / "made-up.tar"
    with tarfile.open(path, "w") as tar:
        for index in range(number):
            pixels = np.zeros((375, 500, 3))
            for size in (4, 16, 64, 256):
                noise = Image.fromarray(random.integers(0, 256, (size, size, 3), dtype=np.uint8))
                pixels += np.asarray(noise.resize((500, 375), Image.Resampling.BICUBIC)) / 4
            data = io.BytesIO()
            Image.fromarray(pixels.astype(np.uint8)).save(data, "JPEG", quality=93)
            member = tarfile.TarInfo(f"{index:04d}.jpg")
            member.size = data.tell()
            data.seek(0)
            tar.addfile(member, data)
    return [path]


def with_weights(name: str, folder: Path) -> str:
    """Write random weights of an architecture to ``folder``; return the path, "" for the mini model."""
    if name == "mini":
        return ""
    ensure_torchvision()
    import open_clip
    from safetensors.torch import save_file

    path = folder / f"{name}.safetensors"
    if not path.exists():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = open_clip.CLIP(**open_clip.get_model_config(name))
        save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path)
    return str(path)


def load(name: str, folder: Path, device: str = "cpu", **options: Any) -> Any:
    """Return a model of the program with such weights."""
    return load_backbone(name, pretrained=with_weights(name, folder), device=device, **options)


def ways(name: str, folder: Path, device: str = "cpu", *, fast: bool = True) -> dict[str, Backbone]:
    """Return the program's models by precision and decoding, each with its runtime for many images.

    On a CPU without bfloat16 there is no half precision, and only vision transformers have int8; fast
    decoding needs simplejpeg.
    """
    half = ["fp16"] if device != "cpu" else ["bf16"] if has_bf16(machine()) else []
    int8 = ["int8"] if device == "cpu" and name != "mini" else []
    decodes = ("exact", "fast") if fast and find_spec("simplejpeg") else ("exact",)
    with patch.dict(os.environ, LSN_CACHE=str(folder)):  # measured once here, not long ago
        return {
            f"{OURS} {precision}, {decode}": for_images(
                load(name, folder, device, precision=precision, decode=decode), MANY
            )
            for precision in ("fp32", *half, *int8)
            for decode in decodes
        }


def run_ours(listing: Listing, backbone: Backbone, store: Path, device: str = "cpu") -> Extraction:
    """Extract into a new store, as ``lsn extract`` does.

    Without the comparison of int8 with float32, which takes the time of a few dozen images whatever their
    number.
    """
    store.unlink(missing_ok=True)
    with patch("lsncli.extraction.extract.check_int8"):
        return extract(
            listing,
            source="benchmark",
            store=store,
            split="photos",
            backbone=backbone,
            batch_size=images_at_once(0, device),
            workers=os.cpu_count() or 1,
        )


def pixels_only(listing: Listing, backbone: Backbone, device: str = "cpu") -> Callable[[], None]:
    """Return a run of our loader without a model: reading and decoding alone."""
    from lsncli.images.loader import load_batches

    def run() -> None:
        options = {"batch_size": images_at_once(0, device), "workers": os.cpu_count() or 1}
        for batch in load_batches(listing.items, pixels_of(backbone), **options):
            batch.release()

    return run
