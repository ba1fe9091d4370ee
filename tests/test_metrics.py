"""The metrics against the field's test vectors, scikit-learn, and a brute-force form of the official rule."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from lsncli.errors import LsnError
from lsncli.metrics import (
    BLOCK,
    accuracy,
    aupr_in,
    aupr_out,
    auroc,
    counts,
    evaluate_scores,
    fpr_id_positive,
    fpr_ood_positive,
    threshold_id_positive,
)

EXACT = 1e-12
PAIRWISE = (fpr_id_positive, fpr_ood_positive, auroc, aupr_in, aupr_out, evaluate_scores)

tied = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=60).map(np.array)
spread = st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=1, max_size=60).map(np.array)
scores = st.one_of(tied, spread)


def _normal_case():
    rng = np.random.default_rng(0)
    return rng.normal(1, 1, 5000), rng.normal(-0.5, 1.6, 5000)


# Name: (ID scores, OOD scores), paper's FPR95, OpenOOD's FPR95, AUROC; computed with the repositories' code.
VECTORS = {
    "A: spread": (
        (np.arange(1, 21) / 20, np.array([0.01, 0.03, 0.06, 0.08, 0.11, 0.22, 0.33, 0.44, 0.55, 0.66])),
        (0.80, 0.65, 0.7725),
    ),
    "B: two heavy ties": ((np.repeat([0.9, 0.5], [90, 10]), np.repeat([0.5, 0.1], 50)), (0.00, 0.10, 0.975)),
    "C: equally near recalls": (
        (np.repeat([1.0, 0.0], [9, 1]), np.repeat([0.5, 0.0], 5)),
        (0.50, 0.10, 0.925),
    ),
    "D: two grids": ((np.linspace(0.5, 1, 100), np.linspace(0, 0.9, 50)), (0.42, 0.72, 0.8172)),
    "E: unequal normals": (_normal_case(), (0.5378, 0.8646, 0.7812)),
}


@pytest.mark.parametrize("name", VECTORS)
def test_field_vectors_come_out_as_the_repositories_give_them(name):
    pair, (paper, openood, area) = VECTORS[name]
    found = evaluate_scores(*pair)
    assert found.fpr95 == pytest.approx(paper, abs=EXACT)
    assert found.fpr95_ood == pytest.approx(openood, abs=EXACT)
    assert round(found.auroc, 4) == area
    assert (found.n_id, found.n_ood) == tuple(map(len, pair))


def official_fpr(id_scores, ood_scores, recall):
    """The rule of the official code, threshold by threshold."""
    thresholds = sorted({*id_scores, *ood_scores})
    kept = [sum(s >= t for s in id_scores) / len(id_scores) for t in thresholds]
    start = max(i for i, share in enumerate(kept) if share == 1)
    best = min(range(start, len(thresholds)), key=lambda i: abs(kept[i] - recall))
    return sum(s >= thresholds[best] for s in ood_scores) / len(ood_scores)


@given(scores, scores, st.sampled_from([0.8, 0.9, 0.95, 0.99, 1.0]))
def test_fpr_id_positive_is_the_official_rule(id_scores, ood_scores, recall):
    expected = official_fpr(id_scores.tolist(), ood_scores.tolist(), recall)
    assert fpr_id_positive(id_scores, ood_scores, recall) == pytest.approx(expected, abs=EXACT)


@given(scores, scores, st.sampled_from([0.5, 0.8, 0.95, 1.0]))
def test_fpr_ood_positive_is_the_first_point_of_sklearns_whole_roc_curve(id_scores, ood_scores, recall):
    is_ood = np.repeat([0, 1], [len(id_scores), len(ood_scores)])
    fpr, tpr, _ = roc_curve(is_ood, -np.r_[id_scores, ood_scores], drop_intermediate=False)
    expected = fpr[np.argmax(tpr >= recall)]
    assert fpr_ood_positive(id_scores, ood_scores, recall) == pytest.approx(expected, abs=EXACT)


@given(scores, scores)
def test_areas_equal_sklearn(id_scores, ood_scores):
    both = np.r_[id_scores, ood_scores]
    is_id = np.repeat([1, 0], [len(id_scores), len(ood_scores)])
    found = evaluate_scores(id_scores, ood_scores)
    assert found.auroc == pytest.approx(roc_auc_score(is_id, both), abs=EXACT)
    assert found.aupr_in == pytest.approx(average_precision_score(is_id, both), abs=EXACT)
    assert found.aupr_out == pytest.approx(average_precision_score(1 - is_id, -both), abs=EXACT)


def test_areas_equal_sklearn_on_many_scores_with_ties_and_unequal_sizes():
    rng = np.random.default_rng(3)
    id_scores, ood_scores = rng.normal(1, 1, 20_000).round(2), rng.normal(0, 2, 3_000).round(2)
    both, is_id = np.r_[id_scores, ood_scores], np.repeat([1, 0], [20_000, 3_000])
    assert auroc(id_scores, ood_scores) == pytest.approx(roc_auc_score(is_id, both), abs=EXACT)
    assert aupr_in(id_scores, ood_scores) == pytest.approx(average_precision_score(is_id, both), abs=EXACT)
    assert aupr_out(id_scores, ood_scores) == pytest.approx(
        average_precision_score(1 - is_id, -both), abs=EXACT
    )


@pytest.mark.parametrize("decimals", [1, 3, 15])
def test_more_scores_than_a_block_equal_sklearn_with_ties_across_blocks(decimals):
    rng = np.random.default_rng(5)
    id_scores, ood_scores = rng.normal(1, 1, BLOCK + 7).round(decimals), rng.normal(0, 1, 2 * BLOCK)
    ood_scores = ood_scores.round(decimals)
    both, is_id = np.r_[id_scores, ood_scores], np.repeat([1, 0], [len(id_scores), len(ood_scores)])
    found = evaluate_scores(id_scores, ood_scores)
    fpr, tpr, _ = roc_curve(is_id, both, drop_intermediate=False)
    assert found.fpr95 == pytest.approx(fpr[::-1][np.argmin(np.abs(tpr[::-1] - 0.95))], abs=EXACT)
    fpr, tpr, _ = roc_curve(1 - is_id, -both, drop_intermediate=False)
    assert found.fpr95_ood == pytest.approx(fpr[np.argmax(tpr >= 0.95)], abs=EXACT)
    assert found.auroc == pytest.approx(roc_auc_score(is_id, both), abs=EXACT)
    assert found.aupr_in == pytest.approx(average_precision_score(is_id, both), abs=EXACT)
    assert found.aupr_out == pytest.approx(average_precision_score(1 - is_id, -both), abs=EXACT)


@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_a_run_of_ties_that_ends_at_a_block_is_one_step(extra):
    ties = np.zeros(BLOCK + extra)
    found = counts(ties, np.array([1.0, 0.0]))
    assert found.ids.tolist() == [0, len(ties), len(ties)]
    assert found.oods.tolist() == [0, 1, 2]


@given(scores, scores)
def test_counts_are_how_many_scores_are_at_or_below_each_distinct_one(id_scores, ood_scores):
    distinct = sorted({*id_scores.tolist(), *ood_scores.tolist()})
    found = counts(id_scores, ood_scores)
    assert found.ids.tolist() == [0, *(int(sum(id_scores <= value)) for value in distinct)]
    assert found.oods.tolist() == [0, *(int(sum(ood_scores <= value)) for value in distinct)]


@given(scores, scores)
def test_evaluating_once_equals_the_functions_one_by_one(id_scores, ood_scores):
    found = evaluate_scores(id_scores, ood_scores)
    assert found.fpr95 == fpr_id_positive(id_scores, ood_scores)
    assert found.fpr95_ood == fpr_ood_positive(id_scores, ood_scores)
    assert found.auroc == auroc(id_scores, ood_scores)
    assert found.aupr_in == aupr_in(id_scores, ood_scores)
    assert found.aupr_out == aupr_out(id_scores, ood_scores)


@given(tied, tied, st.randoms(use_true_random=False))
def test_metrics_ignore_order_and_monotone_rescaling(id_scores, ood_scores, random):
    shuffled = id_scores.tolist()
    random.shuffle(shuffled)
    expected = evaluate_scores(id_scores, ood_scores)
    assert evaluate_scores(np.array(shuffled), ood_scores) == expected
    assert evaluate_scores(np.exp(id_scores), np.exp(ood_scores)) == expected


@given(scores, scores)
def test_swapping_roles_mirrors_the_areas(id_scores, ood_scores):
    assert auroc(id_scores, ood_scores) == pytest.approx(1 - auroc(ood_scores, id_scores), abs=EXACT)
    mirrored = aupr_in(-ood_scores, -id_scores)
    assert aupr_out(id_scores, ood_scores) == pytest.approx(mirrored, abs=EXACT)


def test_perfect_inverted_and_constant_scores():
    high, low, equal = np.array([2.0, 3.0]), np.array([0.0, 1.0]), np.ones(2)
    perfect, inverted, constant = (
        evaluate_scores(*pair) for pair in [(high, low), (low, high), (equal, equal)]
    )
    assert (perfect.fpr95, perfect.fpr95_ood, perfect.auroc, perfect.aupr_in, perfect.aupr_out) == (
        0,
        0,
        1,
        1,
        1,
    )
    assert (inverted.fpr95, inverted.fpr95_ood, inverted.auroc) == (1, 1, 0)
    assert (constant.fpr95, constant.fpr95_ood, constant.auroc) == (1, 1, 0.5)
    assert (constant.aupr_in, constant.aupr_out) == (0.5, 0.5)


def test_half_precision_scores_are_accepted_and_left_unsorted():
    id_scores, ood_scores = np.array([3, 1], dtype=np.float16), np.array([2, 0], dtype=np.float16)
    assert auroc(id_scores, ood_scores) == 0.75
    assert id_scores.tolist() == [3, 1]


def test_pair_counts_beyond_32_bits_do_not_overflow():
    assert auroc(np.ones(100_000), np.zeros(100_000)) == 1.0


@pytest.mark.parametrize("metric", PAIRWISE)
@pytest.mark.parametrize(
    ("id_scores", "ood_scores", "expected"),
    [
        ([], [1.0], "at least one ID score, found none"),
        ([1.0], [], "at least one OOD score, found none"),
        ([1.0, np.nan], [1.0], "ID scores must be finite, but 1 of 2"),
        ([1.0], [np.inf, -np.inf, 0.0], "OOD scores must be finite, but 2 of 3"),
        ([[1.0]], [1.0], r"ID scores must have one dimension, found the shape \(1, 1\)"),
    ],
)
def test_unusable_scores_are_refused_with_their_counts(metric, id_scores, ood_scores, expected):
    with pytest.raises(LsnError, match=expected):
        metric(np.array(id_scores), np.array(ood_scores))


@pytest.mark.parametrize("metric", [fpr_id_positive, fpr_ood_positive])
@pytest.mark.parametrize("recall", [0.0, -0.1, 1.01, 95, np.nan])
def test_a_recall_that_is_no_fraction_is_refused(metric, recall):
    with pytest.raises(LsnError, match="recall must be above 0"):
        metric(np.ones(3), np.zeros(3), recall)


def test_accuracy_is_the_fraction_of_equal_rows():
    assert accuracy(np.array([0, 1, 2, 2]), np.array([0, 1, 2, 0])) == 0.75


@pytest.mark.parametrize(
    ("labels", "predictions", "expected"),
    [
        ([], [], "at least one labelled row"),
        ([1, 2], [1], r"found \(2,\) and \(1,\)"),
        ([[1]], [[1]], r"found \(1, 1\)"),
        ([0, -1, -1], [0, 0, 0], "2 of 3 have none"),
    ],
)
def test_accuracy_refuses_rows_it_cannot_compare(labels, predictions, expected):
    with pytest.raises(LsnError, match=expected):
        accuracy(np.array(labels, dtype=np.int32), np.array(predictions, dtype=np.int32))


@given(
    st.lists(st.integers(0, 12), min_size=1, max_size=40),
    st.lists(st.integers(0, 12), min_size=1, max_size=40),
    st.sampled_from([0.5, 0.8, 0.95, 1.0]),
)
def test_the_threshold_accepts_exactly_the_false_positives(ids, oods, recall) -> None:
    inside, outside = np.array(ids, float), np.array(oods, float)
    gamma = threshold_id_positive(inside, outside, recall)
    assert np.mean(outside >= gamma) == fpr_id_positive(inside, outside, recall)
    assert gamma in {*ids, *oods}
    assert (inside >= gamma).any()


def openood(id_scores, ood_scores):
    """FPR95, AUPR-in and AUPR-out as `openood/evaluators/metrics.py` computes them."""
    is_ood = np.repeat([0, 1], [len(id_scores), len(ood_scores)])
    confidence = np.concatenate([id_scores, ood_scores])
    rejected, caught, _ = roc_curve(is_ood, -confidence)
    precision_in, recall_in, _ = precision_recall_curve(1 - is_ood, confidence)
    precision_out, recall_out, _ = precision_recall_curve(is_ood, -confidence)
    fpr = rejected[np.argmax(caught >= 0.95)]
    return float(fpr), float(auc(recall_in, precision_in)), float(auc(recall_out, precision_out))


@given(scores, scores)
def test_openoods_fpr_is_never_lower_and_equal_without_ties(id_scores, ood_scores):
    ours, theirs = fpr_ood_positive(id_scores, ood_scores), openood(id_scores, ood_scores)[0]
    assert theirs >= ours - EXACT
    if not np.isin(id_scores, ood_scores).any():
        assert theirs == pytest.approx(ours, abs=EXACT)


def test_with_tied_scores_openoods_fpr_can_be_higher_by_a_tenth():
    # Fifteen OOD images are lowest, then come two ID images and one OOD image at each of five scores. Recall
    # .95 is reached at the fourth tie, in the middle of a straight piece that OpenOOD replaces by its end.
    tied = np.arange(1.0, 6.0)
    id_scores = np.concatenate([np.repeat(tied, 2), np.full(10, 9.0)])
    ood_scores = np.concatenate([np.zeros(15), tied])
    assert fpr_ood_positive(id_scores, ood_scores) == pytest.approx(0.4, abs=EXACT)
    assert openood(id_scores, ood_scores)[0] == pytest.approx(0.5, abs=EXACT)


@pytest.mark.parametrize(("n_id", "n_ood"), [(1, 1), (3, 9), (40, 10)])
def test_openoods_aupr_is_the_trapezoid_and_ours_average_precision(n_id, n_ood):
    constant = np.zeros(n_id), np.zeros(n_ood)
    share = n_id / (n_id + n_ood)
    assert aupr_in(*constant) == pytest.approx(share, abs=EXACT)
    assert aupr_out(*constant) == pytest.approx(1 - share, abs=EXACT)
    assert openood(*constant)[1:] == pytest.approx(((1 + share) / 2, (2 - share) / 2), abs=EXACT)


def test_with_many_scores_both_kinds_of_aupr_are_nearly_equal():
    pair = _normal_case()
    assert (aupr_in(*pair), aupr_out(*pair)) == pytest.approx(openood(*pair)[1:], abs=2e-4)
