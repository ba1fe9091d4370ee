"""A small workspace with made-up features: three classes, a test split, and two OOD splits."""

from pathlib import Path

import numpy as np

from lsncli.app.workspace import Workspace
from lsncli.prompts.settings import preset
from lsncli.store.format import Split
from lsncli.store.writer import write_split
from lsncli.types import Fingerprint

CLASSES = ("cat", "dog", "small red bird")
POS = preset("positive", epochs=3, length=4, rate=0.02)
NEG = preset("negative", epochs=3, length=4, rate=0.01)


def clusters(name: str, rows: int = 30, *, seed: int = 0, labelled: bool = True, shift: float = 0.0) -> Split:
    """Rows around one centre a class; ``shift`` moves them away from all centres."""
    centres = np.random.default_rng(99).normal(size=(3, 32))
    random = np.random.default_rng([seed, 1])
    labels = np.arange(rows) % 3
    features = (1 - shift) * centres[labels] + (0.5 + shift) * random.normal(size=(rows, 32))
    return Split(
        name=name,
        features=features.astype(np.float16),
        labels=(labels if labelled else np.full(rows, -1)).astype(np.int32),
        keys=tuple(f"{name}/{row:03}.jpg" for row in range(rows)),
        classes=CLASSES if labelled else (),
    )


def workspace(folder: Path, fingerprint: Fingerprint) -> Workspace:
    """train (30 rows), test (21), far (12, unlabelled), near (9, unlabelled)."""
    work = Workspace(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for split in (
        clusters("train"),
        clusters("test", 21, seed=1),
        clusters("far", 12, seed=2, labelled=False, shift=1.0),
        clusters("near", 9, seed=3, labelled=False, shift=0.5),
    ):
        write_split(work.features, split, fingerprint)
    return work
