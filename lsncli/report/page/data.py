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
    scores = [one.judged.scores for one in report.sets if len(one.judged)]
    held_out = [report.calibration.scores] if report.calibration is not None else []
    # The axis includes held-out images and gamma, however far from the images.
    edges = edges_of([*scores, *held_out, np.array([threshold.gamma])])
    failures = [(at, one) for at, each in enumerate(report.sets) for one in each.failures]
    return {
        "detector": printable(report.detector.label),
        "model": printable(report.detector.fingerprint.model),
        "method": printable(_method(report)),
        "gamma": threshold.gamma,
        "target": threshold.target_tpr,
        "heldOut": threshold.n,
        "keeps": [threshold.tpr_low, threshold.tpr_high],
        "low": float(edges[0]),
        "high": float(edges[-1]),
        "odds": _crowded(scores, float(edges[0]), float(edges[-1])),
        "classes": [printable(name) for name in report.detector.head.classes],
        "calibration": _calibration(report.calibration),
        "sameRows": report.same_rows,
        "sets": [_set(one) for one in report.sets],
        "rows": _rows(report),
        "pictures": [_jpeg(each[row]) for each in report.pictures for row in sorted(each)],
        "looks": _looks(report),
        "nearest": _nearest(report),
        "curves": _curves(report),
        "failures": [[at, printable(one.key), printable(one.reason)] for at, one in failures[:FAILURES]],
        "failed": len(failures),
        "notes": [printable(note) for note in report.notes],
        "facts": [[label, printable(value)] for label, value in report.facts],
    }


def packed(values: "NDArray[Any] | Sequence[float]", kind: str) -> str:
    """Return numbers as little-endian bytes of a NumPy type, in base64."""
    return base64.b64encode(np.ascontiguousarray(values, dtype=kind).tobytes()).decode()


def _crowded(scores: "Sequence[Float64Array]", low: float, high: float) -> bool:
    """Whether scores are probabilities, half of them in a tenth of their range at one end."""
    if not scores or any(one.min() < 0 or one.max() > 1 for one in scores) or high - low < 0.1:
        return False
    place = (float(np.median(np.concatenate(scores))) - low) / (high - low)
    return not 0.1 <= place <= 0.9


def _set(one: "ScoredSet") -> dict[str, Any]:
    return {
        "name": printable(one.name),
        "kind": one.kind,
        "source": printable(one.source),
        "count": len(one.judged),
        "failed": len(one.failures),
        "scores": packed(one.judged.scores, "<f8"),
        "predicted": packed(one.judged.predicted, "<i4"),
        "labels": packed(one.labels, "<i4") if (one.labels >= 0).any() else None,
    }


def _rows(report: "Report") -> dict[str, Any]:
    """The images of the gallery: ``set``, ``row`` in it, ``path``, parts of the score, picture or -1."""
    sets: list[int] = []
    rows: list[int] = []
    paths: list[str] = []
    pictures: list[int] = []
    positive: list[NDArray[Any]] = []
    negative: list[NDArray[Any]] = []
    before = 0
    for at, (one, listed, made) in enumerate(zip(report.sets, report.listed, report.pictures, strict=True)):
        number = {row: before + place for place, row in enumerate(sorted(made))}
        before += len(made)
        sets += [at] * len(listed)
        rows += [int(row) for row in listed]
        paths += [printable(one.path(row)) for row in listed]
        pictures += [number.get(row, -1) for row in listed]
        if one.judged.positive is not None and one.judged.negative is not None:
            where = np.asarray(listed, dtype=np.int64)
            positive.append(one.judged.positive[where])
            negative.append(one.judged.negative[where])
    parts = bool(positive) and sum(map(len, positive)) == len(rows)
    return {
        "set": packed(sets, "<i4"),
        "row": packed(rows, "<i4"),
        "picture": packed(pictures, "<i4"),
        "path": paths,
        "positive": packed(np.concatenate(positive), "<f8") if parts else None,
        "negative": packed(np.concatenate(negative), "<f8") if parts else None,
    }


def _looks(report: "Report") -> dict[int, list[list[str]]]:
    """Heat maps by the number of the picture: prompt, and the map over the image."""
    from lsncli.report import explanation_images

    found: dict[int, list[list[str]]] = {}
    before = 0
    for made, looks in zip(report.pictures, report.looks, strict=True):
        for place, row in enumerate(sorted(made)):
            if row not in looks:
                continue
            found[before + place] = []
            for look in looks[row].maps:
                image = explanation_images.overlay(looks[row].seen, look.weights)
                image.thumbnail((SIDE, SIDE))
                buffer = io.BytesIO()
                image.save(buffer, "JPEG", quality=QUALITY)
                found[before + place].append([look.prompt, _jpeg(buffer.getvalue())])
        before += len(made)
    return found


def _nearest(report: "Report") -> dict[int, list[list[Any]]]:
    """Key, class and cosine of the nearest training images, by the number of the picture."""
    found: dict[int, list[list[Any]]] = {}
    before = 0
    for made, like in zip(report.pictures, report.nearest, strict=False):
        for place, row in enumerate(sorted(made)):
            found[before + place] = [
                [printable(one.key), printable(one.class_name), round(one.cosine, 4)]
                for one in like.get(row, ())
            ]
        before += len(made)
    return found


def _jpeg(data: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()


def _calibration(found: "VerdictArrays | None") -> dict[str, Any] | None:
    if found is None:
        return None

    def few(values: "Float64Array | None") -> str | None:
        if values is None:
            return None
        rising = np.sort(values)
        if len(rising) > QUANTILES:
            rising = rising[np.linspace(0, len(rising) - 1, QUANTILES).round().astype(int)]
        return packed(rising, "<f8")

    return {
        "count": len(found),
        "scores": few(found.scores),
        "positive": few(found.positive),
        "negative": few(found.negative),
    }


def _curves(report: "Report") -> list[dict[str, Any]]:
    """ROC curve of each OOD set, with the ID sets or else the calibration images."""
    known = [one.judged.scores for one in report.sets if one.kind == "id" and len(one.judged)]
    if not known and report.calibration is not None:
        known = [report.calibration.scores]
    if not known:
        return []
    inside = np.concatenate(known)
    found = []
    for at, one in enumerate(report.sets):
        if one.kind != "ood" or not len(one.judged):
            continue
        drawn = curves(inside, one.judged.scores, edges_of([inside, one.judged.scores]))
        steps = np.unique(np.linspace(0, len(drawn.kept) - 1, CURVE).astype(int))
        found.append(
            {
                "set": at,
                "fpr95": drawn.fpr95,
                "auroc": drawn.auroc,
                "accepted": packed(drawn.accepted[steps], "<f8"),
                "kept": packed(drawn.kept[steps], "<f8"),
            }
        )
    return found


def _method(report: "Report") -> str:
    from lsncli.methods.spec import Method

    detector = report.detector
    return str(Method(detector.method, detector.head_name, detector.settings))
