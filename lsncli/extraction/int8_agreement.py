"""Check the features of an image tower in int8 against those in float32, on the first images."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch

from lsncli.backbones import Backbone, with_gradients, with_text
from lsncli.errors import LsnError
from lsncli.extraction.encoder import pixels_of
from lsncli.images.item import ImageItem
from lsncli.images.loader import load_batches
from lsncli.prompts.text_features import text_features
from lsncli.scores.common import cosines, max_softmax
from lsncli.types import unit

IMAGES = 32
MOST_CLASSES = 100
LEAST_COSINE = 0.99
LEAST_CORRELATION = 0.9


@dataclass(frozen=True)
class Agreement:
    """The agreement of int8 with float32 on ``images`` images.

    The least ``cosine`` of the two features of an image, and Spearman's rank ``correlation`` of MCM (Ming et
    al., NeurIPS 2022) with the names of the first classes; None with fewer than two classes or three images.
    """

    images: int
    cosine: float
    correlation: float | None

    def __str__(self) -> str:
        text = f"int8 against fp32 on the first {self.images} images: cosine at least {self.cosine:.5f}"
        return text + (
            "" if self.correlation is None else f", rank correlation of MCM {self.correlation:.3f}"
        )


def agreement(backbone: Backbone, items: Sequence[ImageItem], classes: Sequence[str]) -> Agreement | None:
    """Compare the features of the first images that can be read; None if none of them can."""
    batches = load_batches(items[:IMAGES], pixels_of(backbone), batch_size=IMAGES, workers=1)
    with closing(batches):
        pixels = next(batches).pixels.clone()
    if not len(pixels):
        return None
    with torch.no_grad():
        full = unit(with_gradients(backbone).differentiable(pixels).cpu().numpy())
    found = unit(backbone.encode(pixels))
    correlation = None
    if len(classes) > 1 and len(pixels) > 2:
        from scipy.stats import spearmanr  # takes long to import, and all other work does without

        texts = [f"a photo of a {name}." for name in classes[:MOST_CLASSES]]
        text = unit(text_features(with_text(backbone).text_tower(), texts).cpu().numpy())
        scores = [max_softmax(cosines(features, text)) for features in (full, found)]
        correlation = float(spearmanr(*scores).statistic)
    return Agreement(len(pixels), float(np.einsum("nd,nd->n", full, found).min()), correlation)


def check_int8(
    backbone: Backbone, items: Sequence[ImageItem], classes: Sequence[str], remark: Callable[[str], None]
) -> None:
    """Call ``remark`` with the agreement of int8 with float32, and raise LsnError if it is too low."""
    found = agreement(backbone, items, classes)
    if found is None:
        return
    remark(f"{found}.")
    correlates = found.correlation is None or found.correlation >= LEAST_CORRELATION
    if not (found.cosine >= LEAST_COSINE and correlates):
        raise LsnError(
            f"--precision int8: expected a cosine with fp32 of at least {LEAST_COSINE} and a rank "
            f"correlation of at least {LEAST_CORRELATION}; found {str(found).partition(': ')[2]}.",
            "Use --precision fp32 for this model and these images.",
        )
