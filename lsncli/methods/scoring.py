"""Score a split with many methods: from the cache, or row by row with what they share computed once."""

from collections.abc import Callable, Sequence

import numpy as np

from lsncli.console import ProgressCallback
from lsncli.errors import LsnError
from lsncli.methods.cache import digest
from lsncli.methods.heads import Heads
from lsncli.methods.inputs import ExtraInput
from lsncli.methods.prepared import PreparedMethod, ResourceUse, metered
from lsncli.methods.source_digest import code_of
from lsncli.methods.spec import Method
from lsncli.scores import chunk_of
from lsncli.scores.common import predict
from lsncli.store.format import Split
from lsncli.types import Float64Array, FloatArray, Labels


def load_cached_scores(one: PreparedMethod, split: Split, *, classify: bool) -> None:
    """Look up the scores of ``split``, and with ``classify`` the predicted classes, in the cache.

    Raises LsnError if the method lacks what it looks at besides features.
    """
    known = one.cache.get(_scores_key(one, split))
    classes = one.cache.get(_predictions_key(one, split)) if classify else None
    if known and (classes or not classify):
        one.scores[split.name] = known[0]["scores"]
    if classes:
        one.predictions[split.name] = classes[0]["guesses"]


def score_split(
    methods: Sequence[PreparedMethod],
    split: Split,
    failed: list[tuple[Method, str]],
    progress: ProgressCallback,
    *,
    classify: bool,
) -> list[PreparedMethod]:
    """Score ``split`` with those that have not; returns those that could, the others are added to ``failed``.

    With ``classify`` classes are predicted, too. Methods go one after the other, but those whose prompts depend
    on the image together, a few rows at a time, so that an image is encoded once whatever their number.
    """
    todo = [one for one in methods if split.name not in one.scores]
    able = [one for one in methods if split.name in one.scores]
    # Which class is nearest depends on the head alone: the first method on a head tells the others.
    named = {one.head_key: one.predictions[split.name] for one in methods if split.name in one.predictions}
    groups = [[one] for one in todo if not one.conditional]
    for group in (*groups, [one for one in todo if one.conditional]):
        for one in _run(group, split, failed, progress, named if classify else None):
            about = {"what": f"{one.method} on {split.name}"}
            one.cache.put(_scores_key(one, split), {"scores": one.scores[split.name]}, about)
            able.append(one)
    if classify:
        for one in able:
            if split.name not in one.predictions:
                one.predictions[split.name] = named[one.head_key]
                one.cache.put(
                    _predictions_key(one, split), {"guesses": named[one.head_key]}, {"what": "classes"}
                )
    return [one for one in methods if one in able]


def _run(
    group: Sequence[PreparedMethod],
    split: Split,
    failed: list[tuple[Method, str]],
    progress: ProgressCallback,
    named: dict[str, Labels] | None,
) -> list[PreparedMethod]:
    """Score ``split`` with methods that share what they compute of each row; returns those that could.

    Predicted classes of heads that ``named`` has not yet are added to it.
    """
    scores: dict[int, list[Float64Array]] = {id(one): [] for one in group}
    predictions: dict[int, list[Labels]] = {id(one): [] for one in group}
    able = [one for one in group if _can(one, failed, lambda one: one.inputs or one.scorer)]
    chunk = chunk_of(*(one.head for one in able))
    for start in range(0, len(split.labels), chunk):
        part = split.features[start : start + chunk]

        def score(one: PreparedMethod, part: FloatArray = part) -> None:
            if one.inputs is None:
                with metered(one.cost):
                    scores[id(one)].append(one.scorer(part))
                progress(len(part), f"{one.method} on {split.name}")
            if named is not None and one.head_key not in named:
                predictions[id(one)].append(predict(one.head, part))

        able = [one for one in able if _can(one, failed, score)]

    def score_whole(one: PreparedMethod) -> None:
        if one.inputs is not None:
            with metered(one.cost):
                scores[id(one)].append(one.inputs.scores(split, one.head, progress))

    able = [one for one in able if _can(one, failed, score_whole)]
    for one in able:
        one.scores[split.name] = np.concatenate(scores[id(one)])
        if named is not None and predictions[id(one)]:
            named[one.head_key] = np.concatenate(predictions[id(one)])
    return able


def _can(
    one: PreparedMethod, failed: list[tuple[Method, str]], act: Callable[[PreparedMethod], object]
) -> bool:
    try:
        act(one)
    except LsnError as error:
        failed.append((one.method, str(error)))
        return False
    return True


def _scores_key(one: PreparedMethod, split: Split) -> str:
    """Digest of all that the scores of ``split`` depend on. Raises LsnError if an input is missing."""
    inputs = one.inputs.key(split) if one.inputs else ""
    return digest("scores", _code(), one.key, split.rows.content, inputs)


def _predictions_key(one: PreparedMethod, split: Split) -> str:
    return digest("guesses", _code(), one.head_key, split.rows.content)


def _code() -> str:
    """Digest of how a split is scored; the score, the head and the inputs have keys of their own."""
    return code_of(_run, without=(Heads, ExtraInput, Method, ResourceUse, metered))
