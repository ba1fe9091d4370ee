"""Extraction with the mini model against a plain loop over images: same features, how much sooner?

    python -m benchmarks.extraction [--images DIR]

DIR (or LSN_IMAGES) holds photos-original.tar; without it the sample photos of installed packages are used.
"""

import argparse
import io
import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.timing import interleaved, report
from lsncli.app.demo import sample_photos
from lsncli.app.encode import encode_stream
from lsncli.backbones import Backbone, load_backbone
from lsncli.images.decode import read_bytes
from lsncli.images.sources import ImageItem, list_images


def plain(items: list[ImageItem], backbone: Backbone) -> np.ndarray:
    """What a script does: open, transform, stack 64, encode; one thing after the other."""
    rows = []
    for first in range(0, len(items), 64):
        images = [
            Image.open(io.BytesIO(read_bytes(item))).convert("RGB") for item in items[first : first + 64]
        ]
        rows.append(backbone.encode(torch.stack([backbone.preprocess(image) for image in images])))
    return np.concatenate(rows)


def ours(items: list[ImageItem], backbone: Backbone) -> np.ndarray:
    """Decoding threads beside the encoder, batches of 16."""
    stream = encode_stream(items, backbone, batch_size=16, workers=os.cpu_count() or 1)
    return np.concatenate([batch.features for batch in stream])


def main() -> None:
    """Check that the features agree, then time both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--images", type=Path, default=os.environ.get("LSN_IMAGES"))
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.images:
        sources, repeat = [Path(arguments.images) / "photos-original.tar"], 4
    else:
        print("LSN_IMAGES is not set: using the sample photos of installed packages.")
        sources, repeat = sample_photos(), 16
    items = list(list_images(sources).items) * repeat
    backbone = load_backbone("mini", device="cpu")
    difference = np.abs(plain(items, backbone).astype(float) - ours(items, backbone)).max()
    print(f"{len(items)} images; largest difference of a feature: {difference:.1e}")
    rows = interleaved(
        {"plain loop": lambda: plain(items, backbone), "lsn": lambda: ours(items, backbone)}, arguments.rounds
    )
    report("extraction", f"Extraction of {len(items)} photos, mini model, CPU fp32", rows)


if __name__ == "__main__":
    main()
