"""Detect drift while scoring: compare the share of OOD, resolution and sharpness with calibration."""

from collections.abc import Iterable
from threading import Lock
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from lsncli.artefacts.detector import ImageStatistics, SavedDetector
from lsncli.backbones import Backbone
from lsncli.backbones.preprocessing import Picture, shape_of
from lsncli.detection.detect import Verdict

ENOUGH = 20
"""The least number of images for a warning, and for one about sharpness also the least number at calibration:
quantiles of few images are too close together, and images of the same kind often lie outside."""
SAMPLE = 1024
"""The number of sampled images, at most twice as many, evenly spread. Measuring costs 1% of decoding."""
OTHER_SIZE = 1.5
"""The factor by which a size must lie outside calibration's range to be reported."""
UNLIKELY = 1e-3
"""The probability of so few OOD images below which their number is reported."""

RATE_LOST = (
    "So the rate that was asked for does not hold here: it is for ID images like those of calibration. "
    "Calibrate on ID images like these: `lsn calibrate FOLDER`."
)
RATE_IN_DOUBT = (
    "The rate that was asked for holds only if the ID images among these are like those of calibration."
)


class ImageSample:
    """Size and sharpness of a bounded sample of the images that a backbone preprocesses."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._images, self._every = 0, 1
        self._samples: list[tuple[float, float]] = []

    def watching(self, backbone: Backbone) -> Backbone:
        """Return a backbone that also passes the images it preprocesses to this sample."""
        return cast(Backbone, _Watched(backbone, self))

    def see(self, image: Picture, pixels: torch.Tensor) -> None:
        """Measure an image and its preprocessed pixels, if it is in the sample. Thread-safe."""
        with self._lock:
            self._images += 1
            if self._images % self._every:
                return
        sample = (float(min(shape_of(image))), sharpness(pixels.numpy()))
        with self._lock:
            self._samples.append(sample)
            if len(self._samples) >= 2 * SAMPLE:  # keep every second one and sample half as often
                self._samples, self._every = self._samples[1::2], 2 * self._every

    def quantiles(self) -> NDArray[np.float64] | None:
        """Return the 5 %, 50 % and 95 % quantiles of (side, sharpness), (3, 2), or None without samples."""
        return np.quantile(np.array(self._samples), [0.05, 0.5, 0.95], axis=0) if self._samples else None


class _Watched:
    """A proxy of a backbone that passes the images it preprocesses to an ``ImageSample``."""

    def __init__(self, backbone: Backbone, sample: ImageSample) -> None:
        self._backbone, self._sample = backbone, sample

    def preprocess(self, image: Picture) -> torch.Tensor:
        pixels = self._backbone.preprocess(image)
        self._sample.see(image, pixels)
        return pixels

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backbone, name)


def sharpness(pixels: NDArray[np.float32]) -> float:
    """Return the sharpness of preprocessed pixels (3, H, W), without a unit; 0 for an image of one colour.

    It is the standard deviation of the Laplacian divided by that of the green channel, in the middle half of
    both sides (the whole image would take four times as long). Blur lowers it; brightness and contrast do not
    change it.
    """
    _, height, width = pixels.shape
    green = pixels[1, height // 4 : height - height // 4, width // 4 : width - width // 4]
    inner = green[1:-1, 1:-1]
    laplacian = 4 * inner - green[:-2, 1:-1] - green[2:, 1:-1] - green[1:-1, :-2] - green[1:-1, 2:]
    contrast = float(inner.std()) if inner.size else 0.0
    return float(laplacian.std()) / contrast if contrast > 1e-6 else 0.0


def image_statistics(sample: ImageSample, images: int, ood: float) -> ImageStatistics | None:
    """Return the image statistics that a detector stores at calibration, or None without images."""
    quantiles = sample.quantiles()
    if quantiles is None:
        return None
    sides, sharp = quantiles.T.tolist()
    return ImageStatistics(images, ood, (sides[0], sides[1], sides[2]), (sharp[0], sharp[1], sharp[2]))


class Drift:
    """The drift check of a scoring run: compare the scored images with those of calibration.

    Score with ``watching(backbone)``, pass the verdicts to ``count``, and call ``warnings`` at the end.
    """

    def __init__(self, detector: SavedDetector) -> None:
        self._threshold, self._seen = detector.threshold, detector.seen
        by_class = detector.class_thresholds
        self._most_kept = by_class.most_kept if by_class else detector.threshold.tpr_high
        self._sample = ImageSample()
        self._ood = self._scored = 0

    def watching(self, backbone: Backbone) -> Backbone:
        """Return a backbone that samples the images, if the detector stores statistics to compare with."""
        return self._sample.watching(backbone) if self._seen else backbone

    def count(self, verdicts: Iterable[Verdict]) -> None:
        """Count verdicts; skip failed images."""
        for verdict in verdicts:
            if verdict.is_ood is not None:
                self._scored += 1
                self._ood += verdict.is_ood

    def warnings(self, *, rate: bool = False) -> list[str]:
        """Return a sentence for each way in which the images differ from those of calibration.

        With ``rate``, a last one says what that means for a rate that was asked for.
        """
        if self._scored < ENOUGH:
            return []
        changes = [text for text in (self._check_side(), self._check_sharpness()) if text]
        texts = [text for text in (self._check_share(), *changes) if text]
        if texts and rate:
            texts.append(RATE_LOST if changes else RATE_IN_DOUBT)
        return texts

    def _check_share(self) -> str:
        """Check the share of OOD: it is far above that of calibration, or improbably low."""
        if not self._threshold.calibrated:
            return ""
        expected = self._seen.ood if self._seen else 1 - self._threshold.target_tpr
        share = self._ood / self._scored
        counts = (
            f"{self._ood} of {self._scored} images ({share:.0%}) are below the detector's threshold, "
            f"{expected:.0%} at calibration"
        )
        if share > (1 + expected) / 2:
            return (
                f"{counts}: either most do not belong, or the detector does not fit them; look at a few, and "
                "set gamma anew with `lsn calibrate FOLDER` of good ones."
            )
        from scipy.special import bdtr  # takes long to import, and most runs do without

        if bdtr(self._ood, self._scored, 1 - self._most_kept) < UNLIKELY:
            return f"{counts}: so few are unlikely for new images; did the prompts learn from these?"
        return ""

    def _check_side(self) -> str:
        quantiles = self._sample.quantiles()
        if self._seen is None or quantiles is None:
            return ""
        low, _, high = self._seen.side
        median = float(quantiles[1, 0])
        if low / OTHER_SIZE <= median <= high * OTHER_SIZE:
            return ""
        return (
            f"The images are {'smaller' if median < low else 'larger'} than calibration's: the median of the "
            f"shorter side is {median:.0f} pixels, theirs {low:.0f} to {high:.0f}; scores may have shifted."
        )

    def _check_sharpness(self) -> str:
        quantiles = self._sample.quantiles()
        if self._seen is None or quantiles is None or self._seen.images < ENOUGH:
            return ""
        low, _, high = self._seen.sharpness
        median = float(quantiles[1, 1])
        if low <= median <= high:
            return ""
        return (
            f"The images are {'blurrier' if median < low else 'sharper'} than 95% of calibration's "
            f"(median sharpness {median:.2f}, theirs {low:.2f} to {high:.2f}); scores may have shifted."
        )
