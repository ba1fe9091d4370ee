"""Concepts, each a row of the class table, and the texts that name them.

A concept is a name of the public class-name lists with its real CLIP ViT-B/32 text feature. LVIS's
explanations in brackets are dropped ("car (automobile)" is "car"); equal names are one concept with
the mean feature. Everyday names that no list has are added by hand: ``ALIASES`` name an existing
concept, each of ``DERIVED`` is a new one with the mean feature of related names.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.mini.coarse import COARSE
from benchmarks.mini.data import imagenet_wnids, read_set

LISTS = ("lvis", "oid", "o365", "imagenet1k")
ALIASES: dict[str, str] = {
    "aeroplane": "airplane",
    "armored tank": "army tank",
    "automobile": "car",
    "lady bug": "ladybug",
    "lorry": "truck",
    "motorbike": "motorcycle",
    "plane": "airplane",
    "streetcar": "tram",
    "sweet pepper": "bell pepper",
    "vessel": "ship",
}
DERIVED: dict[str, tuple[str, ...]] = {
    "aquarium fish": ("goldfish", "clownfish"),
    "baby": ("girl", "boy", "person"),
    "bridge": ("through arch bridge", "suspension bridge", "viaduct"),
    "flatfish": ("stingray", "fish"),
    "forest": ("tree", "palm tree", "willow"),
    "maple tree": ("maple", "tree"),
    "oak tree": ("tree", "acorn"),
    "orchid": ("flower", "yellow lady's slipper"),
    "pine tree": ("tree", "pinecone", "christmas tree"),
    "poppy": ("flower", "rose"),
    "possum": ("raccoon", "wombat"),
    "ray": ("stingray", "electric ray"),
    "sea": ("seashore", "beach", "sandbar"),
    "shrew": ("mouse", "hamster", "mink"),
    "trout": ("silver salmon", "fish"),
    "tulip": ("flower", "lily"),
    "willow tree": ("willow", "tree"),
    "worm": ("flatworm", "nematode"),
}


def clean(name: str, source: str) -> str:
    """Return the name in lower case, without explanations in brackets except in ImageNet's own names."""
    name = name.lower().replace("_", " ")
    if source != "imagenet1k":
        name = re.sub(r"\s*\([^)]*\)", "", name)
    return " ".join(name.split())


@dataclass(frozen=True)
class Vocabulary:
    """``features[i]`` is the centred unit CLIP feature of ``names[i]``."""

    names: list[str]
    features: Tensor
    imagenet: Tensor
    coarse: Tensor
    texts: list[tuple[str, int]]

    def row(self, text: str) -> int:
        """Return the row of the concept that a text names."""
        return dict(self.texts)[text]


def load_vocabulary(clip_text: Path, images: Path) -> Vocabulary:
    """Load concepts from the lists of class names, and texts also from the names of image folders."""
    lists = json.loads((clip_text / "names.json").read_text("utf-8"))
    gathered: dict[str, list[Tensor]] = {}
    for source in LISTS:
        features = torch.from_numpy(np.load(clip_text / f"{source}.npy").astype(np.float32))
        features = normalize(features, dim=1)
        for name, feature in zip(lists[source], features, strict=True):
            gathered.setdefault(clean(name, source), []).append(feature)
    for name, parts in DERIVED.items():
        gathered.setdefault(name, [row for part in parts for row in gathered.get(part, [])])
    names = list(gathered)
    raw = normalize(torch.stack([torch.stack(rows).mean(0) for rows in gathered.values()]), dim=1)
    rows = {name: index for index, name in enumerate(names)}
    imagenet = [rows[clean(name, "imagenet1k")] for name in lists["imagenet1k"]]
    texts = dict(rows)
    for text, row in _folder_names(images, imagenet).items():
        texts.setdefault(text, row)
    for text, name in ALIASES.items():
        texts.setdefault(text, rows[name])
    for word, (name, _) in COARSE.items():
        texts.setdefault(word, rows[name])
    return Vocabulary(
        names=names,
        features=normalize(raw - raw.mean(0), dim=1),
        imagenet=torch.tensor(imagenet),
        coarse=torch.tensor([rows[name] for name, _ in COARSE.values()]),
        texts=list(texts.items()),
    )


def _folder_names(images: Path, imagenet: list[int]) -> dict[str, int]:
    """Return the names of image folders, except those of two classes (crane, cardigan)."""
    order = {wnid: index for index, wnid in enumerate(imagenet_wnids(images))}
    found: dict[str, set[int]] = {}
    for name in ("imagenet-1perclass", "tinyimagenet-train"):
        for photo in read_set(images, name):
            text = photo.folder.split("_", 1)[1].replace("_", " ").lower()
            found.setdefault(text, set()).add(imagenet[order[photo.wnid]])
    return {text: rows.pop() for text, rows in found.items() if len(rows) == 1}
