"""Measure one row of a table on one split: score, compute metrics, and record them with their provenance.

Words for every image of a row's sets are chosen from a word list once for a set, before it is scored.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from lsncli import __version__
from lsncli.bench.jobs import ScoreJob
from lsncli.bench.results import Record
from lsncli.bench.suite_workspace import RowWorkspace, learned_file
from lsncli.bench.tasks import EvalTask
from lsncli.console import ProgressCallback, silent
from lsncli.errors import LsnError
from lsncli.evaluation.evaluate import AVERAGE, Evaluation, EvaluationPlan, evaluate
from lsncli.intervals import METRICS
from lsncli.methods.cache import Cache
from lsncli.methods.candidates import TOP, WordFeatures, propose
from lsncli.methods.heads import Heads, LoadBackbone
from lsncli.methods.inputs import NO_IMAGES
from lsncli.methods.prepared import prepare_method
from lsncli.methods.scoring import load_cached_scores
from lsncli.store.reader import read_fingerprint, read_split
from lsncli.validation import parse_json


def lay_out_words(score: ScoreJob, heads: Heads, progress: ProgressCallback = silent) -> None:
    """Write the candidates of every set that ``score`` looks at and that has none yet.

    ``heads`` are bound to the word list of the score. ``progress`` counts images. Raises as ``propose`` does.
    """
    missing = [name for name in score.place.tested if not heads.work.candidates(name).is_file()]
    if not missing:
        return
    features = WordFeatures(heads.tower)
    for name in missing:
        propose(heads.work, read_split(heads.work.features, name), score.words, features, TOP, progress)


@cache
def revision() -> str:
    """Return the git commit that this package was installed from, as pip recorded it; empty for none."""
    try:
        record = distribution("lsncli").read_text("direct_url.json")
        return str(parse_json(record or "{}").get("vcs_info", {}).get("commit_id", ""))
    except (PackageNotFoundError, ValueError, AttributeError):
        return ""


def measure(
    score: ScoreJob,
    names: Sequence[str],
    work: RowWorkspace,
    task: EvalTask,
    model: LoadBackbone,
    *,
    about: Mapping[str, Any],
    device: str = "cpu",
    progress: ProgressCallback = silent,
) -> list[Record]:
    """Records of ``score`` on the OOD sets ``names`` of its place, metrics as fractions.

    ``about`` goes into each. What the line learns must have been learned. ``progress`` counts rows scored.
    Raises LsnError if the method cannot be measured here.
    """
    began = time.perf_counter()
    found, heads = scored(score, names, work, task, model, device=device, progress=progress)
    one = found.methods[0]
    common = {
        **about,
        "row": score.line.name,
        "id": score.place.id,
        "train_set": score.place.train.image_set if score.place.train else "",
        "test_set": score.place.test.image_set,
        "split": score.place.split,
        "seed": score.seed,
        "method": str(score.method),
        "settings": one.resolved.settings,
        "vocabulary": Path(score.line.vocabulary).name,
        "learned": {
            kind: {"key": key, **_described(heads, kind)} for kind, (_, key) in score.learned.items()
        },
        "classes": len(task.train.classes),
        "train_rows": 0 if one.train is None else len(one.train),
        "model": str(read_fingerprint(work.features)),
        "fingerprint": score.there.fingerprint,
        "device": device,
        "lsn": __version__,
        "revision": revision(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(time.perf_counter() - began, 3),
    }
    return [
        {
            **common,
            "key": score.keys[name],
            "ood": name,
            "ood_set": score.place.ood[name].image_set,
            **numbers,
        }
        for name, numbers in numbers_of(found, task, names).items()
    ]


def scored(
    score: ScoreJob,
    names: Sequence[str],
    work: RowWorkspace,
    task: EvalTask,
    model: LoadBackbone,
    *,
    device: str = "cpu",
    progress: ProgressCallback = silent,
) -> tuple[Evaluation, Heads]:
    """The evaluation of the one method of ``score`` on the OOD sets ``names``, and the heads it stands on.

    Scores that were computed before come from the cache. Raises as ``measure`` does.
    """
    files = {kind: learned_file(work, key) for kind, (_, key) in score.learned.items()}
    place = replace(work, files=files, words=score.word_list)
    rows = task.rows(score.line.shots, score.seed).train if score.line.looks_at_rows else task.train.rows
    heads = Heads(place, task.train.classes, model, Cache(work.cache), rows)
    if score.words:
        lay_out_words(score, heads, progress)
    one = prepare_method(score.method, heads, rows, task.train, heads.cache, device, NO_IMAGES)
    splits = (task.test, *(task.ood[name] for name in names))
    for split in splits:
        load_cached_scores(one, split, classify=split is task.test)
    found = evaluate(EvaluationPlan((one,), (), task.test, splits[1:]), progress)
    if found.failed:
        raise LsnError(found.failed[0][1])
    return found, heads


def _described(heads: Heads, kind: str) -> dict[str, Any]:
    """The settings of what was learned, and how its training went."""
    if kind == "positive":
        return {"settings": heads.positive.settings, "loss": heads.positive.history[-1]}
    if kind == "negative":
        return {"settings": heads.negative.settings, "loss": heads.negative.history[-1]}
    return {}


def numbers_of(found: Evaluation, task: EvalTask, names: Sequence[str]) -> dict[str, Record]:
    by_split = {one.ood: one for one in found.results if one.ood != AVERAGE}
    numbers = {}
    for name in names:
        one = by_split[task.ood[name].name]
        accuracy = one.id_accuracy
        numbers[name] = {
            **{metric: getattr(one.metrics, metric) for metric in METRICS},
            "id_accuracy": None if math.isnan(accuracy) else accuracy,
            "n_id": one.metrics.n_id,
            "n_ood": one.metrics.n_ood,
        }
    return numbers
