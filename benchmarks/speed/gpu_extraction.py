"""Extraction on CUDA: images a second with decoding on all cores, and how much of the time the GPU has work.

A part of ``benchmarks.speed.gpu``.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from benchmarks.speed import plain_extraction
from benchmarks.speed.on_device import Figures
from benchmarks.speed.subjects import load, made_up, photos, pixels_only, run_ours, sources, ways

AUTHORS, LOADER = "authors' loop", "open_clip + DataLoader, autocast fp16"
ALONE = "pixels alone, "
SHORTER = 8
"""The authors' loop, which decodes on one core, gets so many times fewer images."""


def extraction_rates(
    name: str, number: int, towers: dict[str, float], device: torch.device
) -> Iterator[Figures]:
    """Yield images a second of the ways to extract ``number`` images, after each more of them.

    ``busy``: that rate over what the tower alone reaches in the same precision (``towers``): 1 is a GPU that
    never waits. ``waiting`` is the share of the time in which the encoder had no pixels. Photos are those of
    LSN_IMAGES, or made up in the size of ImageNet's.
    """
    images = os.environ.get("LSN_IMAGES")
    rows: Figures = {}
    with tempfile.TemporaryDirectory(prefix="lsn-extraction-") as made:
        folder = Path(made)
        found = sources(Path(images)) if images else made_up(folder)
        listing = photos(found, number)
        plain = load(name, folder, str(device))
        size, fewer = plain.fingerprint.image_size, listing.items[: max(1, number // SHORTER)]

        def keep(way: str, count: int, run: Callable[[], object]) -> object:
            began = time.perf_counter()
            result = run()
            rows[way] = {"images/s": count / (time.perf_counter() - began)}
            return result

        keep(AUTHORS, len(fewer), lambda: plain_extraction.authors(fewer, plain.model, size, device))
        yield rows
        half = device.type == "cuda"
        keep(
            LOADER,
            number,
            lambda: plain_extraction.loader(
                listing.items, plain.model, plain.transform, device, autocast=half
            ),
        )
        yield rows
        for way, backbone in ways(name, folder, str(device)).items():
            run_ours(photos(found, min(64, number)), backbone, folder / "warm.h5", str(device))
            done = keep(
                way, number, lambda b=backbone: run_ours(listing, b, folder / "features.h5", str(device))
            )
            precision, decode = backbone.fingerprint.precision, way.split(", ")[1]
            if precision in towers:
                rows[way]["busy"] = rows[way]["images/s"] / towers[precision]
            rows[way]["waiting"] = done.seconds.waiting * rows[way]["images/s"] / number
            if precision == "fp32":
                keep(ALONE + decode, number, pixels_only(listing, backbone, str(device)))
            yield rows
