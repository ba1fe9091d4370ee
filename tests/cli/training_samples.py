"""A workspace with made-up features of a real model, for the two training commands."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lsncli.store.format import Split
from lsncli.store.writer import write_split
from lsncli.types import Fingerprint

CLASSES = ("cat", "dog", "small red bird")
QUICK = ["--epochs", "1", "--context-length", "4", "--device", "cpu", "--kernel", "torch"]


def features_of(
    fingerprint: Fingerprint, folder: Path, classes: Sequence[str] = CLASSES, rows: int = 30
) -> Path:
    """A workspace whose store has a split ``train`` of ``rows`` rows around one centre a class."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(11)
    labels = (np.arange(rows) % len(classes)).astype(np.int32)
    centres = random.normal(size=(len(classes), fingerprint.dim))
    features = centres[labels] + 0.5 * random.normal(size=(rows, fingerprint.dim))
    split = Split(
        name="train",
        features=features.astype(np.float16),
        labels=labels,
        keys=tuple(f"{row:03}.jpg" for row in range(rows)),
        classes=tuple(classes),
    )
    write_split(folder / "features.h5", split, fingerprint)
    return folder
