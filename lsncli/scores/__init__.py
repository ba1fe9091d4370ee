"""The scores, one file each, by name. To add one: a file here, a row in ``SCORES``, a test file.

Higher = more ID, always. A score is a frozen dataclass of settings (``score.Score``); ``ready`` fits one and
gives its function from raw features to scores, ``score_in_chunks`` applies that to any number of rows in
bounded memory.
"""

from dataclasses import fields
from numbers import Integral, Real
from typing import Any, cast, get_args, get_type_hints

import numpy as np

from lsncli.console import ProgressCallback, silent
from lsncli.errors import UsageError, expected_one_of
from lsncli.memory import InParts
from lsncli.registry import additions, load
from lsncli.scores.score import Score, Scorer
from lsncli.types import Float64Array, FloatArray, Head, Rows

__all__ = [
    "SCORES",
    "Score",
    "Scorer",
    "chunk_of",
    "forms_of",
    "load_score",
    "ready",
    "score_in_chunks",
    "score_settings",
]

SCORES = {
    "mcm": "lsncli.scores.mcm:Mcm",
    "msp": "lsncli.scores.msp:Msp",
    "maxlogit": "lsncli.scores.maxlogit:MaxLogit",
    "energy": "lsncli.scores.energy:Energy",
    "knn": "lsncli.scores.knn:Knn",
    "mincm": "lsncli.scores.mincm:MinCm",
    "lsn": "lsncli.scores.lsn:Lsn",
    "gradnorm": "lsncli.scores.gradnorm:GradNorm",
    "odin": "lsncli.scores.odin:Odin",
    "maxcosine": "lsncli.scores.maxcosine:MaxCosine",
    "react": "lsncli.scores.react:React",
    "dice": "lsncli.scores.dice:Dice",
    "ash": "lsncli.scores.ash:Ash",
    "line": "lsncli.scores.line:Line",
    "vim": "lsncli.scores.vim:Vim",
    "residual": "lsncli.scores.residual:Residual",
    "mahalanobis": "lsncli.scores.mahalanobis:Mahalanobis",
    "nnguide": "lsncli.scores.nnguide:NnGuide",
    "dualcoop": "lsncli.scores.dualcoop:DualCoOp",
    "clipn": "lsncli.scores.clipn:Clipn",
    "zoc": "lsncli.scores.zoc:Zoc",
    "vos": "lsncli.scores.vos:Vos",
    "npos": "lsncli.scores.npos:Npos",
    "rpl": "lsncli.scores.rpl:Rpl",
    "arpl": "lsncli.scores.arpl:Arpl",
    "neglabel": "lsncli.scores.neglabel:NegLabel",
    "eoe": "lsncli.scores.eoe:Eoe",
    "rmds": "lsncli.scores.rmds:Rmds",
    "proto": "lsncli.scores.proto:Proto",
    "gen": "lsncli.scores.gen:Gen",
    "fdbd": "lsncli.scores.fdbd:Fdbd",
    "she": "lsncli.scores.she:She",
    "klm": "lsncli.scores.klm:Klm",
    "nci": "lsncli.scores.nci:Nci",
    "scale": "lsncli.scores.scale:Scale",
    "vra": "lsncli.scores.vra:Vra",
    "ensemble": "lsncli.scores.ensemble:Ensemble",
}
SCORES |= additions("lsncli.scores", SCORES)


def load_score(name: str, **settings: object) -> Score:
    """Return the score ``name`` of ``SCORES`` with ``settings`` in place of its defaults.

    Raises UsageError for an unknown name (listing the names), and for an unknown setting, a wrong type
    or an invalid value (listing the settings).
    """
    kinds = score_settings(name)
    described = ", ".join(f"{key} ({_describe(kind)}, {default})" for key, (kind, default) in kinds.items())
    hint = f"Its settings and defaults: {described}." if kinds else "It has no settings."
    values: dict[str, object] = {}
    for key, value in settings.items():
        if key not in kinds:
            raise UsageError(f"The score '{name}' has no setting '{key}'.", hint)
        kind = kinds[key][0]
        if not _fits(kind, value):
            raise UsageError(
                f"The setting '{key}' of the score '{name}' must be {_describe(kind)}, found {value!r}.", hint
            )
        values[key] = kind(value) if kind in (float, int) else value
    return cast(Score, _class(name)(**values))


def score_settings(name: str) -> dict[str, tuple[Any, object]]:
    """Return each setting of the score ``name``: its type (float, int, str or a Literal) and its default."""
    cls = _class(name)
    hints = get_type_hints(cls)
    return {field.name: (hints[field.name], field.default) for field in fields(cls)}


def ready(score: Score, head: Head, train: Rows | None = None, device: str = "cpu") -> Scorer:
    """Fit ``score`` to ``train`` and return its scorer. Raises as ``fit`` and ``scorer``."""
    return score.scorer(head, score.fit(head, train, device), device)


def forms_of(name: str) -> tuple[str, ...]:
    """Return the values of the setting ``form`` of the score ``name``; empty for most scores."""
    kind, _ = score_settings(name).get("form", (None, None))
    return get_args(kind)


def score_in_chunks(
    scorer: Scorer, features: FloatArray, chunk: int = 8192, progress: ProgressCallback = silent
) -> Float64Array:
    """Return the scores (N,) of raw ``features`` (N, D), ``chunk`` rows at a time; ``progress`` counts rows.

    The default limits the logits of 1,000 classes to 64 MB whatever N is. Only ``len(features)`` and row
    slices are used, so a memory-mapped array or an HDF5 dataset is read in chunks.
    """
    if chunk < 1:
        raise UsageError(f"The chunk must be at least 1 row, found {chunk}.")
    scores, scorer = np.empty(len(features), dtype=np.float64), InParts(scorer)
    for start in range(0, len(scores), chunk):
        part = scores[start : start + chunk] = scorer(features[start : start + chunk])
        progress(len(part))
    return scores


def chunk_of(*heads: Head) -> int:
    """Return the chunk size for ``heads``: small where each row costs a text pass, to show progress."""
    return 64 if any(head.conditional for head in heads) else 8192


def _class(name: str) -> type[Any]:
    if name not in SCORES:
        raise UsageError(f"There is no score '{name}'.", expected_one_of(name, SCORES))
    return cast(type[Any], load(SCORES[name]))


def _fits(kind: Any, value: object) -> bool:
    if kind in (float, int):
        return isinstance(value, Real if kind is float else Integral) and not isinstance(value, bool)
    if kind is str:
        return isinstance(value, str)
    return value in get_args(kind)


def _describe(kind: Any) -> str:
    named = {float: "a number", int: "a whole number", str: "a name"}
    return named.get(kind) or " or ".join(map(repr, get_args(kind)))
