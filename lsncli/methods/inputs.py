"""What scores look at besides features: pixels (ODIN), words (ZOC, NegLabel).

ODIN's input perturbation makes features of images that moved a small step towards their predicted class.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from lsncli.backbones import Backbone, with_gradients
from lsncli.console import ProgressCallback, silent
from lsncli.errors import LsnError
from lsncli.extraction.encoder import pixels_of
from lsncli.images.columns import Columns
from lsncli.images.item import ImageItem
from lsncli.images.listing import list_images, named
from lsncli.images.loader import load_batches
from lsncli.methods.cache import digest
from lsncli.methods.candidates import WordFeatures, negative_label_features, read_candidates, zoc_of_split
from lsncli.methods.heads import Heads
from lsncli.methods.source_digest import code_of
from lsncli.methods.spec import Method
from lsncli.registry import load
from lsncli.scores import Score, load_score, score_in_chunks
from lsncli.scores.common import linear_layer
from lsncli.scores.neglabel import VOCABULARY
from lsncli.store.format import Split
from lsncli.types import Float64Array, FloatArray, Head, LearnedArrays, unit

SAME = 0.98
"""Cosine above which features are taken for those of the same image: half precision costs far less."""


def images_of(split: Split, sources: Sequence[Path]) -> tuple[ImageItem, ...]:
    """The image of every row of ``split``, in the order of its rows, among what ``sources`` list.

    The sources are what ``lsn extract`` was given: folders, lists, tars; keys say which image is which. More
    images than rows do no harm. Raises LsnError with the count and the first of those that are not there,
    UsageError for a source that cannot be one.
    """
    listing = list_images(sources, follow_links=True, columns=Columns(labelled=False))
    items = {item.key: item for item in listing.items}
    missing = [key for key in split.keys if key not in items]
    if missing:
        raise LsnError(
            f"{len(missing)} of the {len(split.keys)} images of split '{split.name}' are not in "
            f"{named(sources)}, such as '{missing[0]}'.",
            "Name the folders, lists or tars from which the split was extracted; 'x.csv#COLUMN' names the "
            "column of paths in a list.",
        )
    return tuple(items[key] for key in split.keys)


def perturbed(
    items: Sequence[ImageItem],
    backbone: Backbone,
    head: Head,
    tau: float,
    eps: float,
    *,
    stored: FloatArray | None = None,
    batch_size: int,
    workers: int,
    progress: ProgressCallback = silent,
) -> NDArray[np.float32]:
    """Raw features (N, D) of ``items`` after ODIN's perturbation; see ``step``.

    One forward, one backward and one forward pass an image, in float32; ``progress`` counts images done.
    ``stored`` are the features (N, D) of the same images as a split holds them: they tell images that have
    changed since. Raises LsnError if an image cannot be read or is another one, and for prompts that depend
    on the image.
    """
    weights, bias = (torch.from_numpy(array).float() for array in linear_layer(head, "odin"))
    std = torch.tensor(backbone.fingerprint.std)
    features = np.empty((len(items), backbone.fingerprint.dim), dtype=np.float32)
    with closing(load_batches(items, pixels_of(backbone), batch_size=batch_size, workers=workers)) as batches:
        for batch in batches:
            if batch.failures:
                first = batch.failures[0]
                raise LsnError(
                    f"The image '{first.key}' cannot be read: {first.reason}.",
                    "It was readable when its features were extracted; restore it.",
                )
            rows = slice(batch.start, batch.stop)
            try:
                plain, moved = step(backbone, batch.pixels, weights, bias, std, tau, eps)
            except torch.cuda.OutOfMemoryError as error:
                raise LsnError(
                    f"The device has no memory for the gradients of {len(batch.pixels)} images.",
                    "Use a smaller --batch-size.",
                ) from error
            if stored is not None:
                _check_same(plain, stored[rows], batch.keys)
            features[rows] = moved.cpu().numpy()
            progress(batch.stop - batch.start)
    return features


def step(
    backbone: Backbone, pixels: Tensor, weights: Tensor, bias: Tensor, std: Tensor, tau: float, eps: float
) -> tuple[NDArray[np.float32], Tensor]:
    """Features (B, D) of preprocessed ``pixels`` (B, 3, H, W) as they are, and as ODIN perturbs them.

    x' = x - eps sign(g) / std, with g the gradient of -log max softmax(l(x) / tau) with respect to x: every
    pixel moves by ``eps`` in units of [0, 1], which is eps / std of its channel behind normalisation. The
    sign of zero is 1 and nothing is clipped, as in the official code. l = ``weights`` f/|f| + ``bias``, of
    shapes (C, D) and (C,). Liang et al., ICLR 2018, Eq. 2; github.com/facebookresearch/odin, code/calData.py.
    """
    with torch.enable_grad():
        start = pixels.detach().clone().requires_grad_()
        plain = with_gradients(backbone).differentiable(start)
        logits = normalize(plain, dim=-1) @ weights.to(plain.device).T + bias.to(plain.device)
        # A sum, so that the images of a batch know nothing of one another.
        loss = cross_entropy(logits / tau, logits.argmax(dim=1), reduction="sum")
        (gradient,) = torch.autograd.grad(loss, start)
    with torch.no_grad():
        sign = torch.where(gradient >= 0, 1.0, -1.0)
        moved = pixels - eps * sign / std.view(1, 3, 1, 1)
        return plain.detach().cpu().numpy(), with_gradients(backbone).differentiable(moved)


def _check_same(found: FloatArray, stored: FloatArray, keys: Sequence[str]) -> None:
    cosine = (unit(found) * unit(stored)).sum(axis=1)
    other = np.flatnonzero(~(cosine > SAME))
    if len(other):
        raise LsnError(
            f"The image '{keys[other[0]]}' is not the one whose features are stored: their cosine is "
            f"{cosine[other[0]]:.3f}.",
            "Name the folder from which the split was extracted, or extract it again.",
        )


@dataclass(frozen=True)
class ImageAccess:
    """Where the images of splits are, and how many are encoded at a time."""

    folders: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    """What each split was extracted from, by its name."""
    batch_size: int = 16
    workers: int = 1


NO_IMAGES = ImageAccess()


class ExtraInput(Protocol):
    """How a whole split is scored where a function of features is not enough."""

    kept: ClassVar[bool]
    """Whether a detector can keep it; not what every image has of its own."""

    def key(self, split: Split) -> str:
        """Digest of what is looked at besides features. Raises LsnError if it is not there."""

    def scores(self, split: Split, head: Head, progress: ProgressCallback) -> Float64Array:
        """Scores (N,), higher = more ID; ``progress`` counts rows."""

    def learned(self, head: Head) -> LearnedArrays:
        """What the score takes of it for this head, as if it had learned it."""


def inputs_for(method: Method, heads: Heads, images: ImageAccess = NO_IMAGES) -> ExtraInput | None:
    """What ``method`` looks at besides features; None for nearly all."""
    score = load_score(method.score, **method.settings)
    name = score.inputs()
    if not name:
        return None
    inputs: ExtraInput = load(INPUTS[name])(score, method, heads, images)
    return inputs


def code_with(name: str, heads: Heads) -> str:
    """Digest of the code that brings an input, a row of ``INPUTS``, and scores with it."""
    return code_of(INPUTS[name], *heads.model_code, without=(Backbone, Method))


@dataclass(frozen=True)
class PixelInput:
    """ODIN's input perturbation: features of images moved by ``eps``."""

    kept: ClassVar[bool] = False

    score: Any
    """``Odin``."""
    method: Method
    heads: Heads
    images: ImageAccess

    def key(self, split: Split) -> str:
        """The images are those of the stored features, which is checked when they are read."""
        if split.name not in self.images.folders:
            raise LsnError(
                f"ODIN with eps = {self.score.eps:g} needs the images of split '{split.name}'.",
                f"Say where they are with --images {split.name}=FOLDER, or leave eps at 0.",
            )
        return digest("pixels", code_with("pixels", self.heads))

    def scores(self, split: Split, head: Head, progress: ProgressCallback) -> Float64Array:
        """One forward, one backward and one forward pass an image."""
        items = images_of(split, self.images.folders[split.name])
        features = perturbed(
            items,
            self.heads.backbone,
            head,
            self.score.tau,
            self.score.eps,
            stored=split.features,
            batch_size=self.images.batch_size,
            workers=self.images.workers,
            progress=progress,
        )
        return score_in_chunks(self.score.scorer(head, self.learned(head)), features)

    def learned(self, head: Head) -> LearnedArrays:
        """Nothing: it is in the features."""
        return {}


@dataclass(frozen=True)
class CandidateInput:
    """ZOC's candidate labels, as `lsn candidates` left them in the workspace."""

    kept: ClassVar[bool] = False

    score: Score
    method: Method
    heads: Heads
    images: ImageAccess

    def key(self, split: Split) -> str:
        """The words of every image, and the model that encodes them."""
        found = read_candidates(self.heads.work, split)
        code = code_with("candidates", self.heads)
        return digest(found.words, found.indptr, found.indices, self.heads.fingerprint.digest, code)

    def scores(self, split: Split, head: Head, progress: ProgressCallback) -> Float64Array:
        """Every word is encoded once, whatever the number of splits."""
        candidates = read_candidates(self.heads.work, split)
        found = zoc_of_split(split, head, candidates, self._words, own_prompt=self.method.head == "hand")
        progress(len(found))
        return found

    def learned(self, head: Head) -> LearnedArrays:
        """Nothing: every image has candidates of its own."""
        return {}

    @cached_property
    def _words(self) -> WordFeatures:
        return WordFeatures(self.heads.tower)


@dataclass(frozen=True)
class VocabularyInput:
    """NegLabel's vocabulary: the same words for every image, encoded once."""

    kept: ClassVar[bool] = True

    score: Score
    method: Method
    heads: Heads
    images: ImageAccess

    def key(self, split: Split) -> str:
        """The words depend on the classes, which the head tells, and on the model that encodes them."""
        return digest("other words", self.heads.fingerprint.digest, code_with("vocabulary", self.heads))

    def scores(self, split: Split, head: Head, progress: ProgressCallback) -> Float64Array:
        """Raises LsnError as ``NegLabel.scorer``."""
        return score_in_chunks(self.score.scorer(head, self.learned(head)), split.features, progress=progress)

    def learned(self, head: Head) -> LearnedArrays:
        """The words' text features: they do not depend on the image."""
        return {VOCABULARY: negative_label_features(head.classes, self.heads.tower)}


INPUTS: dict[str, str] = {
    "pixels": "lsncli.methods.inputs:PixelInput",
    "candidates": "lsncli.methods.inputs:CandidateInput",
    "vocabulary": "lsncli.methods.inputs:VocabularyInput",
}
"""By what ``Score.inputs`` says: ``module:class``, so that a key depends on the code of one input alone."""
