"""Heat maps of positive and negative prompts in one image (the paper's Figure 2)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Image

from lsncli.backbones import Backbone, with_relevance
from lsncli.errors import LsnError, UsageError
from lsncli.images.columns import Columns
from lsncli.images.decode import decode
from lsncli.images.listing import list_images
from lsncli.images.read import Undecodable, read_bytes
from lsncli.memory import memory_errors
from lsncli.scores.common import positive_cosines
from lsncli.types import Float64Array, Head, unit


@dataclass(frozen=True, eq=False)
class PromptMap:
    """The heat map of one prompt.

    ``weights`` (h, w) are not negative and sum to one, or to zero if no part of the image supports the
    prompt. ``negative`` is the number of the set of negative prompts, from 1, or 0 for the positive prompt;
    ``cosine`` is that of the prompt with the image.
    """

    name: str
    negative: int
    cosine: float
    weights: Float64Array

    @property
    def prompt(self) -> str:
        """``positive``, or ``negative`` with the number of its set."""
        return f"negative {self.negative}" if self.negative else "positive"

    @property
    def peak(self) -> tuple[float, float] | None:
        """The centre (x, y) of the heaviest cell, as fractions of the model's input from the top left.

        None if all weights are zero.
        """
        if not self.weights.any():
            return None
        height, width = self.weights.shape
        row, column = divmod(int(self.weights.argmax()), width)
        return (column + 0.5) / width, (row + 0.5) / height

    def overlap(self, other: "PromptMap") -> float:
        """Return the weight that two maps share, 0 (disjoint) to 1 (equal): the sum of their minimum."""
        return float(np.minimum(self.weights, other.weights).sum())


@dataclass(frozen=True, eq=False)
class Explanation:
    """The model's input as an image (H, W, 3) uint8, the predicted class, and the heat maps of prompts."""

    seen: NDArray[np.uint8]
    predicted: str
    maps: tuple[PromptMap, ...]


def read_image(path: Path) -> Image:
    """Read the image at ``path`` as RGB. Raises UsageError if it is not one image, LsnError if damaged."""
    items = list_images([path], columns=Columns(labelled=False)).items
    if len(items) != 1:
        raise UsageError(f"'{path}': expected one image, found {len(items)}.", "Name the image itself.")
    try:
        return decode(read_bytes(items[0]))
    except Undecodable as error:
        raise LsnError(f"The image '{path}' cannot be used: {error.message}.") from error


def try_explain(
    backbone: Backbone, head: Head, image: Image, names: Sequence[str], predicted: str
) -> tuple[Explanation, str]:
    """Call ``explain``, and return its result and ""; or an explanation without maps and the reason.

    Some prompts and image towers have no maps; then the predicted class is ``predicted``. Raises UsageError
    for an unknown class.
    """
    check_classes(head, names)
    try:
        return explain(backbone, head, image, names), ""
    except LsnError as error:
        picture = _to_picture(backbone.preprocess(image), backbone)
        return Explanation(picture, predicted, ()), f"There are no heat maps: {error}"


def check_classes(head: Head, names: Sequence[str]) -> None:
    """Raise UsageError for the first of ``names`` that is no class of ``head``."""
    for name in names:
        if name not in head.classes:
            raise UsageError(f"--class: expected one of the {len(head.classes)} classes, found '{name}'.")


@memory_errors("the gradients of an image", "Use --device cpu.")
def explain(backbone: Backbone, head: Head, image: Image, names: Sequence[str] = ()) -> Explanation:
    """Compute the heat maps of the prompts of the predicted class and of the classes ``names``.

    The positive prompt of a class comes first. The direction of a prompt is its text feature minus the mean
    over all classes of the same set: what all texts share is relevant to the whole image alike. With one
    class it is the text feature. See ``backbones.relevance`` for the computation. Raises UsageError for an
    unknown class or an unsupported tower, LsnError for prompts that depend on the image.
    """
    sets, model = _directions(head), with_relevance(backbone)
    pixels = backbone.preprocess(image)
    with torch.no_grad():
        features = model.differentiable(pixels[None]).cpu().numpy()
    if not np.isfinite(features).all():
        raise LsnError("The features of this image are not finite.", "Use --precision fp32.")
    predicted = head.classes[int(positive_cosines(head, features)[0].argmax())]
    shown = list(dict.fromkeys([predicted, *names]))
    check_classes(head, shown)
    rows = [head.classes.index(name) for name in shown]
    directions = np.concatenate([centred[rows] for _, centred in sets])
    relevance = model.relevance(pixels[None], torch.from_numpy(directions).float()).double().numpy()
    maps = []
    for number, (text, _) in enumerate(sets):
        cosines = (unit(features) @ text.T)[0]
        for at, row in enumerate(rows):
            weights = _normalize(relevance[number * len(rows) + at])
            maps.append(PromptMap(shown[at], number, float(cosines[row]), weights))
    maps.sort(key=lambda prompt_map: (shown.index(prompt_map.name), prompt_map.negative))
    return Explanation(_to_picture(pixels, backbone), predicted, tuple(maps))


def _directions(head: Head) -> list[tuple[Float64Array, Float64Array]]:
    """Return text features and directions (C, D) of the positive prompts, then of each negative set."""
    if not isinstance(head.weights, np.ndarray) or callable(head.negative):
        raise LsnError(
            "CoCoOp prompts have no heat maps: they change with the image.",
            "Take --head hand, or learn with --learner coop.",
        )
    sets = [head.weights, *(() if head.negative is None else head.negative)]
    directions = []
    for text in sets:
        features = np.asarray(text, dtype=np.float64)
        shared = features.mean(axis=0) if len(features) > 1 else 0.0
        directions.append((features, unit(features - shared)))
    return directions


def _normalize(relevance: Float64Array) -> Float64Array:
    total = relevance.sum()
    return relevance / total if total > 0 else np.zeros_like(relevance)


def _to_picture(pixels: torch.Tensor, backbone: Backbone) -> NDArray[np.uint8]:
    """Undo the normalization of preprocessed ``pixels`` (3, H, W), and return them as (H, W, 3) uint8."""
    mean, std = (
        torch.tensor(v)[:, None, None] for v in (backbone.fingerprint.mean, backbone.fingerprint.std)
    )
    levels = (pixels * std + mean).clamp(0, 1) * 255
    picture: NDArray[np.uint8] = levels.round().byte().permute(1, 2, 0).numpy()
    return picture
