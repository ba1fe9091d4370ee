"""The Python API, such as ``from lsncli import Detector; Detector.load("lsn-work").score("photos")``."""

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy, deepcopy
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lsncli import metrics
from lsncli.artefacts import detector as artefact
from lsncli.backbones import DEFAULT_MODEL, Backbone, load_again, load_backbone
from lsncli.credentials import mask_credentials
from lsncli.detection.calibrate import predict_in_chunks, recalibrated
from lsncli.detection.detect import DetectFunction, Verdict, detect, detect_function, load_scorer
from lsncli.detection.drift import Drift, ImageSample
from lsncli.detection.in_memory import Picture, load_pictures
from lsncli.detection.rates import FalseAlarms, retargeted
from lsncli.detection.zero_shot import checked_names, zero_shot_detector
from lsncli.device import computes, images_at_once, pick_device, threads
from lsncli.errors import UsageError
from lsncli.extraction.encoder import encode_batch
from lsncli.images.columns import Columns
from lsncli.images.listing import check_not_empty, list_images
from lsncli.scores import chunk_of, load_score, score_in_chunks
from lsncli.store.reader import read_split
from lsncli.threshold import Threshold
from lsncli.types import Float64Array

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = [
    "Detector",
    "Images",
    "Threshold",
    "Verdict",
    "evaluate_scores",
    "list_images",
    "load_backbone",
    "load_score",
    "read_split",
]

Images = str | os.PathLike[str] | Iterable[Picture]
"""A path as for `lsn score` (folder, tar, list, image), or any iterable of images: PIL images, paths
of image files, numpy arrays (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8 or of floats in [0, 1]."""


NUMBERS = ("score", "threshold", "positive", "negative")
"""The columns of ``Detector.score_frame`` that hold floats."""


@dataclass(eq=False)
class Detector:
    """A detector ready to score; make one with ``load``, ``zero_shot`` or ``calibrate``.

    The model is loaded on first use and kept. A copy shares it; a pickle does not contain it and loads it
    again. A process that was forked after a detector had scored cannot score: LsnError. ``batch_size`` images
    are encoded at a time and ``workers`` threads decode; 0 chooses by device and cores. An image that is not
    decoded within 30 s, or the seconds in the environment variable LSN_IMAGE_TIMEOUT, gets an error.

    It has the interface of scikit-learn's outlier detectors (``score_samples``, ``decision_function``,
    ``predict``, ``offset_``) and can be the last step of a ``Pipeline``. Methods change no attribute:
    ``calibrate`` returns another detector.
    """

    stored: artefact.SavedDetector
    device: str = "auto"
    pretrained: str = ""
    batch_size: int = 0
    workers: int = 0
    _backbone: Backbone | None = None

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
        file = Path(path)
        file = file / "detector.safetensors" if file.is_dir() else file
        return cls(artefact.load_detector(file), device, pretrained, batch_size, workers)

    @classmethod
    def zero_shot(
        cls,
        classes: Sequence[str],
        *,
        model: str = DEFAULT_MODEL,
        words: str = "auto",
        device: str = "auto",
        pretrained: str = "",
        batch_size: int = 0,
        workers: int = 0,
    ) -> "Detector":
        """Make a detector from class names alone; it is not ``calibrated``.

        ``words`` is the list of words that are no class: "wordnet", "csp", a class list, a file with one word
        a line, or "auto": WordNet, for the mini model ImageNet's names. WordNet's 70,000 words take minutes
        on a CPU, once for a model; they are kept in the user's cache folder (``LSN_CACHE``).

        Raises UsageError for invalid names, or as ``load_backbone`` for the model.
        """
        names = checked_names(classes)
        computes()
        backbone = load_backbone(model, pretrained=pretrained, device=device)
        stored = zero_shot_detector(names, backbone, words)
        return cls(stored, device, pretrained, batch_size, workers, backbone)

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)} | {"_backbone": None}

    def __copy__(self) -> "Detector":
        return replace(self, _backbone=self.__dict__.get("_loaded", self._backbone))

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
        """Gamma, and the interval of the rate of ID images that it keeps."""
        return self.stored.threshold

    @property
    def calibrated(self) -> bool:
        """Whether ID images have set the threshold."""
        return self.threshold.calibrated

    @property
    def backbone(self) -> Backbone:
        """The detector's model, loaded when it is first needed.

        Raises FingerprintMismatch if other weights are found, LsnError in a process that was forked after a
        model had computed.
        """
        computes()
        return self._loaded if self._backbone is None else self._backbone

    @cached_property
    def _loaded(self) -> Backbone:
        return load_again(
            self.stored.fingerprint, pretrained=self.pretrained, device=self.device, what="prompts"
        )

    def score(
        self, images: Images, *, target_tpr: float | None = None, false_alarms: float | None = None
    ) -> list[Verdict]:
        """Return a verdict for every image, in order; an image that cannot be read has an ``error``.

        ``target_tpr`` judges by the threshold that keeps this fraction of the detector's held-out ID images.
        ``false_alarms`` flags images so that at most this fraction of the flagged is expected to be ID, by
        Benjamini and Hochberg's procedure on the p-values of these images.

        Images far from those of calibration (share of OOD, resolution, blur) are a UserWarning, and so are
        too few held-out images to flag any. Raises LsnError for a path that cannot be listed, TypeError for
        what is no image, UsageError for a rate without held-out images and for both rates at once.
        """
        return self._rated_verdicts(images, target_tpr, false_alarms)

    def stream(self, images: Images) -> Iterator[Verdict]:
        """Yield the verdicts of ``score`` batch by batch, for any number of images in constant memory."""
        return self._checked_verdicts(images, 2)

    def _rated_verdicts(
        self, images: Images, target_tpr: float | None, false_alarms: float | None
    ) -> list[Verdict]:
        """Return verdicts at a rate; the caller's caller is the user's line."""
        if target_tpr is not None and false_alarms is not None:
            raise UsageError("target_tpr and false_alarms are two rules for one verdict.", "Leave one out.")
        if target_tpr is not None:
            stored = retargeted(self.stored, target_tpr)
            judge = replace(self, stored=stored, _backbone=self.backbone)
            return list(judge._checked_verdicts(images, 4, rate=True))
        if false_alarms is None:
            return list(self._checked_verdicts(images, 4))
        alarms = FalseAlarms(self.stored, false_alarms)
        found = list(self._checked_verdicts(images, 4, rate=True))
        flagged = [verdict for verdict, _ in alarms.flag((verdict, None) for verdict in found)]
        if alarms.doubt:
            warnings.warn(alarms.doubt, UserWarning, stacklevel=3)
        return flagged

    def _checked_verdicts(self, images: Images, depth: int, *, rate: bool = False) -> Iterator[Verdict]:
        """Yield verdicts, then warn of drift; ``depth`` is the stack level of the user's line."""
        drift = Drift(self.stored)
        for verdict in self._verdicts(images, drift.watching(self.backbone)):
            drift.count([verdict])
            yield verdict
        for text in drift.warnings(rate=rate):
            warnings.warn(text, UserWarning, stacklevel=depth)

    def score_frame(
        self, images: Images, *, target_tpr: float | None = None, false_alarms: float | None = None
    ) -> "DataFrame":
        """Return ``score`` as a pandas DataFrame: a row for each image, in order, and the fields as columns.

        Missing values are NaN in ``score``, ``threshold``, ``positive`` and ``negative``, else None.
        """
        from pandas import DataFrame

        verdicts = self._rated_verdicts(images, target_tpr, false_alarms)
        columns = {
            field.name: [getattr(verdict, field.name) for verdict in verdicts] for field in fields(Verdict)
        }
        numbers = {name: np.array(columns[name], dtype=np.float64) for name in NUMBERS}
        return DataFrame({**columns, **numbers})

    @property
    def offset_(self) -> float:
        """Gamma, by the name that scikit-learn's outlier detectors give it; that of all classes together."""
        return self.threshold.gamma

    def fit(self, X: Any = None, y: Any = None) -> "Detector":  # noqa: N803 (as scikit-learn names it)
        """Return this detector unchanged, so that it can be the last step of a scikit-learn ``Pipeline``.

        A detector comes fitted, like an estimator in ``sklearn.frozen.FrozenEstimator``: prompts and gamma
        are those of its artefact. ``calibrate`` sets gamma anew, on ID images.
        """
        return self

    def score_samples(self, X: Any) -> Float64Array:  # noqa: N803 (as scikit-learn names it)
        """Return the scores (N,) of features or images; higher = more ID.

        ``X`` is an array (N, D) of raw features of the detector's model, such as the rows of a split, or
        images as ``score`` takes them. The score of an image that cannot be read is NaN. Raises LsnError for
        features of another width, or that are not finite or all zero.
        """
        return self._scores_and_gammas(X)[0]

    def _scores_and_gammas(self, X: Any) -> tuple[Float64Array, Float64Array]:  # noqa: N803
        """Return scores (N,) and the gamma of each, that of its predicted class if classes have their own.

        The caller's caller is the user's line.
        """
        if getattr(X, "ndim", 0) != 2:
            verdicts = list(self._checked_verdicts(X, 4))
            columns = [[verdict.score for verdict in verdicts], [verdict.threshold for verdict in verdicts]]
            numbers = np.array(columns, dtype=np.float64)
            return numbers[0], numbers[1]
        features = np.asarray(X)
        width = self.stored.fingerprint.dim
        if features.dtype.kind != "f" or features.shape[1] != width:
            raise UsageError(
                f"Expected features (N, {width}) of {self.stored.fingerprint}, "
                f"found {features.dtype} {features.shape}.",
                "Put a single image into a list.",
            )
        head, scores_of = load_scorer(self.stored, lambda: self.backbone, str(pick_device(self.device)))
        rows = chunk_of(head)
        scores = score_in_chunks(lambda part: scores_of(part)[0], features, rows)
        by_class = self.stored.class_thresholds
        if by_class is None:
            return scores, np.full(len(scores), self.offset_)
        return scores, by_class.gammas[predict_in_chunks(head, features)]

    def decision_function(self, X: Any) -> Float64Array:  # noqa: N803 (as scikit-learn names it)
        """Return ``score_samples(X) - offset_`` (N,): ID images have values of 0 or more.

        If each class has a threshold, that of the predicted class takes the place of ``offset_``.
        """
        scores, gammas = self._scores_and_gammas(X)
        return scores - gammas

    def predict(self, X: Any) -> NDArray[np.int64]:  # noqa: N803 (as scikit-learn names it)
        """Return 1 for ID and -1 for OOD (N,), as scikit-learn's outlier detectors do.

        An image that cannot be read is -1: it cannot be said to be ID.
        """
        scores, gammas = self._scores_and_gammas(X)
        return np.where(scores >= gammas, 1, -1)

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_clone__(self) -> "Detector":
        return self

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import Tags, TargetTags

        return Tags("outlier_detector", TargetTags(required=False), requires_fit=False)

    def calibrate(self, images: Images, target_tpr: float = 0.95, *, per_class: bool = False) -> "Detector":
        """Return the detector with a threshold that keeps ``target_tpr`` of ``images``.

        ``per_class`` sets one for each predicted class that has enough images; the others share one.

        The images must be ID, and not training images of the prompts. Images that cannot be read, too few
        images, and images of too few classes are a UserWarning. Raises LsnError if none can be read.
        """
        sample = ImageSample()
        verdicts = list(self._verdicts(images, sample.watching(self.backbone)))
        result = recalibrated(self.stored, verdicts, sample, target_tpr, per_class=per_class)
        unused = f"Not used: {len(result.failures)} of {len(verdicts)} images"
        texts = [f"{unused}, such as {failure.key}: {failure.reason}." for failure in result.failures[:1]]
        for text in texts + result.warnings:
            warnings.warn(mask_credentials(text), UserWarning, stacklevel=2)
        options = (self.device, self.pretrained, self.batch_size, self.workers)
        return Detector(result.detector, *options, self.backbone)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the detector, as `lsn score` and ``load`` read it. Raises LsnError if that fails."""
        artefact.save_detector(Path(path), self.stored)

    def _verdicts_of(self, device: str) -> DetectFunction:
        """Return the function that makes verdicts of features; it is kept, as images may come one by one."""
        stored, kept_device, kept = self.__dict__.get("_kept", (None, "", None))
        if kept is None or stored is not self.stored or kept_device != device:
            kept = detect_function(self.stored, lambda: self.backbone, device)
            self.__dict__["_kept"] = (self.stored, device, kept)
        return cast(DetectFunction, kept)

    def _verdicts(self, images: Images, backbone: Backbone) -> Iterator[Verdict]:
        device = pick_device(self.device)
        size, workers = images_at_once(self.batch_size, self.device), threads(self.workers)
        if isinstance(images, str | os.PathLike):
            if not os.fspath(images):  # Path("") would be the working folder
                raise UsageError("The path of the images is empty.", "The working folder is '.'.")
            listing = list_images([Path(images)], keep_order=True, columns=Columns(labelled=False))
            check_not_empty(listing, os.fspath(images))
            for _, verdicts in detect(
                listing, self.stored, backbone, batch_size=size, workers=workers, device=str(device)
            ):
                yield from verdicts
            return
        verdicts_of = self._verdicts_of(str(device))
        for paths, pixels in load_pictures(images, backbone.preprocess, batch_size=size, workers=workers):
            batch = encode_batch(pixels, backbone)
            by_key = {
                failure.key: Verdict(paths[failure.key], error=failure.reason) for failure in batch.failures
            }
            scored = verdicts_of([paths[key] for key in batch.keys], batch.features)
            by_key |= dict(zip(batch.keys, scored, strict=True))
            yield from (by_key[key] for key in paths)


def evaluate_scores(id_scores: ArrayLike, ood_scores: ArrayLike | Mapping[str, ArrayLike]) -> "DataFrame":
    """Return the metrics of ``id_scores`` (N,) against one or several named sets of ``ood_scores`` (M,).

    Scores are higher for ID. The table has a row for each OOD set ("OOD" for one array) and the columns of
    ``lsn eval``, in percent: ``fpr95``, ``fpr95_ood``, ``auroc``, ``aupr_in`` and ``aupr_out``, then the
    numbers of images ``n_id`` and ``n_ood``. ``lsncli.metrics`` defines them. Raises LsnError for scores
    that are missing, not finite or not one-dimensional.

    >>> evaluate_scores([0.9, 0.8, 0.4], {"far": [0.1, 0.2], "near": [0.5, 0.3]})["auroc"].round(1).to_dict()
    {'far': 100.0, 'near': 83.3}
    """
    from pandas import DataFrame

    sets = ood_scores if isinstance(ood_scores, Mapping) else {"OOD": ood_scores}
    inside = np.asarray(id_scores)
    rows = [asdict(metrics.evaluate_scores(inside, np.asarray(scores))) for scores in sets.values()]
    percent = [
        {name: value if name.startswith("n_") else 100 * value for name, value in row.items()} for row in rows
    ]
    return DataFrame(percent, index=list(sets))
