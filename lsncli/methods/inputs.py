"""Inputs of scores besides features: pixels (ODIN), candidate labels (ZOC), a vocabulary (NegLabel).

ODIN's input perturbation moves each image a small step towards its predicted class and encodes it again.
"""

import time
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
from lsncli.memory import InParts, memory_errors
from lsncli.methods.cache import digest
from lsncli.methods.candidates import WordFeatures, read_candidates, zoc_of_split
from lsncli.methods.heads import Heads
from lsncli.methods.source_digest import code_of
from lsncli.methods.spec import Method
from lsncli.methods.words import (
    WordChoice,
    announcing_words,
    choice_for,
    pool_texts,
    select_words,
    vocabulary_arrays,
)
from lsncli.registry import load
from lsncli.scores import Score, load_score, score_in_chunks
from lsncli.scores.common import linear_layer
from lsncli.store.format import Split
from lsncli.types import Float64Array, FloatArray, Head, LearnedArrays, unit

TIMED = 32
"""Words that are encoded to see how long all of them take."""
SAME = 0.98
"""Cosine above which features count as those of the same image; half precision changes it far less."""


def images_of(split: Split, sources: Sequence[Path]) -> tuple[ImageItem, ...]:
    """Return the images of the rows of ``split`` (N,), in their order, from ``sources``.

    The sources are those of ``lsn extract``: folders, lists, tars. Images are matched by key; further images
    are ignored. Raises LsnError with the number of missing images and the first of them, UsageError for an
    invalid source.
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
    """Return raw features (N, D) of ``items`` after ODIN's perturbation; see ``perturb_batch``.

    Each image takes a forward, a backward and a forward pass, in float32; ``progress`` counts images.
    ``stored`` are the features (N, D) of the same images in a split, to detect images that have changed.
    Raises LsnError if an image cannot be read or has changed, and for prompts that depend on the image.
    """
    weights, bias = (torch.from_numpy(array).float() for array in linear_layer(head, "odin"))
    std = torch.tensor(backbone.fingerprint.std)
    features = np.empty((len(items), backbone.fingerprint.dim), dtype=np.float32)

    def plain_and_moved(pixels: Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        plain, moved = perturb_batch(backbone, pixels, weights, bias, std, tau, eps)
        return plain, moved.cpu().numpy()

    perturb = InParts(plain_and_moved, join=_joined)
    with closing(load_batches(items, pixels_of(backbone), batch_size=batch_size, workers=workers)) as batches:
        for batch in batches:
            if batch.failures:
                first = batch.failures[0]
                raise LsnError(
                    f"The image '{first.key}' cannot be read: {first.reason}.",
                    "It was readable when its features were extracted; restore it.",
                )
            rows = slice(batch.start, batch.stop)
            with memory_errors("the gradients of one image at a time", "Use --device cpu."):
                plain, moved = perturb(batch.pixels)
            if stored is not None:
                _check_same(plain, stored[rows], batch.keys)
            features[rows] = moved
            progress(batch.stop - batch.start)
    return features


def _joined(
    parts: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    plain, moved = zip(*parts, strict=True)
    return np.concatenate(plain), np.concatenate(moved)


def perturb_batch(
    backbone: Backbone, pixels: Tensor, weights: Tensor, bias: Tensor, std: Tensor, tau: float, eps: float
) -> tuple[NDArray[np.float32], Tensor]:
    """Return features (B, D) of preprocessed ``pixels`` (B, 3, H, W), and those after ODIN's perturbation.

    x' = x - eps sign(g) / std, with g the gradient of -log max softmax(l(x) / tau) with respect to x: every
    pixel moves by ``eps`` in units of [0, 1], which is eps / std of its channel behind normalisation. The
    sign of zero is 1 and nothing is clipped, as in the official code. l = ``weights`` f/|f| + ``bias``, of
    shapes (C, D) and (C,). Liang et al., ICLR 2018, Eq. 2; github.com/facebookresearch/odin, code/calData.py.
    """
    with torch.enable_grad():
        start = pixels.detach().clone().requires_grad_()
        plain = with_gradients(backbone).differentiable(start)
        logits = normalize(plain, dim=-1) @ weights.to(plain.device).T + bias.to(plain.device)
        # A sum, so that images do not depend on the others of their batch.
        loss = cross_entropy(logits / tau, logits.argmax(dim=1), reduction="sum")
        (gradient,) = torch.autograd.grad(loss, start)
    with torch.no_grad():
        sign = torch.where(gradient >= 0, 1.0, -1.0)
        moved = pixels - eps * sign / std.view(1, 3, 1, 1)
        return plain.detach().cpu().numpy(), with_gradients(backbone).differentiable(moved)


def _check_same(features: FloatArray, stored: FloatArray, keys: Sequence[str]) -> None:
    cosine = (unit(features) * unit(stored)).sum(axis=1)
    different = np.flatnonzero(~(cosine > SAME))
    if len(different):
        first = different[0]
        raise LsnError(
            f"The image '{keys[first]}' is not the one whose features are stored: their cosine is "
            f"{cosine[first]:.3f}.",
            "Name the folder from which the split was extracted, or extract it again.",
        )


@dataclass(frozen=True)
class ImageAccess:
    """Where the images of splits are, the batch size, and the number of decoding threads."""

    folders: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    """The sources that each split was extracted from, by its name."""
    batch_size: int = 16
    workers: int = 1


NO_IMAGES = ImageAccess()


class ExtraInput(Protocol):
    """An input besides features, and how a split is scored with it."""

    kept: ClassVar[bool]
    """Whether a detector can keep the input; not if each image has its own."""

    def key(self, split: Split) -> str:
        """Return the digest of the input for ``split``. Raises LsnError if it is missing."""

    def scores(self, split: Split, head: Head, progress: ProgressCallback) -> Float64Array:
        """Return scores (N,), higher = more ID; ``progress`` counts rows."""

    def learned(self, head: Head) -> LearnedArrays:
        """Return the part of the input that a detector keeps, as if the score had learned it."""


def inputs_for(method: Method, heads: Heads, images: ImageAccess = NO_IMAGES) -> ExtraInput | None:
    """Return the input that ``method`` needs besides features; None for nearly all methods."""
    score = load_score(method.score, **method.settings)
    name = score.inputs()
    if not name:
        return None
    inputs: ExtraInput = load(INPUTS[name])(score, method, heads, images)
    return inputs


def code_with(name: str, heads: Heads) -> str:
    """Return the digest of the code of an input, a row of ``INPUTS``."""
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
        """Return the digest of the code alone: images are checked against stored features when read."""
        if split.name not in self.images.folders:
            raise LsnError(
                f"ODIN with eps = {self.score.eps:g} needs the images of split '{split.name}'.",
                f"Say where they are with --images {split.name}=FOLDER, or leave eps at 0.",
            )
        return digest("pixels", code_with("pixels", self.heads))

    def scores(self, split: Split, head: Head, progress: ProgressCallback) -> Float64Array:
        """Return scores (N,); each image takes a forward, a backward and a forward pass."""
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
        """Return nothing: the input is in the features."""
        return {}


@dataclass(frozen=True)
class CandidateInput:
    """ZOC's candidate labels, as `lsn candidates` wrote them to the workspace."""

    kept: ClassVar[bool] = False

    score: Score
    method: Method
    heads: Heads
    images: ImageAccess

    def key(self, split: Split) -> str:
        """Return the digest of the words of all images and of the model that encodes them."""
        candidates = read_candidates(self.heads.work, split)
        words = candidates.words, candidates.indptr, candidates.indices
        return digest(*words, self.heads.fingerprint.digest, code_with("candidates", self.heads))

    def scores(self, split: Split, head: Head, progress: ProgressCallback) -> Float64Array:
        """Return scores (N,); each word is encoded once, whatever the number of splits."""
        candidates = read_candidates(self.heads.work, split)
        scores = zoc_of_split(split, head, candidates, self._words, own_prompt=self.method.head == "hand")
        progress(len(scores))
        return scores

    def learned(self, head: Head) -> LearnedArrays:
        """Return nothing: each image has candidates of its own."""
        return {}

    @cached_property
    def _words(self) -> WordFeatures:
        return WordFeatures(self.heads.tower)


@dataclass(frozen=True)
class VocabularyInput:
    """NegLabel's vocabulary: the same words for every image, encoded once for each model."""

    kept: ClassVar[bool] = True

    score: Any
    """``NegLabel``, or another score with its settings of words."""
    method: Method
    heads: Heads
    images: ImageAccess

    def key(self, split: Split) -> str:
        """Return the digest of the words and of the model that encodes them; the classes decide which."""
        known = self.heads.fingerprint.digest, list(self.choice.pool().words), list(self.heads.banned)
        rows = self.heads.rows if self.score.mine == "images" else None
        trained = None if rows is None else digest(rows.content, rows.labels)
        return digest("other words", *known, trained, code_with("vocabulary", self.heads))

    def scores(self, split: Split, head: Head, progress: ProgressCallback) -> Float64Array:
        """Return scores (N,). Raises LsnError as ``NegLabel.scorer`` does."""
        return score_in_chunks(self.score.scorer(head, self.learned(head)), split.features, progress=progress)

    def learned(self, head: Head) -> LearnedArrays:
        """Return the text features (V, D) of the words, and the digest of the selection."""
        if head.classes not in self._learned:  # once for all splits
            self._learned[head.classes] = self._select(head)
        return self._learned[head.classes]

    @cached_property
    def _learned(self) -> dict[tuple[str, ...], LearnedArrays]:
        return {}

    def _select(self, head: Head) -> LearnedArrays:
        def images() -> Float64Array:
            means = self.heads.means
            return means[[self.heads.classes.index(name) for name in head.classes]]

        progress = announcing_words(self.choice, self.heads.fingerprint.model, self.heads.remark)
        encoder, banned = self.heads.word_encoder, self.heads.banned
        words = select_words(self.choice, head.classes, encoder, images, progress, banned=banned)
        return vocabulary_arrays(words)

    def seconds_to_encode(self) -> float:
        """Return about how long encoding the words takes that are not kept from before, by encoding a few."""
        encoder = self.heads.word_encoder
        texts = pool_texts(self.choice)
        missing = encoder.missing(texts)
        if not missing:
            return 0.0
        encoder.encode(texts[:1])  # the first call prepares the tower
        began = time.perf_counter()
        encoder.encode(texts[:TIMED])
        return missing * (time.perf_counter() - began) / min(TIMED, len(texts))

    @property
    def choice(self) -> WordChoice:
        """Which words the settings of the score mean for this model."""
        return choice_for(
            self.score.words, self.heads.fingerprint.model, mine=self.score.mine, drop=self.score.drop
        )


INPUTS: dict[str, str] = {
    "pixels": "lsncli.methods.inputs:PixelInput",
    "candidates": "lsncli.methods.inputs:CandidateInput",
    "vocabulary": "lsncli.methods.inputs:VocabularyInput",
}
"""``Score.inputs`` -> ``module:class``, so that a key depends on the code of one input alone."""
