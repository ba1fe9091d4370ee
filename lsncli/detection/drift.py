"""Are these images like those that set gamma? Share of OOD, resolution and sharpness, watched in scoring."""

from collections.abc import Iterable
from threading import Lock
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import bdtr

from lsncli.artefacts.detector import ImageStatistics, SavedDetector
from lsncli.backbones import Backbone
from lsncli.backbones.preprocessing import Picture, shape_of
from lsncli.detection.detect import Verdict

ENOUGH = 20
"""Images below which nothing is said; of sharpness neither if calibration saw fewer: the quantiles of few
images are too close together, and others of the same kind often lie outside."""
SAMPLE = 1024
"""Images that are looked at, at most twice as many, evenly spread; a look costs a hundredth of decoding."""
OTHER_SIZE = 1.5
"""How far a size must lie outside calibration's before it counts."""
UNLIKELY = 1e-3
"""Probability of so few OOD images below which they are too few."""


class ImageSample:
    """Sizes and sharpness of a bounded sample of the images that a backbone preprocesses."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._images, self._every = 0, 1
        self._found: list[tuple[float, float]] = []

    def watching(self, backbone: Backbone) -> Backbone:
        """The same model, whose images are looked at when they are preprocessed."""
        return cast(Backbone, _Watched(backbone, self))

    def see(self, image: Picture, pixels: torch.Tensor) -> None:
        """Take note of an image and of what the model sees of it; from any thread."""
        with self._lock:
            self._images += 1
            if self._images % self._every:
                return
        look = (float(min(shape_of(image))), sharpness(pixels.numpy()))
        with self._lock:
            self._found.append(look)
            if len(self._found) >= 2 * SAMPLE:  # half of them, from now on half as often
                self._found, self._every = self._found[1::2], 2 * self._every

    def quantiles(self) -> NDArray[np.float64] | None:
        """The 5 %, 50 % and 95 % quantiles of (side, sharpness), (3, 2); None before anything was seen."""
        return np.quantile(np.array(self._found), [0.05, 0.5, 0.95], axis=0) if self._found else None


class _Watched:
    """A backbone that shows ``ImageSample`` what it preprocesses, and otherwise is the one it stands for."""

    def __init__(self, backbone: Backbone, looks: ImageSample) -> None:
        self._backbone, self._looks = backbone, looks

    def preprocess(self, image: Picture) -> torch.Tensor:
        pixels = self._backbone.preprocess(image)
        self._looks.see(image, pixels)
        return pixels

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backbone, name)


def sharpness(pixels: NDArray[np.float32]) -> float:
    """How much of an image's contrast is between neighbouring pixels, of (3, H, W); no unit.

    The standard deviation of the Laplacian over that of the green channel, in the middle half of both sides
    (the rest costs four times as much): blur lowers it, brightness and contrast do not matter. 0 for an image
    of one colour.
    """
    _, height, width = pixels.shape
    green = pixels[1, height // 4 : height - height // 4, width // 4 : width - width // 4]
    inner = green[1:-1, 1:-1]
    laplacian = 4 * inner - green[:-2, 1:-1] - green[2:, 1:-1] - green[1:-1, :-2] - green[1:-1, 2:]
    contrast = float(inner.std()) if inner.size else 0.0
    return float(laplacian.std()) / contrast if contrast > 1e-6 else 0.0


def seen(looks: ImageSample, images: int, ood: float) -> ImageStatistics | None:
    """What calibration keeps of the images it saw; None if it saw none."""
    found = looks.quantiles()
    if found is None:
        return None
    sides, sharp = found.T.tolist()
    return ImageStatistics(images, ood, (sides[0], sides[1], sides[2]), (sharp[0], sharp[1], sharp[2]))


class Drift:
    """The self-check of a scoring run: what the detector expects, and what came.

    Score with ``watching(backbone)``, show ``count`` the verdicts, ask for ``warnings`` at the end.
    """

    def __init__(self, detector: SavedDetector) -> None:
        self._threshold, self._seen = detector.threshold, detector.seen
        self._looks = ImageSample()
        self._ood = self._judged = 0

    def watching(self, backbone: Backbone) -> Backbone:
        """The same model, whose images are looked at if calibration left something to compare them with."""
        return self._looks.watching(backbone) if self._seen else backbone

    def count(self, verdicts: Iterable[Verdict]) -> None:
        """Count verdicts; failed images do not count."""
        for verdict in verdicts:
            if verdict.is_ood is not None:
                self._judged += 1
                self._ood += verdict.is_ood

    def warnings(self) -> list[str]:
        """A sentence for each way in which the images are far from those of calibration; often none."""
        if self._judged < ENOUGH:
            return []
        return [text for text in (self._share(), self._side(), self._sharpness()) if text]

    def _share(self) -> str:
        """The share of OOD: more than half of what calibration kept is lost, or unlikely few are found."""
        if not self._threshold.calibrated:
            return ""
        expected = self._seen.ood if self._seen else 1 - self._threshold.target_tpr
        share = self._ood / self._judged
        counts = f"{self._ood} of {self._judged} images ({share:.0%}) are OOD, {expected:.0%} at calibration"
        if share > (1 + expected) / 2:
            return (
                f"{counts}: either most do not belong, or the detector does not fit them; look at a few, and "
                "set gamma anew with `lsn calibrate FOLDER` of good ones."
            )
        if bdtr(self._ood, self._judged, 1 - self._threshold.tpr_high) < UNLIKELY:
            return f"{counts}: so few are unlikely for new images; did the prompts learn from these?"
        return ""

    def _side(self) -> str:
        found = self._looks.quantiles()
        if self._seen is None or found is None:
            return ""
        low, _, high = self._seen.side
        median = float(found[1, 0])
        if low / OTHER_SIZE <= median <= high * OTHER_SIZE:
            return ""
        return (
            f"The images are {'smaller' if median < low else 'larger'} than calibration's: the median of the "
            f"shorter side is {median:.0f} pixels, theirs {low:.0f} to {high:.0f}; scores may have shifted."
        )

    def _sharpness(self) -> str:
        found = self._looks.quantiles()
        if self._seen is None or found is None or self._seen.images < ENOUGH:
            return ""
        low, _, high = self._seen.sharpness
        median = float(found[1, 1])
        if low <= median <= high:
            return ""
        return (
            f"The images are {'blurrier' if median < low else 'sharper'} than 95% of calibration's "
            f"(median sharpness {median:.2f}, theirs {low:.2f} to {high:.2f}); scores may have shifted."
        )
