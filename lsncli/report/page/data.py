"""A report as JSON for the script of the page, with arrays in base64.

Names are untrusted: control characters are escaped here, and the script inserts text only as text.
"""

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lsncli.console import printable
from lsncli.report.evaluation_plots import curves, edges_of

if TYPE_CHECKING:
    from lsncli.detection.scored_sets import ScoredSet, VerdictArrays
    from lsncli.report.contents import Report
    from lsncli.types import Float64Array

SIDE, QUALITY = 168, 78
"""Longer side in pixels and JPEG quality of heat maps."""
QUANTILES = 2000
"""Most calibration scores in the page: enough for rates to 0.05 %."""
CURVE = 300
"""Most points of a ROC curve."""
FAILURES = 2000
"""Most unreadable images that are listed; all are counted."""


def page_data(report: "Report") -> dict[str, Any]:
    """Return the contents of the page, ready for ``json.dumps``."""
    threshold = report.detector.threshold
    scores = [scored.judged.scores for scored in report.sets if len(scored.judged)]
    held_out = [report.calibration.scores] if report.calibration is not None else []
    # The axis includes held-out images and gamma, however far from the images.
    edges = edges_of([*scores, *held_out, np.array([report.gamma])])
    failures = [(at, failure) for at, scored in enumerate(report.sets) for failure in scored.failures]
    return {
        "detector": printable(report.detector.label),
        "model": printable(report.detector.fingerprint.model),
        "method": printable(_method(report)),
        "gamma": report.gamma,
        "target": threshold.target_tpr,
        "heldOut": threshold.n,
        "keeps": [threshold.tpr_low, threshold.tpr_high],
        "low": float(edges[0]),
        "high": float(edges[-1]),
        "odds": _crowded(scores, float(edges[0]), float(edges[-1])),
        "classes": [printable(name) for name in report.detector.head.classes],
        "calibration": _calibration(report.calibration),
        "sameRows": report.same_rows,
        "sets": [_set(scored) for scored in report.sets],
        "rows": _rows(report),
        "pictures": [jpeg_url(by_row[row]) for by_row in report.pictures for row in sorted(by_row)],
        "looks": _maps(report),
        "nearest": _nearest(report),
        "curves": _curves(report),
        "failures": [
            [at, printable(failure.key), printable(failure.reason)] for at, failure in failures[:FAILURES]
        ],
        "failed": len(failures),
        "notes": [printable(note) for note in report.notes],
        "facts": [[label, printable(value)] for label, value in report.facts],
    }


def packed(values: "NDArray[Any] | Sequence[float]", kind: str) -> str:
    """Return numbers as little-endian bytes of a NumPy type, in base64."""
    return base64.b64encode(np.ascontiguousarray(values, dtype=kind).tobytes()).decode()


def _crowded(scores: "Sequence[Float64Array]", low: float, high: float) -> bool:
    """Return whether scores are probabilities whose median is in the first or last tenth of their range."""
    if not scores or any(values.min() < 0 or values.max() > 1 for values in scores) or high - low < 0.1:
        return False
    position = (float(np.median(np.concatenate(scores))) - low) / (high - low)
    return not 0.1 <= position <= 0.9


def _set(scored: "ScoredSet") -> dict[str, Any]:
    return {
        "name": printable(scored.name),
        "kind": scored.kind,
        "source": printable(scored.source),
        "count": len(scored.judged),
        "failed": len(scored.failures),
        "scores": packed(scored.judged.scores, "<f8"),
        "predicted": packed(scored.judged.predicted, "<i4"),
        "labels": packed(scored.labels, "<i4") if (scored.labels >= 0).any() else None,
    }


def _rows(report: "Report") -> dict[str, Any]:
    """Return the images of the gallery as columns: set, row, path, parts of the score, picture or -1."""
    sets: list[int] = []
    rows: list[int] = []
    paths: list[str] = []
    pictures: list[int] = []
    positive: list[NDArray[Any]] = []
    negative: list[NDArray[Any]] = []
    before = 0
    for at, (scored, listed, by_row) in enumerate(
        zip(report.sets, report.listed, report.pictures, strict=True)
    ):
        number = {row: before + index for index, row in enumerate(sorted(by_row))}
        before += len(by_row)
        sets += [at] * len(listed)
        rows += [int(row) for row in listed]
        paths += [printable(scored.path(row)) for row in listed]
        pictures += [number.get(row, -1) for row in listed]
        if scored.judged.positive is not None and scored.judged.negative is not None:
            where = np.asarray(listed, dtype=np.int64)
            positive.append(scored.judged.positive[where])
            negative.append(scored.judged.negative[where])
    parts = bool(positive) and sum(map(len, positive)) == len(rows)
    return {
        "set": packed(sets, "<i4"),
        "row": packed(rows, "<i4"),
        "picture": packed(pictures, "<i4"),
        "path": paths,
        "positive": packed(np.concatenate(positive), "<f8") if parts else None,
        "negative": packed(np.concatenate(negative), "<f8") if parts else None,
    }


def _maps(report: "Report") -> dict[int, list[list[str]]]:
    """Return pairs of prompt and heat map over the image, by the number of the picture."""
    from lsncli.report import explanation_images

    result: dict[int, list[list[str]]] = {}
    before = 0
    for by_row, explanations in zip(report.pictures, report.maps, strict=True):
        for index, row in enumerate(sorted(by_row)):
            if row not in explanations:
                continue
            result[before + index] = []
            for prompt_map in explanations[row].maps:
                image = explanation_images.overlay(explanations[row].seen, prompt_map.weights)
                image.thumbnail((SIDE, SIDE))
                buffer = io.BytesIO()
                image.save(buffer, "JPEG", quality=QUALITY)
                result[before + index].append([prompt_map.prompt, jpeg_url(buffer.getvalue())])
        before += len(by_row)
    return result


def _nearest(report: "Report") -> dict[int, list[list[Any]]]:
    """Return key, class and cosine of the nearest training images, by the number of the picture."""
    result: dict[int, list[list[Any]]] = {}
    before = 0
    for by_row, neighbours in zip(report.pictures, report.nearest, strict=False):
        for index, row in enumerate(sorted(by_row)):
            result[before + index] = [
                [printable(near.key), printable(near.class_name), round(near.cosine, 4)]
                for near in neighbours.get(row, ())
            ]
        before += len(by_row)
    return result


def jpeg_url(data: bytes) -> str:
    """Return a JPEG as a data URL."""
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()


def _calibration(calibration: "VerdictArrays | None") -> dict[str, Any] | None:
    """Return the number of calibration images and sorted quantiles of their scores; None without them."""
    if calibration is None:
        return None

    def quantiles(values: "Float64Array | None") -> str | None:
        if values is None:
            return None
        ascending = np.sort(values)
        if len(ascending) > QUANTILES:
            ascending = ascending[np.linspace(0, len(ascending) - 1, QUANTILES).round().astype(int)]
        return packed(ascending, "<f8")

    return {
        "count": len(calibration),
        "scores": quantiles(calibration.scores),
        "positive": quantiles(calibration.positive),
        "negative": quantiles(calibration.negative),
    }


def _curves(report: "Report") -> list[dict[str, Any]]:
    """Return the ROC curve of each OOD set against the ID sets, or else against the calibration images."""
    known = [scored.judged.scores for scored in report.sets if scored.kind == "id" and len(scored.judged)]
    if not known and report.calibration is not None:
        known = [report.calibration.scores]
    if not known:
        return []
    inside = np.concatenate(known)
    rows = []
    for at, scored in enumerate(report.sets):
        if scored.kind != "ood" or not len(scored.judged):
            continue
        curve = curves(inside, scored.judged.scores, edges_of([inside, scored.judged.scores]))
        steps = np.unique(np.linspace(0, len(curve.kept) - 1, CURVE).astype(int))
        rows.append(
            {
                "set": at,
                "fpr95": curve.fpr95,
                "auroc": curve.auroc,
                "accepted": packed(curve.accepted[steps], "<f8"),
                "kept": packed(curve.kept[steps], "<f8"),
            }
        )
    return rows


def _method(report: "Report") -> str:
    from lsncli.methods.spec import Method

    detector = report.detector
    return str(Method(detector.method, detector.head_name, detector.settings))
