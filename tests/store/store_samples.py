"""Small stores and splits for the tests of this room."""

import numpy as np

from lsncli.store.format import Chunk, Split
from lsncli.types import Failure, Fingerprint


def fingerprint(dim: int = 4, model: str = "fake") -> Fingerprint:
    return Fingerprint(
        model=model,
        pretrained="somewhere",
        weights="ab" * 32,
        dim=dim,
        image_size=8,
        interpolation="bicubic",
        resize_mode="shortest",
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        precision="fp32",
        logit_scale=100.0,
    )


def split(name: str = "train", rows: int = 6, dim: int = 4, seed: int = 0) -> Split:
    """Two classes, keys in need of care, two failures."""
    features = np.random.default_rng(seed).standard_normal((rows, dim)).astype(np.float16)
    return Split(
        name=name,
        features=features,
        labels=(np.arange(rows) % 3 - 1).astype(np.int32),
        keys=tuple(f"cät/{row}\n\udcff.jpg" for row in range(rows)),
        classes=("cät", "dog \udce9"),
        failures=(Failure("cät/x.jpg", "an empty file"), Failure("dog/", "unreadable folder")),
        source="photos",
        listing="ab" * 32,
    )


def same(one: Split, other: Split) -> bool:
    return (
        one.features.tobytes() == other.features.tobytes()
        and one.features.shape == other.features.shape
        and one.labels.tolist() == other.labels.tolist()
        and (one.name, one.keys, one.classes, one.failures, one.source, one.listing)
        == (other.name, other.keys, other.classes, other.failures, other.source, other.listing)
    )


def chunks_of(content: Split, batch_size: int) -> list[Chunk]:
    """The split as an extraction would have made it, each failure-free batch a chunk."""
    return [
        Chunk(
            start,
            min(start + batch_size, len(content.keys)),
            content.features[start : start + batch_size],
            content.labels[start : start + batch_size],
            content.keys[start : start + batch_size],
            (),
        )
        for start in range(0, len(content.keys), batch_size)
    ]
