"""A mini benchmark of made-up features with the real class names, and a text tower of four lines."""

from pathlib import Path

import numpy as np
import torch

from benchmarks.mini import store
from benchmarks.mini.suite import SPLITS
from lsncli.prompts.layout import Vocabulary
from lsncli.prompts.plain_tower import PlainTower
from lsncli.store.format import Split
from lsncli.store.writer import write_split
from lsncli.types import Fingerprint

DIM = 16
WIDTH = 8
LETTERS = 96
IMAGENETTE = ("tench", "springer", "player", "saw", "church", "horn", "truck", "pump", "ball", "parachute")


def class_names() -> dict[str, tuple[str, ...]]:
    """The classes of every image set, in the order of their labels."""
    tiny = {name for split in SPLITS["tinyimagenet"]["id"] for name in split}
    known = {
        "cifar10": sorted({name for split in SPLITS["cifar10"]["id"] for name in split}),
        "cifar100": sorted({name for split in SPLITS["cifar100"]["id"] for name in split}),
        "tinyimagenet": sorted(tiny) + [f"other {number}" for number in range(200 - len(tiny))],
        "imagenette": IMAGENETTE,
    }
    outside = ("textures-dtd10", "places-natural13", "plants-flowers")
    return {name: tuple(known.get(name.partition("-")[0], ("any",))) for name in (*store.SETS, *outside)}


MADE_UP = Fingerprint("made-up", "", "00" * 32, DIM, 8, "bicubic", "shortest", (0.5,), (0.5,), "fp32", 100.0)


def write_store(cache: Path, rows: int = 8, fingerprint: Fingerprint = MADE_UP) -> None:
    """Every set with ``rows`` features a class, training and test sets around the same class centres."""
    for number, (name, classes) in enumerate(class_names().items()):
        centres = np.random.default_rng(len(classes)).normal(size=(len(classes), fingerprint.dim))
        noise = np.random.default_rng(number).normal(size=(len(classes) * rows, fingerprint.dim))
        labels = np.repeat(np.arange(len(classes), dtype=np.int32), rows)
        split = Split(
            name=name,
            features=(centres[labels] + 0.5 * noise).astype(np.float16),
            labels=labels,
            keys=tuple(f"{number}.jpg" for number in range(len(labels))),
            classes=classes,
        )
        write_split(store.store_at(cache), split, fingerprint)


def letter_tower(seed: int = 0) -> PlainTower:
    """Letters are tokens; a text is the mean of its vectors, bent and projected."""
    generator = torch.Generator().manual_seed(seed)
    projection = torch.randn(WIDTH, DIM, generator=generator)
    vocabulary = Vocabulary(
        tokenize=lambda text: [1 + ord(letter) % (LETTERS - 1) for letter in text],
        start=(),
        end=(),
        embedding=torch.randn(LETTERS, WIDTH, generator=generator),
        longest=64,
    )
    return PlainTower(vocabulary, lambda ids, vectors: vectors.mean(1).tanh() @ projection, 0, 1, "made up")
