"""Many methods on many splits: the numbers are those of the definitions, and one failure stops nothing."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from workspace_samples import CLASSES, NEG, POS, clusters, workspace

from lsncli.detection.calibrate import known_rows
from lsncli.errors import LsnError, UsageError
from lsncli.evaluation.evaluate import (
    all_methods,
    choose_splits,
    default_methods,
    evaluate,
    id_accuracy,
    plan_evaluation,
)
from lsncli.methods.heads import make_head
from lsncli.methods.spec import parse_method
from lsncli.methods.workspace import Workspace
from lsncli.metrics import evaluate_scores
from lsncli.scores import SCORES, load_score
from lsncli.store.reader import read_split
from lsncli.store.writer import write_split
from lsncli.training import prompts as train
from lsncli.types import unit


@pytest.fixture(scope="module")
def work(tmp_path_factory, tiny_backbone) -> Workspace:
    made = workspace(tmp_path_factory.mktemp("work"), tiny_backbone.fingerprint)
    train.train_prompts(made, tiny_backbone, train.plan_positive(made), POS)
    train.train_prompts(made, tiny_backbone, train.plan_negative(made), replace(NEG, epochs=1, sets=2))
    return made


@pytest.fixture
def bare(tmp_path: Path, tiny_backbone) -> Workspace:
    return workspace(tmp_path, tiny_backbone.fingerprint)


def plan(work: Workspace, methods: list[str], inside, outside, train_split: str | None = "train", **options):
    chosen = [parse_method(text) for text in methods]
    return plan_evaluation(work, chosen, inside, outside, train_split, **{"keep": False} | options)


def run(work: Workspace, *methods: str, ood: tuple[str, ...] = (), train_split: str | None = None):
    inside, outside = choose_splits(work, "test", ood, train_split)
    return evaluate(plan(work, [*methods], inside, outside, train_split))


def cosines(features, text) -> list[list[float]]:
    def length(v) -> float:
        return math.sqrt(math.fsum(x * x for x in v))

    return [
        [math.fsum(a * b for a, b in zip(x, t, strict=True)) / length(x) / length(t) for t in text.tolist()]
        for x in features.astype(float).tolist()
    ]


def mcm(rows: list[list[float]]) -> list[float]:
    return [max(map(math.exp, row)) / math.fsum(map(math.exp, row)) for row in rows]


def test_mcm_by_hand(work: Workspace) -> None:
    found = run(work, "mcm", ood=("far",)).results
    assert len(found) == 1  # one OOD split has no average
    text = make_head(work, "hand", CLASSES, negatives=False).weights
    test, far = read_split(work.features, "test"), read_split(work.features, "far")
    inside, outside = mcm(cosines(test.features, text)), mcm(cosines(far.features, text))
    metrics = found[0].metrics
    assert (metrics.n_id, metrics.n_ood) == (21, 12)
    wins = sum((i > o) + 0.5 * (i == o) for i in inside for o in outside)
    assert metrics.auroc == pytest.approx(wins / (21 * 12), abs=1e-12)
    # 20 of 21 kept is nearest to 95 %: the threshold that accepts the most OOD lies just above the lowest.
    lowest = min(inside)
    assert metrics.fpr95 == pytest.approx(sum(o > lowest for o in outside) / 12)
    expected = evaluate_scores(np.array(inside), np.array(outside))
    for field in ("fpr95_ood", "aupr_in", "aupr_out"):
        assert getattr(metrics, field) == pytest.approx(getattr(expected, field))
    guesses = [row.index(max(row)) for row in cosines(test.features, text)]
    right = sum(guess == label for guess, label in zip(guesses, test.labels, strict=True))
    assert found[0].id_accuracy == pytest.approx(right / 21)


def test_the_average_is_the_plain_mean_over_ood_splits(work: Workspace) -> None:
    results = run(work, "mcm", "lsn").results
    assert [(r.label, r.ood) for r in results] == [
        (label, ood) for label in ("MCM", "CoOp + LSN") for ood in ("far", "near", "average")
    ]
    far, near, mean = (result.metrics for result in results[:3])
    for field in ("fpr95", "fpr95_ood", "auroc", "aupr_in", "aupr_out"):
        assert getattr(mean, field) == pytest.approx((getattr(far, field) + getattr(near, field)) / 2)
    assert (mean.n_id, mean.n_ood) == (21, 12 + 9)
    assert results[2].id_accuracy == results[0].id_accuracy


def test_a_method_that_fails_is_reported_and_the_others_go_on(bare: Workspace) -> None:
    ticks: list[tuple[int, str]] = []
    inside, outside = choose_splits(bare, "test", (), "train")
    methods = ["lsn", "mcm", "knn", "mcm:positive", "energy"]
    made = plan(bare, methods, inside, outside)
    assert made.rows == 3 * (21 + 12 + 9)  # of KNN it shows only when it is fitted
    found = evaluate(made, progress=lambda n, note="": ticks.append((n, note)))
    assert {result.label for result in found.results} == {"MCM", "energy"}
    reasons = {str(method): reason for method, reason in found.failed}
    assert "no negative-prompts artefact" in reasons["lsn"]
    assert "lsn train-neg" in reasons["lsn"]
    assert "k = 50 neighbours among only 24 training rows" in reasons["knn"]
    assert "no positive-prompts artefact" in reasons["mcm:positive"]
    assert ticks == [
        (rows, f"{method} on {split}")
        for split, rows in (("test", 21), ("far", 12), ("near", 9))
        for method in ("mcm", "energy")
    ]


def test_a_method_that_fails_half_way_is_reported_and_the_others_go_on(work: Workspace) -> None:
    inside, outside = choose_splits(work, "test", ("far", "near"), "train")
    broken = outside[1].features.copy()
    broken[3] = np.nan
    near = replace(outside[1], features=broken)
    found = evaluate(plan(work, ["mcm"], inside, [outside[0], near]))
    assert found.results == ()
    ((method, reason),) = found.failed
    assert (str(method), "1 of 9 feature rows" in reason) == ("mcm", True)


def test_what_is_compared_by_default_depends_on_what_was_learned(work, bare) -> None:
    assert default_methods(bare) == ["mcm", "msp", "maxlogit", "energy", "knn"]
    assert default_methods(work)[:3] == ["mcm", "mcm:positive", "lsn"]


def test_knn_never_sees_the_rows_held_out(work: Workspace) -> None:
    bank = unit(known_rows(work, read_split(work.features, "train")).train.features)
    assert len(bank) == 24

    def third_nearest(name: str) -> np.ndarray:
        rows = unit(read_split(work.features, name).features)
        return np.array([-sorted(math.dist(row, other) for other in bank)[2] for row in rows])

    expected = evaluate_scores(third_nearest("test"), third_nearest("far"))
    found = run(work, "knn,k=3", ood=("far",)).results[0].metrics
    assert found.auroc == pytest.approx(expected.auroc)
    assert found.fpr95 == pytest.approx(expected.fpr95)


def test_accuracy_follows_names_not_numbers(work: Workspace) -> None:
    inside, outside = choose_splits(work, "test", ("far",), "train")
    order = [2, 0, 1]  # the same rows, in a split that numbers its classes otherwise
    turned = replace(
        inside,
        classes=tuple(CLASSES[i] for i in order),
        labels=np.array([order.index(label) for label in inside.labels], np.int32),
    )
    accuracies = [
        evaluate(plan(work, ["mcm"], one, outside)).results[0].id_accuracy for one in (inside, turned)
    ]
    assert accuracies[0] == accuracies[1]


def test_accuracy_counts_labelled_rows_alone() -> None:
    guesses = np.array([0, 1, 1, 2], np.int32)
    assert id_accuracy(np.array([0, 2, 1, -1], np.int32), guesses) == pytest.approx(2 / 3)
    assert math.isnan(id_accuracy(np.full(4, -1, np.int32), guesses))


def test_an_id_split_of_other_classes_is_refused(bare: Workspace, tiny_backbone) -> None:
    strange = replace(clusters("strange", 9), classes=("cat", "fox", "owl"))
    write_split(bare.features, strange, tiny_backbone.fingerprint, replace=True)
    inside, outside = choose_splits(bare, "strange", ("far",), "train")
    with pytest.raises(LsnError, match="'strange' has 2 classes that the prompts do not know, such as 'fox'"):
        plan(bare, ["mcm"], inside, outside)
    # As an OOD split its classes do not matter.
    assert run(bare, "mcm", ood=("strange",)).results[0].metrics.n_ood == 9


def test_an_empty_split_is_named(bare: Workspace, tiny_backbone) -> None:
    write_split(bare.features, clusters("none", 0, labelled=False), tiny_backbone.fingerprint)
    with pytest.raises(LsnError, match="Split 'none' has no rows"):
        run(bare, "mcm", ood=("none",))


@pytest.fixture
def no_train(tmp_path: Path, tiny_backbone) -> Workspace:
    """The same ID and OOD splits, and no training split."""
    made = Workspace(tmp_path / "no-train")
    made.folder.mkdir()
    for split in (
        clusters("test", 21, seed=1),
        clusters("far", 12, seed=2, labelled=False, shift=1.0),
    ):
        write_split(made.features, split, tiny_backbone.fingerprint)
    return made


def test_without_a_training_split_only_scores_that_learn_from_rows_fail(no_train, bare) -> None:
    alone = [
        name for name in SCORES if load_score(name).NEEDS.isdisjoint({"negative", "candidates", "words"})
    ]
    found, usual = (run(place, *alone, ood=("far",)) for place in (no_train, bare))
    learners = {name for name in alone if parse_method(name).learns_from_rows}
    assert {"knn", "mahalanobis", "vim"} <= learners
    assert {"mcm", "energy", "ash"} <= set(alone) - learners
    assert {method.score for method, _ in found.failed} == learners
    for method, reason in found.failed:
        assert reason.startswith(
            f"The score '{method.score}' needs training rows, and the store has no split"
        )
        assert "--train" in reason
        assert "lsn store import" in reason
    expected = {one.label: one.metrics for one in usual.results}
    assert {one.label for one in found.results} == expected.keys() - {
        one.label for one in usual.results if one.method.learns_from_rows
    }
    for one in found.results:
        assert one.metrics == expected[one.label]
    assert "knn" not in default_methods(no_train, rows=False)
    assert not [name for name in all_methods(no_train, rows=False) if parse_method(name).learns_from_rows]


def test_a_training_split_that_is_named_must_be_there(no_train: Workspace) -> None:
    with pytest.raises(LsnError, match="no split 'train'; there are: far, test"):
        run(no_train, "mcm", train_split="train")


@pytest.mark.parametrize("train_split", ["test", "near"])
def test_no_score_is_tested_on_rows_that_it_learns_from(bare, tiny_backbone, train_split: str) -> None:
    labelled = clusters("near", 9, seed=3, shift=0.5)
    write_split(bare.features, labelled, tiny_backbone.fingerprint, replace=True)
    with pytest.raises(
        UsageError, match=f"--train {train_split}: knn, mahalanobis would be tested on"
    ) as caught:
        run(bare, "mcm", "knn", "mahalanobis", ood=("near",), train_split=train_split)
    assert caught.value.exit_code == 2
    (row,) = run(bare, "mcm", ood=("near",), train_split=train_split).results
    assert row.metrics == run(bare, "mcm", ood=("near",)).results[0].metrics


def test_prompts_that_learned_from_a_tested_split_are_named(bare, work, tiny_backbone) -> None:
    train.train_prompts(
        bare, tiny_backbone, train.plan_positive(bare, split_name="test"), replace(POS, epochs=1)
    )
    inside, outside = choose_splits(bare, "test", ("far",), None)
    doubts = plan(bare, ["mcm", "mcm:positive"], inside, outside, None).doubts
    assert len(doubts) == 1
    assert doubts[0].startswith("mcm:positive is tested on split 'test', which its prompts")
    assert plan(work, ["mcm:positive", "lsn"], *choose_splits(work, "test", (), None), None).doubts == ()


def test_the_training_split_must_have_classes(bare: Workspace) -> None:
    with pytest.raises(LsnError, match="Split 'far' has no classes") as caught:
        run(bare, "mcm", train_split="far")
    assert "--train" in caught.value.hint


def test_splits_are_chosen_and_misnamed_ones_explained(bare: Workspace, tmp_path, tiny_backbone) -> None:
    inside, outside = choose_splits(bare, "test", (), "train")
    assert (inside.name, [split.name for split in outside]) == ("test", ["far", "near"])
    assert [split.name for split in choose_splits(bare, "test", ("near",), "train")[1]] == ["near"]
    twice = choose_splits(bare, "test", ("near", "far", "near"), "train")[1]
    assert [split.name for split in twice] == ["near", "far"]  # or the average would count one double
    with pytest.raises(LsnError, match="no split 'nope'; there are: far, near, test, train"):
        choose_splits(bare, "test", ("nope",), "train")
    with pytest.raises(UsageError, match="--ood: expected splits other than 'test', found test"):
        choose_splits(bare, "test", ("test",), "train")
    lonely = Workspace(tmp_path / "lonely")
    lonely.folder.mkdir()
    write_split(lonely.features, clusters("test"), tiny_backbone.fingerprint)
    with pytest.raises(UsageError, match="found none") as caught:
        choose_splits(lonely, "test", (), "train")
    assert "lsn extract" in caught.value.hint
