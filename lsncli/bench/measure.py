"""Measure one row of a table on one split: score, compute metrics, and record them with their provenance."""

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
from lsncli.methods.bound_text import RecentCosines
from lsncli.methods.cache import Cache
from lsncli.methods.candidates import TOP, WordFeatures, propose
from lsncli.methods.heads import Heads, LoadBackbone
from lsncli.methods.inputs import NO_IMAGES
from lsncli.methods.prepared import prepare_method
from lsncli.methods.scoring import load_cached_scores
from lsncli.store.reader import read_fingerprint, read_split
from lsncli.validation import parse_json

RECENT = RecentCosines()
"""Shared by the rows of a table: "CoCoOp" and "CoCoOp + LSN" have the same positive prompts."""


def write_candidates(score: ScoreJob, heads: Heads, progress: ProgressCallback = silent) -> None:
    """Write the candidates of every set of ``score`` that has none yet, chosen from its word list.

    ``heads`` are bound to that word list. ``progress`` counts images. Raises as ``propose`` does.
    """
    missing = [name for name in score.split.tested if not heads.work.candidates(name).is_file()]
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
    """Return the records of ``score`` for the OOD sets ``names`` of its split; metrics are fractions.

    ``about`` goes into each record. Prompts and heads must have been learned. ``progress`` counts scored
    rows. Raises LsnError if the method cannot be measured.
    """
    began = time.perf_counter()
    evaluation, heads = score_splits(score, names, work, task, model, device=device, progress=progress)
    prepared = evaluation.methods[0]
    common = {
        **about,
        "row": score.row.name,
        "id": score.split.id,
        "train_set": score.split.train.image_set if score.split.train else "",
        "test_set": score.split.test.image_set,
        "split": score.split.number,
        "seed": score.seed,
        "method": str(score.method),
        "settings": prepared.resolved.settings,
        "vocabulary": Path(score.row.vocabulary).name,
        "learned": {
            kind: {"key": key, **_training_facts(heads, kind)} for kind, (_, key) in score.learned.items()
        },
        "classes": len(task.train.classes),
        "train_rows": 0 if prepared.train is None else len(prepared.train),
        "model": str(read_fingerprint(work.features)),
        "fingerprint": score.store.fingerprint,
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
            "ood_set": score.split.ood[name].image_set,
            **numbers,
        }
        for name, numbers in result_numbers(evaluation, task, names).items()
    ]


def score_splits(
    score: ScoreJob,
    names: Sequence[str],
    work: RowWorkspace,
    task: EvalTask,
    model: LoadBackbone,
    *,
    device: str = "cpu",
    progress: ProgressCallback = silent,
) -> tuple[Evaluation, Heads]:
    """Evaluate the method of ``score`` on the OOD sets ``names``; return the evaluation and the heads.

    Scores are cached. Raises as ``measure`` does.
    """
    files = {kind: learned_file(work, key) for kind, (_, key) in score.learned.items()}
    row_work = replace(work, files=files, words=score.word_list)
    rows = task.rows(score.row.shots, score.seed).train if score.row.fits_rows else task.train.rows
    heads = Heads(row_work, task.train.classes, model, Cache(work.cache), rows, RECENT)
    if score.words:
        write_candidates(score, heads, progress)
    prepared = prepare_method(score.method, heads, rows, task.train, heads.cache, device, NO_IMAGES)
    splits = (task.test, *(task.ood[name] for name in names))
    for split in splits:
        load_cached_scores(prepared, split, classify=split is task.test)
    evaluation = evaluate(EvaluationPlan((prepared,), (), task.test, splits[1:]), progress)
    if evaluation.failed:
        raise LsnError(evaluation.failed[0][1])
    return evaluation, heads


def _training_facts(heads: Heads, kind: str) -> dict[str, Any]:
    """Settings and last loss of learned prompts."""
    if kind == "positive":
        return {"settings": heads.positive.settings, "loss": heads.positive.history[-1]}
    if kind == "negative":
        return {"settings": heads.negative.settings, "loss": heads.negative.history[-1]}
    return {}


def result_numbers(evaluation: Evaluation, task: EvalTask, names: Sequence[str]) -> dict[str, Record]:
    """Return the metrics for the OOD sets ``names`` as fractions, with the numbers of images."""
    by_split = {result.ood: result for result in evaluation.results if result.ood != AVERAGE}
    numbers = {}
    for name in names:
        result = by_split[task.ood[name].name]
        accuracy = result.id_accuracy
        numbers[name] = {
            **{metric: getattr(result.metrics, metric) for metric in METRICS},
            "id_accuracy": None if math.isnan(accuracy) else accuracy,
            "n_id": result.metrics.n_id,
            "n_ood": result.metrics.n_ood,
        }
    return numbers
