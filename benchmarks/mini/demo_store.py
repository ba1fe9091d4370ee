"""Rebuild ``lsncli/reference/demo_features.h5``, the features that ``lsn demo`` learns from.

    python -m benchmarks.mini.demo_store --images DIR

DIR (or LSN_IMAGES) holds tinyimagenet-train.tar, tinyimagenet-val.tar, textures-dtd10.tar,
places-natural13.tar and plants-flowers.tar, laid out <set>/<class>/<file>. The ID classes are the 20 of
``benchmarks/mini/heldout_classes.json``; the mini model was trained on no image of them.
"""

import argparse
import json
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

from lsncli.backbones import load_backbone
from lsncli.console import progress_bar
from lsncli.extraction.extract import extract
from lsncli.images.item import ImageItem, Listing
from lsncli.images.listing import list_images

HERE = Path(__file__).parent
TARGET = HERE.parents[1] / "lsncli" / "reference" / "demo_features.h5"
OTHERS_PER_CLASS = 5


def only(listing: Listing, folders: list[str]) -> Listing:
    """Return the images of these class folders, with labels in the order of ``folders``."""
    number = {listing.folders.index(name): label for label, name in enumerate(folders)}
    items = [replace(one, label=number[one.label]) for one in listing.items if one.label in number]
    return replace(listing, items=tuple(items), folders=tuple(folders))


def first_of_each(listing: Listing, count: int) -> Listing:
    """Return the first ``count`` images of every class, by sorted name."""
    counts: Counter[int] = Counter()
    kept: list[ImageItem] = []
    for item in listing.items:
        counts[item.label] += 1
        if counts[item.label] <= count:
            kept.append(item)
    return replace(listing, items=tuple(kept))


def splits(images: Path) -> dict[str, tuple[Listing, str]]:
    """Return every split of the demo: its images and their description in the store."""
    inside = json.loads((HERE / "heldout_classes.json").read_text(encoding="utf-8"))

    def tar(name: str) -> Listing:
        return list_images([images / f"{name}.tar"])

    val = tar("tinyimagenet-val")
    others = only(val, [name for name in val.folders if name not in inside])
    return {
        "train": (only(tar("tinyimagenet-train"), inside), "Tiny-ImageNet train, 20 classes (ID)"),
        "test": (only(val, inside), "Tiny-ImageNet validation, the same 20 classes (ID)"),
        "tiny-other": (
            first_of_each(others, OTHERS_PER_CLASS),
            "Tiny-ImageNet validation, the 180 other classes (near OOD)",
        ),
        "textures": (tar("textures-dtd10"), "Textures (DTD), its first 10 classes (OOD)"),
        "places": (tar("places-natural13"), "MiniPlaces, 13 nature classes (OOD)"),
        "flowers": (tar("plants-flowers"), "Oxford Flowers-102, 99 classes (OOD)"),
    }


def main() -> None:
    """Extract every split again."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--images", type=Path, default=os.environ.get("LSN_IMAGES"))
    images = parser.parse_args().images
    if images is None:
        parser.error("name the folder of image tars with --images or LSN_IMAGES")
    TARGET.unlink(missing_ok=True)
    backbone = load_backbone("mini", device="cpu")
    for name, (listing, source) in splits(Path(images)).items():
        with progress_bar(name, len(listing.items)) as progress:
            done = extract(
                listing,
                store=TARGET,
                split=name,
                backbone=backbone,
                batch_size=16,
                source=source,
                progress=progress,
            )
        print(f"{name}: {done.rows} rows, {len(done.failures)} failures ({source})")
    TARGET.with_name(TARGET.name + ".lock").unlink(missing_ok=True)
    print(f"{TARGET}: {TARGET.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
