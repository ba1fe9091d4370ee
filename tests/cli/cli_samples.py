"""A workspace that needs no model: imported features with the text features of their classes."""

from pathlib import Path

import numpy as np

from lsncli.interchange.exchange import imported_fingerprint
from lsncli.store.format import Split
from lsncli.store.writer import write_split, write_text

CLASSES = ("cat", "dog")


def imported_workspace(folder: Path, name: str = "theirs") -> Path:
    """Splits train (200 rows), test (40) and far (30, unlabelled) of 8-dimensional features."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(5)
    text = random.normal(size=(2, 8))
    for split, rows in (("train", 200), ("test", 40), ("far", 30)):
        labels = (np.arange(rows) % 2).astype(np.int32)
        features = text[labels] + random.normal(size=(rows, 8))
        if split == "far":
            labels, features = np.full(rows, -1, np.int32), random.normal(size=(rows, 8))
        content = Split(
            name=split,
            features=features.astype(np.float16),
            labels=labels,
            keys=tuple(f"{row}.jpg" for row in range(rows)),
            classes=() if split == "far" else CLASSES,
        )
        write_split(folder / "features.h5", content, imported_fingerprint(name, 8, 100.0))
    write_text(folder / "features.h5", CLASSES, text)
    return folder
