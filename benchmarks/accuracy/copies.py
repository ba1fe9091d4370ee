"""How many copies of images ``lsn store duplicates`` finds, and how many pairs of images that are none.

    python -m benchmarks.accuracy.copies --images DIR [--count 300] [--record]

DIR (or LSN_IMAGES) holds image sets, each a folder or a tar. ``--count`` images of each set are copied in
several ways, encoded by the mini model, and looked for among all images of the set. ``pairs`` are those found
among the images of the set themselves: copies that the set has, or different images.
"""

import argparse
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from benchmarks.records import record
from lsncli.backbones import Backbone, load_backbone
from lsncli.console import progress_bar
from lsncli.evaluation.duplicates import find_duplicates
from lsncli.images.decode import decode
from lsncli.images.item import ImageItem
from lsncli.images.listing import list_images
from lsncli.images.read import read_bytes
from lsncli.report.formats import Column, render
from lsncli.store.format import Split
from lsncli.types import FloatArray

NAME = "copies-mini"
SETS = (
    "imagenette-val",
    "textures-dtd10",
    "plants-flowers",
    "scenes-intel6",
    "tinyimagenet-val",
    "cifar10-test",
)
MEASURES: dict[str, float | None] = {"rule": None, "0.97": 0.97, "0.98": 0.98, "0.99": 0.99}
"""The rule of ``lsn store duplicates``, and values of its --cosine."""
BATCH = 64

Change = Callable[[Image.Image], Image.Image]


def encoded_again(quality: int) -> Change:
    """Return a change: JPEG of this quality."""

    def change(image: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        return Image.open(buffer).convert("RGB")

    return change


def resized(scale: float) -> Change:
    """Return a change: sides times ``scale``."""
    return lambda image: image.resize(
        (max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.Resampling.BICUBIC
    )


def cropped(share: float, *, everywhere: bool = True) -> Change:
    """Return a change: this share less at each side, or only on the right and below."""

    def change(image: Image.Image) -> Image.Image:
        across, down = (max(1, round(side * share)) for side in image.size)
        left, top = (across, down) if everywhere else (0, 0)
        return image.crop((left, top, image.width - across, image.height - down))

    return change


LIGHT: dict[str, Change] = {
    "jpeg 90": encoded_again(90),
    "jpeg 75": encoded_again(75),
    "jpeg 50": encoded_again(50),
    "3/4": resized(3 / 4),
    "1/2": resized(1 / 2),
    "2": resized(2),
    "2 % less": cropped(0.02),
    "mirrored": ImageOps.mirror,
}
STRONG: dict[str, Change] = {
    "5 % less": cropped(0.05),
    "10 % less": cropped(0.1),
    "10 % less at two sides": cropped(0.1, everywhere=False),
    "1/2, jpeg 75": lambda image: encoded_again(75)(resized(1 / 2)(image)),
}
OTHER: dict[str, Change] = {"grey": lambda image: image.convert("L").convert("RGB")}


def features_of(
    backbone: Backbone, items: Sequence[ImageItem], changes: Sequence[Change]
) -> list[FloatArray]:
    """Return the features of the images after each change, (N, D) float16 each."""
    parts: list[list[FloatArray]] = [[] for _ in changes]
    for start in range(0, len(items), BATCH):
        images = [decode(read_bytes(item)).convert("RGB") for item in items[start : start + BATCH]]
        for part, change in zip(parts, changes, strict=True):
            part.append(
                backbone.encode(torch.stack([backbone.preprocess(change(image)) for image in images]))
            )
    return [np.concatenate(part) for part in parts]


def split_of(name: str, features: FloatArray) -> Split:
    """Return unlabelled features as a split."""
    keys = tuple(map(str, range(len(features))))
    return Split(name, features, np.full(len(features), -1, np.int32), keys)


def measure(backbone: Backbone, items: Sequence[ImageItem], count: int) -> dict[str, Any]:
    """Return the share of copies found by each measure, by kind and on average, and the pairs of the set."""
    whole = split_of("set", features_of(backbone, items, [lambda image: image])[0])
    rows = np.sort(np.random.default_rng(0).permutation(len(items))[:count])
    kinds = LIGHT | STRONG | OTHER
    copies = features_of(backbone, [items[row] for row in rows], list(kinds.values()))
    result: dict[str, Any] = {"images": len(items)}
    for measure_name, cosine in MEASURES.items():
        found: dict[str, float] = {}
        for kind, features in zip(kinds, copies, strict=True):
            pairs = find_duplicates(split_of("copies", features), whole, cosine=cosine)
            right = rows[pairs.first] == pairs.second
            found[kind] = round(len(set(pairs.first[right].tolist())) / len(rows), 4)
        result[measure_name] = {
            "light": round(float(np.mean([found[kind] for kind in LIGHT])), 4),
            "strong": round(float(np.mean([found[kind] for kind in STRONG])), 4),
            "pairs": len(find_duplicates(whole, cosine=cosine)),
            "kinds": found,
        }
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every set that is there, print a table, and record it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--images", type=Path, default=os.environ.get("LSN_IMAGES"))
    parser.add_argument("--count", type=int, default=300, help="images of each set that are copied")
    parser.add_argument("--sets", nargs="*", default=SETS)
    parser.add_argument("--record", action="store_true", help="write benchmarks/results")
    options = parser.parse_args(arguments)
    if options.images is None:
        parser.error("name the folder of the image sets with --images or LSN_IMAGES")
    backbone = load_backbone("mini", device="cpu")
    sets: dict[str, Any] = {}
    with progress_bar("image sets", len(options.sets)) as progress:
        for name in options.sets:
            path = Path(options.images) / name
            items = list_images([path if path.is_dir() else path.with_name(f"{name}.tar")]).items
            sets[name] = measure(backbone, items, options.count)
            progress(1)
    table = [
        {"set": name, "measure": measure_name, **values[measure_name]}
        for name, values in sets.items()
        for measure_name in MEASURES
    ]
    columns = [
        Column("set", "Set", identifies=True),
        Column("measure", "Measure"),
        Column("light", "Light %", digits=0, percent=True),
        Column("strong", "Strong %", digits=0, percent=True),
        Column("pairs", "Pairs", digits=0),
    ]
    render(table, columns, "table")
    if options.record:
        what = "Share of copies found by lsn store duplicates, by python -m benchmarks.accuracy.copies"
        record(NAME, what, model="mini", count=options.count, sets=sets)


if __name__ == "__main__":
    main()
