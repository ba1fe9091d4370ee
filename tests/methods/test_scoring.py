"""Scores are kept by content: a second evaluation computes nothing, what changed is computed again."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cocoop_samples import no_model
from workspace_samples import CLASSES, clusters, workspace

from lsncli.artefacts.heads import LearnedHead, load_head, save_head
from lsncli.errors import LsnError, UsageError
from lsncli.evaluation.evaluate import (
    AVERAGE,
    all_methods,
    choose_splits,
    evaluate,
    intervals_of,
    plan_evaluation,
)
from lsncli.evaluation.score_files import check_target, save_scores
from lsncli.intervals import bootstrap, delong
from lsncli.methods.cache import Cache, digest
from lsncli.methods.spec import parse_method
from lsncli.methods.workspace import Workspace
from lsncli.scores import SCORES, load_score
from lsncli.store.reader import read_fingerprint, read_split
from lsncli.store.writer import write_split
from lsncli.types import unit

METHODS = ("mcm", "knn,k=3", "energy", "mcm:linear")


@pytest.fixture
def work(tmp_path: Path, tiny_backbone) -> Workspace:
    made = workspace(tmp_path / "work", tiny_backbone.fingerprint)
    random = np.random.default_rng(3)
    head = LearnedHead(
        kind="linear",
        fingerprint=read_fingerprint(made.features),
        classes=CLASSES,
        scale=1.0,
        weights=random.normal(size=(3, 32)),
        bias=random.normal(size=3),
        settings={},
    )
    save_head(made.head("linear"), head)
    return made


def plan(work: Workspace, *methods: str, model=None, **options):
    inside, outside = choose_splits(work, "test", (), "train")
    chosen = [parse_method(text) for text in methods]
    return plan_evaluation(work, chosen, inside, outside, "train", model=model or no_model, **options)


@pytest.fixture
def first(work: Workspace, tiny_backbone):
    return evaluate(plan(work, *METHODS, model=lambda: tiny_backbone))


def test_a_second_run_scores_nothing_asks_for_no_model_and_says_the_same(work, first) -> None:
    ticks: list[int] = []
    again = plan(work, *METHODS)
    assert again.rows == 0
    found = evaluate(again, progress=lambda n, note="": ticks.append(n))
    assert ticks == []
    assert [(one.label, one.ood, one.metrics, one.id_accuracy) for one in found.results] == [
        (one.label, one.ood, one.metrics, one.id_accuracy) for one in first.results
    ]
    assert all(one.cost.seconds == 0 for one in found.results)


def test_without_the_cache_everything_is_scored_again(work, first, tiny_backbone) -> None:
    fresh = plan(work, *METHODS, model=lambda: tiny_backbone, keep=False)
    assert fresh.rows == 4 * (21 + 12 + 9)
    for one, other in zip(evaluate(fresh).results, first.results, strict=True):
        assert one.metrics == other.metrics


def test_only_what_changed_is_scored_again(work, first, tiny_backbone) -> None:
    write_split(
        work.features, clusters("near", 9, seed=8, labelled=False), tiny_backbone.fingerprint, replace=True
    )
    assert plan(work, *METHODS).rows == 4 * 9
    assert plan(work, *METHODS, "knn,k=4").rows == 4 * 9 + 21 + 12 + 9
    write_split(work.features, clusters("train", seed=9), tiny_backbone.fingerprint, replace=True)
    later = plan(work, *METHODS)
    assert later.rows == 3 * 9 + 21 + 12 + 9  # KNN's bank is another
    save_head(work.head("linear"), replace(_linear(work), bias=np.zeros(3)))
    assert plan(work, *METHODS).rows == later.rows + 21 + 12


def test_a_changed_score_is_computed_again(work, first, monkeypatch) -> None:
    monkeypatch.setattr("lsncli.methods.prepared.code_of", lambda name: "another version")
    assert plan(work, *METHODS).rows == 4 * (21 + 12 + 9)


def test_a_damaged_entry_is_computed_again(work, first, tiny_backbone) -> None:
    entries = sorted(work.cache.iterdir())
    assert len(entries) == 4 * 3 + 2 + 1  # scores; classes of two heads on the ID split; text features
    for path in entries:
        path.write_bytes(b"not safetensors")
    found = plan(work, "knn,k=3", "mcm:linear", model=lambda: tiny_backbone)
    assert found.rows == 2 * (21 + 12 + 9)


def test_a_linear_head_scores_by_its_own_logits(work, first) -> None:
    linear = _linear(work)
    rows = unit(read_split(work.features, "test").features)
    logits = rows @ linear.weights.T + linear.bias
    expected = (np.exp(logits - logits.max(1, keepdims=True))).sum(1) ** -1.0
    (one,) = [one for one in first.methods if one.method.head == "linear"]
    np.testing.assert_allclose(one.scores["test"], expected, rtol=1e-12)
    labels = read_split(work.features, "test").labels
    (result, *_) = [result for result in first.results if result.method.head == "linear"]
    assert result.id_accuracy == np.mean(logits.argmax(1) == labels)


def test_all_is_every_score_that_the_store_is_enough_for(work, tiny_backbone) -> None:
    names = all_methods(work)
    scores = {parse_method(name).score for name in names}
    for name in SCORES:
        score = load_score(name)
        possible = score.NEEDS.isdisjoint({"negative", "pixels", "candidates"}) and not score.HEAD
        assert (name in scores) == possible
    assert {"ash,form=p", "ash,form=b", "ash,form=s", "msp:linear"} <= set(names)


def test_saved_scores_are_those_of_every_row(work, first, tmp_path) -> None:
    splits = [read_split(work.features, name) for name in ("test", "far", "near")]
    save_scores(tmp_path / "out" / "scores.csv", first.methods, splits)
    save_scores(tmp_path / "scores.npz", first.methods, splits)
    with (tmp_path / "out" / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    arrays = np.load(tmp_path / "scores.npz")
    assert len(rows) == 21 + 12 + 9
    assert [row["key"] for row in rows] == [key.decode() for key in arrays["key"]]
    assert rows[0]["class"] == "cat"
    assert rows[-1]["class"] == ""
    for one in first.methods:
        whole = np.concatenate([one.scores[split.name] for split in splits])
        assert [float(row[str(one.method)]) for row in rows] == whole.tolist()
        assert np.array_equal(arrays[str(one.method)], whole)


def test_scores_go_only_into_files_of_a_known_form(tmp_path) -> None:
    with pytest.raises(UsageError, match=r"expected a file named \*.csv or \*.npz"):
        check_target(tmp_path / "scores.xlsx")
    (tmp_path / "taken.csv").mkdir()
    with pytest.raises(LsnError, match="cannot be written: Is a directory"):
        save_scores(tmp_path / "taken.csv", [], [])


def test_intervals_are_those_of_the_scores_and_none_of_an_average(first) -> None:
    result = first.results[0]
    scores = first.methods[0].scores
    assert intervals_of(first, result, None) == {}
    assert intervals_of(first, result, "delong") == {"auroc": delong(scores["test"], scores["far"])}
    assert intervals_of(first, result, "bootstrap") == bootstrap(scores["test"], scores["far"])
    (average, *_) = [one for one in first.results if one.ood == AVERAGE]
    assert intervals_of(first, average, "delong") == {}


def test_digests_tell_type_shape_and_content_apart() -> None:
    zeros = np.zeros((2, 3), np.float32)
    others = [zeros.astype(np.float64), zeros.T, zeros.ravel(), zeros + 1, "zeros", None, {"a": zeros}]
    assert len({digest(part) for part in [zeros, *others]}) == 8
    assert digest({"a": 1, "b": zeros}) == digest({"b": zeros.copy(), "a": 1})
    assert digest("a", "b") != digest("ab")


def test_a_cache_without_a_folder_keeps_nothing(tmp_path) -> None:
    Cache(None).put("key", {"a": np.zeros(1)}, {})
    assert Cache(None).get("key") is None
    Cache(tmp_path).put("key", {"a": np.arange(3)}, {"b": [1]})
    arrays, fields = Cache(tmp_path).get("key")
    assert arrays["a"].tolist() == [0, 1, 2]
    assert fields == {"b": [1]}
    assert Cache(tmp_path).get("other") is None


def _linear(work: Workspace) -> LearnedHead:
    return load_head(work.head("linear"), "linear")
