"""Methods against one of them, groups of OOD splits, and measures of the predicted classes."""

from dataclasses import replace

import numpy as np
import pytest
from cocoop_samples import no_model
from workspace_samples import workspace

from lsncli.comparison import bootstrap_difference, holm, paired_bootstrap
from lsncli.errors import LsnError, UsageError
from lsncli.evaluation.differences import baseline_of, compare
from lsncli.evaluation.evaluate import (
    check_groups,
    choose_splits,
    evaluate,
    plan_evaluation,
)
from lsncli.intervals import delong_difference
from lsncli.methods.heads import make_head
from lsncli.methods.spec import parse_method
from lsncli.methods.workspace import Workspace
from lsncli.open_set import auoscr, aurc, ece
from lsncli.store.reader import read_split

METHODS = ("energy", "mcm", "knn,k=3", "energy:means")
SPLITS = ["far", "near"]
GROUPS = {"hard": ["near"], "all": ["near", "far"]}
REPEATS = 40


@pytest.fixture(scope="module")
def work(tmp_path_factory, tiny_backbone) -> Workspace:
    return workspace(tmp_path_factory.mktemp("work"), tiny_backbone.fingerprint)


def run(work: Workspace, *methods: str, backbone=None, groups=GROUPS, change=lambda split: split):
    inside, outside = choose_splits(work, "test", (), "train")
    plan = plan_evaluation(
        work,
        [parse_method(name) for name in methods],
        change(inside),
        outside,
        "train",
        model=(lambda: backbone) if backbone else no_model,
    )
    return evaluate(plan, groups=groups)


@pytest.fixture(scope="module")
def evaluation(work, tiny_backbone):
    return run(work, *METHODS, backbone=tiny_backbone)


def test_the_rows_of_groups_are_means_and_come_before_the_average(evaluation) -> None:
    assert [one.ood for one in evaluation.results[:5]] == [
        "far",
        "near",
        "hard (mean)",
        "all (mean)",
        "average",
    ]
    far, near, hard, both, average = evaluation.results[:5]
    assert hard.metrics == near.metrics
    assert hard.open_set == near.open_set
    for found in (both, average):
        for field in ("fpr95", "fpr95_ood", "auroc", "aupr_in", "aupr_out"):
            mean = (getattr(far.metrics, field) + getattr(near.metrics, field)) / 2
            assert getattr(found.metrics, field) == pytest.approx(mean)
        for field in ("auoscr", "aurc", "aurc_ood", "ece"):
            mean = (getattr(far.open_set, field) + getattr(near.open_set, field)) / 2
            assert getattr(found.open_set, field) == pytest.approx(mean)
        assert found.metrics.n_ood == 12 + 9
        assert found.open_set.n_labelled == 21


@pytest.mark.parametrize("members", [["far", "nowhere"], ["far", "far"], ["test"]])
def test_a_group_of_other_splits_is_refused(work, members) -> None:
    _, outside = choose_splits(work, "test", (), "train")
    with pytest.raises(UsageError, match="--group mine: expected different OOD splits") as caught:
        check_groups({"mine": members}, outside)
    assert "The OOD splits are far, near." in str(caught.value)


def test_differences_are_delongs_on_one_split_and_of_the_bootstrap_elsewhere(evaluation) -> None:
    base = baseline_of(evaluation, parse_method("mcm"))
    others = [one for one in evaluation.methods if one is not base]
    found = compare(evaluation, base, SPLITS, GROUPS, REPEATS)
    assert found.baseline is base
    assert found.methods == 3
    scores = [(one.scores["test"], [one.scores[split] for split in SPLITS]) for one in (base, *others)]
    samples = paired_bootstrap(scores, REPEATS)
    results = {(str(one.method), one.ood): one.metrics for one in evaluation.results}
    rows = {"far": [0], "near": [1], "hard (mean)": [1], "all (mean)": [0, 1], "average": [0, 1]}
    for ood, sets in rows.items():
        for at, measure in enumerate(("fpr95", "auroc")):
            expected = []
            for number, other in enumerate(others, start=1):
                if measure == "auroc" and len(sets) == 1:
                    one, first = scores[number], scores[0]
                    expected.append(delong_difference(one[0], one[1][sets[0]], first[0], first[1][sets[0]]))
                else:
                    values = [getattr(results[str(each.method), ood], measure) for each in (other, base)]
                    drawn = samples[:, number, sets, at].mean(1) - samples[:, 0, sets, at].mean(1)
                    expected.append(bootstrap_difference(values[0] - values[1], drawn))
            adjusted = holm([one.p_value for one in expected])
            for other, difference, p in zip(others, expected, adjusted, strict=True):
                assert found.values[str(other.method), ood, measure].difference == difference
                assert found.values[str(other.method), ood, measure].p_holm == p
    assert len(found.values) == 3 * 5 * 2


def test_the_value_is_that_of_the_table(evaluation) -> None:
    base = baseline_of(evaluation, parse_method("mcm"))
    found = compare(evaluation, base, SPLITS, GROUPS, REPEATS)
    results = {(str(one.method), one.ood): one.metrics for one in evaluation.results}
    for (method, ood, measure), one in found.values.items():
        difference = getattr(results[method, ood], measure) - getattr(results["mcm", ood], measure)
        assert one.difference.value == pytest.approx(difference, abs=1e-12)


def test_a_baseline_that_failed_or_stands_alone_is_refused_with_the_reason(work, tiny_backbone) -> None:
    found = run(work, "mcm", "knn,k=1000", backbone=tiny_backbone)
    with pytest.raises(LsnError, match=r"--against knn,k=1000: it could not be evaluated.*1000 neighbours"):
        baseline_of(found, parse_method("knn,k=1000"))
    with pytest.raises(LsnError, match="--against mcm: no other method was evaluated"):
        compare(found, baseline_of(found, parse_method("mcm")), SPLITS, GROUPS, REPEATS)


def by_hand(work: Workspace, head: str, rows: slice) -> tuple[np.ndarray, np.ndarray]:
    """Which rows are classified right, and the softmax of the class that is predicted."""
    test = read_split(work.features, "test")
    text = make_head(work, head, test.classes, negatives=False).weights
    features = test.features.astype(float)
    logits = 100 * (features / np.linalg.norm(features, axis=1, keepdims=True)) @ text.T
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return (logits.argmax(1) == test.labels)[rows], softmax.max(axis=1)[rows]


def test_measures_of_classes_are_those_of_the_head_at_the_models_scale(work, evaluation) -> None:
    correct, confidences = by_hand(work, "hand", slice(None))
    assert 0 < correct.mean() < 1
    for method in evaluation.methods[:3]:
        first = next(one for one in evaluation.results if one.method is method.method)
        inside, far = method.scores["test"], method.scores["far"]
        assert first.ood == "far"
        assert first.open_set.auoscr == auoscr(inside, correct, far)
        assert first.open_set.aurc == aurc(inside, ~correct)
        assert first.open_set.aurc_ood == aurc(
            np.concatenate([inside, far]), np.concatenate([~correct, np.ones(12, bool)])
        )
        assert first.open_set.ece == pytest.approx(ece(confidences, correct), abs=1e-9)


def test_class_means_have_no_softmax_and_so_no_calibration_error(evaluation) -> None:
    means = [one.open_set for one in evaluation.results if one.method.head == "means"]
    assert len(means) == 5
    assert all(np.isnan(one.ece) and one.auoscr >= 0 for one in means)


def test_a_second_run_has_the_same_measures_from_the_cache(work: Workspace, evaluation) -> None:
    again = run(work, *METHODS[:3])  # there is no model
    found = [(one.open_set, one.id_accuracy) for one in again.results]
    assert found == [(one.open_set, one.id_accuracy) for one in evaluation.results[:15]]


def test_unlabelled_rows_are_left_out_of_the_measures_of_classes(work: Workspace, tiny_backbone) -> None:
    def hide(rows: int):
        return lambda split: replace(split, labels=np.where(np.arange(21) < rows, split.labels, -1))

    some = run(work, "mcm", change=hide(10), groups={}).results[0]
    correct, confidences = by_hand(work, "hand", slice(10))
    assert (some.open_set.n_labelled, some.metrics.n_id) == (10, 21)
    assert some.id_accuracy == correct.mean()
    assert some.open_set.ece == pytest.approx(ece(confidences, correct), abs=1e-9)
    none = run(work, "mcm", change=hide(0)).results
    assert all(np.isnan(one.open_set.auoscr) and one.open_set.n_labelled == 0 for one in none)
