"""lsn from Python: ``from lsncli import Detector``, then ``Detector.load("lsn-work").score("photos")``."""

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from copy import copy, deepcopy
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from lsncli.artefacts import detector as artefact
from lsncli.backbones import DEFAULT_MODEL, Backbone, load_again, load_backbone
from lsncli.credentials import masked
from lsncli.detection.calibrate import recalibrated
from lsncli.detection.detect import Verdict, detect, judge_of
from lsncli.detection.drift import Drift, ImageSample
from lsncli.detection.in_memory import Picture, load_pictures
from lsncli.detection.zero_shot import checked_names, zero_shot_detector
from lsncli.device import computes, images_at_once, pick_device, threads
from lsncli.errors import UsageError
from lsncli.extraction.encoder import encode_batch
from lsncli.images.columns import Columns
from lsncli.images.listing import check_not_empty, list_images
from lsncli.threshold import Threshold
from lsncli.types import Failure

Images = str | os.PathLike[str] | Iterable[Picture]
"""A path that `lsn score` would take (folder, tar, list, image), or any iterable of images: PIL images, paths
of image files, numpy arrays (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8 or of floats in [0, 1]."""


@dataclass(frozen=True)
class Result:
    """One image, as a row of `lsn score`: either a verdict, or ``error`` and None in all that it would say.

    ``score``: higher = more ID. ``is_ood``: score < threshold. ``positive`` and ``negative`` are the two
    parts of an LSN score, None for others. ``path`` is None for an image that is no file.
    """

    path: str | None
    predicted: str | None = None
    score: float | None = None
    threshold: float | None = None
    is_ood: bool | None = None
    positive: float | None = None
    negative: float | None = None
    error: str | None = None


@dataclass(frozen=True, eq=False)
class Detector:
    """A detector ready to score; make one by ``load``, ``zero_shot`` or ``calibrate``.

    The model is loaded when it is first needed, and kept. A copy shares it; a pickle is without it, and loads
    it again when it is used. A process that was forked after a detector had scored cannot score: LsnError.
    ``batch_size`` and ``workers`` are images encoded
    at a time and decoding threads; 0 is what suits the machine. An image that is not decoded within 30 s, or
    the seconds in the environment variable LSN_IMAGE_TIMEOUT, has an error.
    """

    stored: artefact.SavedDetector
    device: str = "auto"
    pretrained: str = ""
    batch_size: int = 0
    workers: int = 0
    _given: Backbone | None = None

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        device: str = "auto",
        pretrained: str = "",
        batch_size: int = 0,
        workers: int = 0,
    ) -> "Detector":
        """Read ``detector.safetensors``, or the workspace folder that holds it.

        ``pretrained`` is the checkpoint of its model if that has moved. Raises LsnError if there is none.
        """
        place = Path(path)
        place = place / "detector.safetensors" if place.is_dir() else place
        return cls(artefact.load_detector(place), device, pretrained, batch_size, workers)

    @classmethod
    def zero_shot(
        cls,
        classes: Sequence[str],
        *,
        model: str = DEFAULT_MODEL,
        device: str = "auto",
        pretrained: str = "",
        batch_size: int = 0,
        workers: int = 0,
    ) -> "Detector":
        """A detector of nothing but class names; it is not ``calibrated``. Raises UsageError for the names,
        or as ``load_backbone`` for the model."""
        names = checked_names(classes)
        computes()
        backbone = load_backbone(model, pretrained=pretrained, device=device)
        found = zero_shot_detector(names, backbone)
        return cls(found, device, pretrained, batch_size, workers, backbone)

    def __getstate__(self) -> dict[str, Any]:
        return {one.name: getattr(self, one.name) for one in fields(self)} | {"_given": None}

    def __copy__(self) -> "Detector":
        return replace(self, _given=self.__dict__.get("_loaded", self._given))

    def __deepcopy__(self, memo: dict[int, Any]) -> "Detector":
        return replace(copy(self), stored=deepcopy(self.stored, memo))

    def __repr__(self) -> str:
        return f"<Detector {self.stored.basis}>"

    @property
    def classes(self) -> tuple[str, ...]:
        """The ID classes."""
        return self.stored.head.classes

    @property
    def threshold(self) -> Threshold:
        """Gamma, and what is known of the rate of ID images that it keeps."""
        return self.stored.threshold

    @property
    def calibrated(self) -> bool:
        """Whether ID images have set the threshold."""
        return self.threshold.calibrated

    @property
    def backbone(self) -> Backbone:
        """The detector's model. Raises FingerprintMismatch if other weights are found, LsnError in a process
        that was forked after a model had computed."""
        computes()
        return self._loaded if self._given is None else self._given

    @cached_property
    def _loaded(self) -> Backbone:
        return load_again(
            self.stored.fingerprint, pretrained=self.pretrained, device=self.device, what="prompts"
        )

    def score(self, images: Images) -> list[Result]:
        """A result for every image, in order; an image that cannot be read has an ``error``.

        Images far from those of calibration (share of OOD, resolution, blur) are a UserWarning. Raises
        LsnError for a path that cannot be listed, TypeError for what is no image.
        """
        return list(self._results(images, 3))

    def stream(self, images: Images) -> Iterator[Result]:
        """``score`` for any number of images: results come batch by batch, and memory stays flat."""
        return self._results(images, 2)

    def _results(self, images: Images, depth: int) -> Iterator[Result]:
        """``depth`` frames above this one is who is to hear of warnings."""
        drift = Drift(self.stored)
        for name, verdict in self._judged(images, drift.watching(self.backbone)):
            drift.count([verdict])
            if isinstance(verdict, Failure):
                yield Result(name, error=verdict.reason)
            else:
                yield Result(**{**vars(verdict), "path": name})
        for text in drift.warnings():
            warnings.warn(text, UserWarning, stacklevel=depth)

    def calibrate(self, images: Images, target_tpr: float = 0.95) -> "Detector":
        """The same detector with a threshold that keeps ``target_tpr`` of ``images``.

        They must be ID, and none that prompts learned from. Images that cannot be read, too few images, and
        images of too few classes are a UserWarning. Raises LsnError if none can be read.
        """
        looks = ImageSample()
        found = list(self._judged(images, looks.watching(self.backbone)))
        verdicts = [one for _, one in found if isinstance(one, Verdict)]
        failures = [
            Failure(path or f"image {one.key}", one.reason) for path, one in found if isinstance(one, Failure)
        ]
        done = recalibrated(self.stored, verdicts, failures, looks, target_tpr)
        unused = f"Not used: {len(failures)} of {len(found)} images"
        told = [f"{unused}, such as {one.key}: {one.reason}." for one in failures[:1]]
        for text in told + done.warnings:
            warnings.warn(masked(text), UserWarning, stacklevel=2)
        options = (self.device, self.pretrained, self.batch_size, self.workers)
        return Detector(done.detector, *options, self.backbone)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the detector, as `lsn score` and ``load`` read it. Raises LsnError if that fails."""
        artefact.save_detector(Path(path), self.stored)

    def _judged(self, images: Images, backbone: Backbone) -> Iterator[tuple[str | None, Verdict | Failure]]:
        device = pick_device(self.device)
        if self.batch_size < 0 or self.workers < 0:
            raise UsageError(
                "batch_size and workers are 0 or more, "
                f"found batch_size={self.batch_size} and workers={self.workers}."
            )
        size, workers = images_at_once(self.batch_size, self.device), threads(self.workers)
        if isinstance(images, str | os.PathLike):
            if not os.fspath(images):  # of which Path makes the working folder
                raise UsageError("The path of the images is empty.", "The working folder is '.'.")
            listing = list_images([Path(images)], keep_order=True, columns=Columns(labelled=False))
            check_not_empty(listing, os.fspath(images))
            for _, found in detect(
                listing, self.stored, backbone, batch_size=size, workers=workers, device=str(device)
            ):
                yield from ((one.path if isinstance(one, Verdict) else one.key, one) for one in found)
            return
        judge = judge_of(self.stored, lambda: backbone, str(device))
        for paths, pixels in load_pictures(images, backbone.preprocess, batch_size=size, workers=workers):
            batch = encode_batch(pixels, backbone)
            verdicts: dict[str, Verdict | Failure] = {failure.key: failure for failure in batch.failures}
            verdicts |= dict(zip(batch.keys, judge(batch.keys, batch.features), strict=True))
            yield from ((path, verdicts[key]) for key, path in paths.items())
