"""Where positive and negative prompts look in one image (the paper's Figure 2)."""

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
from lsncli.scores.common import positive_cosines
from lsncli.types import Float64Array, Head, unit


@dataclass(frozen=True, eq=False)
class PromptMap:
    """Where one prompt looks: ``weights`` (h, w) are not negative and sum to one, or to zero if nothing in
    the image speaks for the prompt. ``negative`` is the number of the set of negative prompts, from 1, or 0
    for the positive prompt; ``cosine`` is that of the prompt with the image."""

    name: str
    negative: int
    cosine: float
    weights: Float64Array

    @property
    def prompt(self) -> str:
        return f"negative {self.negative}" if self.negative else "positive"

    @property
    def peak(self) -> tuple[float, float] | None:
        """The centre of the heaviest cell, (x, y) as fractions of what the model sees, from the top left.

        None if there is no weight.
        """
        if not self.weights.any():
            return None
        height, width = self.weights.shape
        row, column = divmod(int(self.weights.argmax()), width)
        return (column + 0.5) / width, (row + 0.5) / height

    def overlap(self, other: "PromptMap") -> float:
        """The weight two looks share, 0 (apart) to 1 (the same): the sum of the smaller of both."""
        return float(np.minimum(self.weights, other.weights).sum())


@dataclass(frozen=True, eq=False)
class Explanation:
    """An image as the model sees it, (H, W, 3) uint8, the predicted class, and the looks of its prompts."""

    seen: NDArray[np.uint8]
    predicted: str
    looks: tuple[PromptMap, ...]


def read_image(path: Path) -> Image:
    """The one image at ``path``, RGB. Raises UsageError if it is not one, LsnError if it cannot be read."""
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
    """``explain``, and nothing; or, where prompts or tower cannot be looked into, no looks and why not.

    ``predicted`` is the class to name then. Raises UsageError for an unknown class.
    """
    check_classes(head, names)
    try:
        return explain(backbone, head, image, names), ""
    except LsnError as error:
        picture = _picture(backbone.preprocess(image), backbone)
        return Explanation(picture, predicted, ()), f"There are no heat maps: {error}"


def check_classes(head: Head, names: Sequence[str]) -> None:
    """UsageError for the first of ``names`` that is no class of ``head``."""
    for name in names:
        if name not in head.classes:
            raise UsageError(f"--class: expected one of the {len(head.classes)} classes, found '{name}'.")


def explain(backbone: Backbone, head: Head, image: Image, names: Sequence[str] = ()) -> Explanation:
    """The looks of the predicted class's prompts, and of the classes ``names``: the positive one first.

    A prompt's direction is its text feature less the mean of all classes' (of the same set): what sets the
    class apart, for what texts have in common takes all of an image alike. With one class it is the text
    feature. See ``backbones.relevance`` for what is computed of it. Raises UsageError for an unknown class or
    a tower that lsn cannot look into, LsnError for prompts that depend on the image.
    """
    sets, model = _directions(head), with_relevance(backbone)
    pixels = backbone.preprocess(image)
    with torch.no_grad():
        features = model.differentiable(pixels[None]).cpu().numpy()
    if not np.isfinite(features).all():
        raise LsnError("The features of this image are not finite.", "Use --precision fp32.")
    predicted = head.classes[int(positive_cosines(head, features)[0].argmax())]
    wanted = list(dict.fromkeys([predicted, *names]))
    check_classes(head, wanted)
    rows = [head.classes.index(name) for name in wanted]
    directions = np.concatenate([centred[rows] for _, centred in sets])
    maps = model.relevance(pixels[None], torch.from_numpy(directions).float()).double().numpy()
    looks = []
    for number, (text, _) in enumerate(sets):
        cosines = (unit(features) @ text.T)[0]
        for at, row in enumerate(rows):
            weights = _shares(maps[number * len(rows) + at])
            looks.append(PromptMap(wanted[at], number, float(cosines[row]), weights))
    looks.sort(key=lambda look: (wanted.index(look.name), look.negative))
    return Explanation(_picture(pixels, backbone), predicted, tuple(looks))


def _directions(head: Head) -> list[tuple[Float64Array, Float64Array]]:
    """Unit text features (C, D) and directions (C, D): of the positive prompts, then of each negative set."""
    if not isinstance(head.weights, np.ndarray) or callable(head.negative):
        raise LsnError(
            "Where CoCoOp prompts look is not known: they change with the image.",
            "Take --head hand, or learn with --learner coop.",
        )
    sets = [head.weights, *(() if head.negative is None else head.negative)]
    found = []
    for text in sets:
        features = np.asarray(text, dtype=np.float64)
        shared = features.mean(axis=0) if len(features) > 1 else 0.0
        found.append((features, unit(features - shared)))
    return found


def _shares(relevance: Float64Array) -> Float64Array:
    total = relevance.sum()
    return relevance / total if total > 0 else np.zeros_like(relevance)


def _picture(pixels: torch.Tensor, backbone: Backbone) -> NDArray[np.uint8]:
    """Preprocessed ``pixels`` (3, H, W) as a picture again."""
    mean, std = (
        torch.tensor(v)[:, None, None] for v in (backbone.fingerprint.mean, backbone.fingerprint.std)
    )
    levels = (pixels * std + mean).clamp(0, 1) * 255
    picture: NDArray[np.uint8] = levels.round().byte().permute(1, 2, 0).numpy()
    return picture
