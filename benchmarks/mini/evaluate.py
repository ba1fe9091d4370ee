"""Measure an exported model as users load it: by open_clip, with one prompt for each class.

Accuracies, cosines over classes (mean, standard deviation, right class) and speed. ``data.py`` defines
the rows of each set that were not used for training.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.mini.data import HELD_OUT, Photo, imagenet_wnids, read_set, unseen_photos
from lsncli.backbones.loading import ensure_torchvision
from lsncli.metrics import auroc

ensure_torchvision()
import open_clip  # noqa: E402

PROMPT = "a photo of a {}."
OOD = ("imagenette-val", "textures-dtd10", "places-natural13", "plants-flowers")
SETS = (
    "cifar10-test",
    "cifar100-test",
    "tinyimagenet-val",
    "imagenette-val",
    "imagenet-1perclass",
    "imagenet-det150",
)


@dataclass(frozen=True)
class Loaded:
    """An exported model with its transform and tokenizer."""

    model: nn.Module
    preprocess: Callable[..., Tensor]
    tokenizer: Callable[..., Tensor]


def load(weights: Path) -> Loaded:
    """Load a weights directory through open_clip."""
    name = f"local-dir:{weights.resolve()}"
    model, _, preprocess = open_clip.create_model_and_transforms(name)
    tokenizer = open_clip.get_tokenizer(name, bpe_path=str(weights / "bpe_mini.txt.gz"))
    return Loaded(model.eval(), preprocess, tokenizer)


@torch.inference_mode()
def text_features(loaded: Loaded, names: Sequence[str], prompt: str = PROMPT) -> Tensor:
    """Return unit text features of names in a prompt."""
    tokens = loaded.tokenizer([prompt.format(name) for name in names])
    return torch.cat([loaded.model.encode_text(t, normalize=True) for t in tokens.split(200)])


@torch.inference_mode()
def image_features(loaded: Loaded, photos: Sequence[Photo], batch: int = 16) -> Tensor:
    """Return unit image features in order."""
    rows = []
    for start in range(0, len(photos), batch):
        pixels = [loaded.preprocess(p.decode()) for p in photos[start : start + batch]]
        rows.append(loaded.model.encode_image(torch.stack(pixels), normalize=True))
    return torch.cat(rows)


def accuracy(cosines: Tensor, labels: Tensor) -> float:
    """Return the percentage of rows whose largest cosine is that of the right class."""
    return round(100 * float((cosines.argmax(1) == labels).float().mean()), 2)


def cosine_statistics(cosines: Tensor, labels: Tensor) -> dict[str, float]:
    """Return the mean over classes, the standard deviation within an image, and that of the right class."""
    right = cosines[torch.arange(len(labels)), labels]
    return {
        "mean": round(float(cosines.mean()), 4),
        "std": round(float(cosines.std(1).mean()), 4),
        "right": round(float(right.mean()), 4),
    }


class Names:
    """Display names of every set's classes."""

    def __init__(self, images: Path, clip_text: Path) -> None:
        lists = json.loads((clip_text / "names.json").read_text("utf-8"))
        self.wnids = imagenet_wnids(images)
        self.imagenet: dict[str, str] = dict(zip(self.wnids, lists["imagenet1k"], strict=True))

    def of(self, folder: str) -> str:
        """Return the name of a class folder: ImageNet's clean name, or the folder's own words."""
        return self.imagenet.get(folder.split("_", 1)[0], folder.replace("_", " "))


def _label(photos: Sequence[Photo], folders: Sequence[str]) -> Tensor:
    index = {folder: i for i, folder in enumerate(folders)}
    return torch.tensor([index[photo.folder] for photo in photos])


def measure_set(loaded: Loaded, name: str, images: Path, names: Names) -> dict[str, Any]:
    """Return accuracy and cosine statistics of one set."""
    if name == "imagenet-1perclass":
        photos = unseen_photos(images)
        labels = torch.tensor([names.wnids.index(photo.wnid) for photo in photos])
        text = text_features(loaded, [names.imagenet[wnid] for wnid in names.wnids])
    else:
        photos = read_set(images, name)
        folders = sorted({photo.folder for photo in photos})
        labels = _label(photos, folders)
        text = text_features(loaded, [names.of(folder) for folder in folders])
    cosines = image_features(loaded, photos) @ text.T
    result: dict[str, Any] = {
        "images": len(photos),
        "classes": len(text),
        "accuracy": accuracy(cosines, labels),
        "cosine": cosine_statistics(cosines, labels),
    }
    if name == "tinyimagenet-val":
        held = torch.tensor([folders.index(folder) for folder in HELD_OUT])
        rows = torch.isin(labels, held)
        result["accuracy_held_out_200_way"] = accuracy(cosines[rows], labels[rows])
        result["accuracy_other_180_classes"] = accuracy(cosines[~rows], labels[~rows])
        within = torch.searchsorted(held, labels[rows])
        result["accuracy_held_out_20_way"] = accuracy(cosines[rows][:, held], within)
    return result


def neighbours(loaded: Loaded, images: Path) -> dict[str, float]:
    """Return the AUROC (percent) of KNN, k = 10, of Imagenette val against OOD sets; train is the bank."""
    bank, inside, *outside = (
        image_features(loaded, read_set(images, name)) for name in ("imagenette-train", *OOD)
    )

    def score(rows: Tensor) -> Any:
        return (rows @ bank.T).topk(10, dim=1).values[:, -1].double().numpy()

    known = score(inside)
    return {
        name: round(100 * auroc(known, score(rows)), 2) for name, rows in zip(OOD[1:], outside, strict=True)
    }


def speed(loaded: Loaded, images: Path, names: Names) -> dict[str, float]:
    """Return images and names per second on one thread, without decoding."""
    photos = read_set(images, "imagenette-val")[:256]
    batch = torch.stack([loaded.preprocess(photo.decode()) for photo in photos])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        loaded.model.encode_image(batch[:16])
        start = time.perf_counter()
        for part in batch.split(16):
            loaded.model.encode_image(part)
        seconds = time.perf_counter() - start
    start = time.perf_counter()
    text_features(loaded, list(names.imagenet.values()))
    text_seconds = time.perf_counter() - start
    torch.set_num_threads(threads)
    return {
        "images_per_second_1_thread": round(len(batch) / seconds, 1),
        "seconds_for_1000_names_1_thread": round(text_seconds, 2),
    }


def evaluate(weights: Path, images: Path, clip_text: Path) -> dict[str, Any]:
    """Return everything that the model card states about an exported model."""
    loaded, names = load(weights), Names(images, clip_text)
    sets = {name: measure_set(loaded, name, images, names) for name in SETS}
    return {
        "prompt": PROMPT,
        "sets": sets,
        "knn_auroc": neighbours(loaded, images),
        "speed": speed(loaded, images, names),
    }


def table(results: dict[str, Any]) -> str:
    """Return the results as a Markdown table."""
    lines = [
        "| set | images | classes | accuracy % | cosine mean | std | right class |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in results["sets"].items():
        cosine = row["cosine"]
        cells = [name, row["images"], row["classes"], row["accuracy"], *cosine.values()]
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    tiny = results["sets"]["tinyimagenet-val"]
    for key in ("accuracy_held_out_200_way", "accuracy_held_out_20_way"):
        lines.append(f"| tinyimagenet-val, {key[9:].replace('_', ' ')} | | | {tiny[key]} | | | |")
    return "\n".join(lines)
