"""Score a split with many methods: from the cache, or in chunks of rows, with shared work done once."""

from collections.abc import Callable, Sequence

import numpy as np

from lsncli.artefacts.files import Arrays
from lsncli.console import ProgressCallback
from lsncli.errors import LsnError
from lsncli.methods.cache import digest
from lsncli.methods.heads import Heads
from lsncli.methods.inputs import ExtraInput
from lsncli.methods.prepared import PreparedMethod, ResourceUse, metered
from lsncli.methods.source_digest import code_of
from lsncli.methods.spec import Method
from lsncli.scores import chunk_of
from lsncli.scores.common import classify as classify_rows
from lsncli.store.format import Split
from lsncli.types import Float64Array, FloatArray, Labels

Classified = tuple[Labels, Float64Array]
"""Predicted classes, and the softmax probability of each."""


def load_cached_scores(method: PreparedMethod, split: Split, *, classify: bool) -> None:
    """Take the scores of ``split`` from the cache, if it has them; with ``classify`` also predicted classes.

    Raises LsnError if the method lacks an input besides features.
    """
    scores = method.cache.get(_scores_key(method, split))
    classes = method.cache.get(_predictions_key(method, split)) if classify else None
    if scores and (classes or not classify):
        method.scores[split.name] = scores[0]["scores"]
    if classes:
        _set_classes(method, split, (classes[0]["guesses"], classes[0]["confidences"]))


def _set_classes(method: PreparedMethod, split: Split, classified: Classified) -> None:
    method.predictions[split.name], method.confidences[split.name] = classified


def score_split(
    methods: Sequence[PreparedMethod],
    split: Split,
    failed: list[tuple[Method, str]],
    progress: ProgressCallback,
    *,
    classify: bool,
) -> list[PreparedMethod]:
    """Score ``split`` with the methods that have no scores of it yet.

    Returns the methods that succeeded, in their order; the others are added to ``failed`` with the reason.
    With ``classify``, classes are predicted as well. Methods run one after the other, except those whose
    prompts depend on the image: these run together, a few rows at a time, so that each image is encoded once.
    """
    todo = [method for method in methods if split.name not in method.scores]
    succeeded = [method for method in methods if split.name in method.scores]
    # The predicted class depends on the head alone: the first method on a head predicts for the others.
    by_head = {
        method.head_key: (method.predictions[split.name], method.confidences[split.name])
        for method in methods
        if split.name in method.predictions
    }
    groups = [[method] for method in todo if not method.conditional]
    for group in (*groups, [method for method in todo if method.conditional]):
        for method in _run(group, split, failed, progress, by_head if classify else None):
            about = {"what": f"{method.method} on {split.name}"}
            method.cache.put(_scores_key(method, split), {"scores": method.scores[split.name]}, about)
            succeeded.append(method)
    if classify:
        for method in succeeded:
            if split.name not in method.predictions:
                classes, confidences = by_head[method.head_key]
                _set_classes(method, split, (classes, confidences))
                arrays: Arrays = {"guesses": classes, "confidences": confidences}
                method.cache.put(_predictions_key(method, split), arrays, {"what": "classes"})
    return [method for method in methods if method in succeeded]


def _run(
    group: Sequence[PreparedMethod],
    split: Split,
    failed: list[tuple[Method, str]],
    progress: ProgressCallback,
    by_head: dict[str, Classified] | None,
) -> list[PreparedMethod]:
    """Score ``split`` with methods that share what they compute of each row; return those that succeeded.

    Predicted classes of heads that are not in ``by_head`` are added to it.
    """
    scores: dict[int, list[Float64Array]] = {id(method): [] for method in group}
    predictions: dict[int, list[Classified]] = {id(method): [] for method in group}

    def prepare(method: PreparedMethod) -> None:
        if method.inputs is None:
            method.scorer  # noqa: B018 (fits the score)

    def score_whole(method: PreparedMethod) -> None:
        if method.inputs is not None:
            with metered(method.cost):
                scores[id(method)].append(method.inputs.scores(split, method.head, progress))

    working = _succeeding(group, failed, prepare)
    chunk = chunk_of(*(method.head for method in working))
    for start in range(0, len(split.labels), chunk):
        features = split.features[start : start + chunk]

        def score_chunk(method: PreparedMethod, features: FloatArray = features) -> None:
            if method.inputs is None:
                with metered(method.cost):
                    scores[id(method)].append(method.scorer(features))
                progress(len(features), f"{method.method} on {split.name}")
            if by_head is not None and method.head_key not in by_head:
                predictions[id(method)].append(classify_rows(method.head, features))

        working = _succeeding(working, failed, score_chunk)
    working = _succeeding(working, failed, score_whole)
    for method in working:
        method.scores[split.name] = np.concatenate(scores[id(method)])
        if by_head is not None and predictions[id(method)]:
            classes, confidences = zip(*predictions[id(method)], strict=True)
            by_head[method.head_key] = np.concatenate(classes), np.concatenate(confidences)
    return working


def _succeeding(
    methods: Sequence[PreparedMethod],
    failed: list[tuple[Method, str]],
    action: Callable[[PreparedMethod], None],
) -> list[PreparedMethod]:
    """Apply ``action`` to each method; return those that raise no LsnError, add the others to ``failed``."""
    succeeded = []
    for method in methods:
        try:
            action(method)
        except LsnError as error:
            failed.append((method.method, str(error)))
        else:
            succeeded.append(method)
    return succeeded


def _scores_key(method: PreparedMethod, split: Split) -> str:
    """Return the digest of all that the scores of ``split`` depend on; LsnError if an input is missing."""
    inputs = method.inputs.key(split) if method.inputs else ""
    return digest("scores", _code(), method.key, split.rows.content, inputs)


def _predictions_key(method: PreparedMethod, split: Split) -> str:
    return digest("guesses", _code(), method.head_key, split.rows.content)


def _code() -> str:
    """Return the digest of the code that scores a split; score, head and inputs have keys of their own."""
    return code_of(_run, without=(Heads, ExtraInput, Method, ResourceUse, metered))
