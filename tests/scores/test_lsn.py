"""LSN in its forms against closed forms, a naive reference, and each other."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr

from lsncli.errors import LsnError, UsageError
from lsncli.scores.lsn import Lsn
from lsncli.scores.mcm import Mcm
from lsncli.scores.mincm import MinCm
from lsncli.types import Head, unit


def clip_like(classes, rows, dim=64, seed=0):
    """A head and float16 features with cosines like CLIP's: a common part, a small spread, one class up."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=dim)
    text = unit(common + 0.8 * rng.normal(size=(classes, dim)))
    negative = unit(common + 0.8 * rng.normal(size=(3, classes, dim)))
    lead = rng.uniform(0, 6, size=(rows, 1)) * text[rng.integers(0, classes, rows)]
    features = 2 * unit(common) + lead + rng.normal(size=(rows, dim))
    return Head(tuple(map(str, range(classes))), text, 100.0, negative), features.astype(np.float16)


def test_equal_cosines_cancel_in_the_papers_form_and_add_up_in_the_official(corners):
    far_from_all = np.eye(6)[5:]
    assert Lsn(form="paper").scorer(corners, {})(far_from_all) == pytest.approx([0.0], abs=1e-15)
    assert Lsn(form="official").scorer(corners, {})(far_from_all) == pytest.approx([2 / 5], abs=1e-15)


def test_closed_form_of_one_raised_class(corners):
    # Every cosine is 0 but one of 1, with the positive and the negative prompts alike.
    yes = math.e / (math.e + 4)
    raised = math.exp(1 / 5)
    paper, official = (
        Lsn(form=form).scorer(corners, {})(corners.weights[:1]) for form in ("paper", "official")
    )
    assert paper == pytest.approx([yes - 1 / (raised + 4)], abs=1e-15)
    assert official == pytest.approx([yes + raised / (4 * raised + 1)], abs=1e-15)


@pytest.mark.parametrize(("tau", "tau_bar"), [(1.0, 5.0), (0.1, 0.05)])
def test_papers_form_equals_a_naive_equation_14(head, features, yes, no, softmax, tau, tau_bar):
    found = Lsn(tau=tau, tau_bar=tau_bar, form="paper").scorer(head, {})(features)
    for i, score in enumerate(found):
        positive = max(softmax([c / tau for c in yes[i]]))
        negative = [min(softmax([c / tau_bar for c in cosines[i]])) for cosines in no]
        assert score == pytest.approx(positive - sum(negative) / 3, abs=1e-12)


@pytest.mark.parametrize(("tau", "tau_bar"), [(1.0, 5.0), (0.1, 0.05)])
def test_official_form_equals_a_naive_reference(head, features, yes, no, softmax, tau, tau_bar):
    found = Lsn(tau=tau, tau_bar=tau_bar, form="official").scorer(head, {})(features)
    for i, score in enumerate(found):
        positive = max(softmax([c / tau for c in yes[i]]))
        negative = [max(softmax([(1 - c) / tau_bar for c in cosines[i]])) for cosines in no]
        assert score == pytest.approx(positive + sum(negative) / 3, abs=1e-12)


@pytest.mark.parametrize(("tau", "tau_bar"), [(1.0, 5.0), (0.1, 0.05)])
def test_logit_form_equals_a_naive_reference(head, features, yes, no, tau, tau_bar):
    found = Lsn(tau=tau, tau_bar=tau_bar, form="logit").scorer(head, {})(features)
    for i, score in enumerate(found):
        negative = [min(cosines[i]) for cosines in no]
        assert score == pytest.approx(max(yes[i]) / tau - sum(negative) / 3 / tau_bar, abs=1e-12)


def test_logit_form_knows_far_from_undecided(corners):
    # Alike to all classes, near or far: the softmax cannot tell, the cosine can.
    near, far = unit(np.array([[1.0, 1, 1, 1, 1, 0.5]])), unit(np.array([[1.0, 1, 1, 1, 1, 50.0]]))
    paper, logit = (Lsn(form=form, tau_bar=20.0).scorer(corners, {}) for form in ("paper", "logit"))
    assert paper(near) == pytest.approx(paper(far), abs=1e-15)
    assert logit(near) > logit(far) + 0.1


@pytest.mark.parametrize("form", ["paper", "official", "logit"])
def test_sets_are_averaged(head, features, form):
    score = Lsn(form=form)
    single = [score.scorer(replace(head, negative=head.negative[[k]]), {})(features) for k in range(3)]
    assert score.scorer(head, {})(features) == pytest.approx(np.mean(single, axis=0), abs=1e-15)


@pytest.mark.parametrize("form", ["paper", "official", "logit"])
def test_matching_the_negative_prompt_of_a_class_less_raises_the_score(form):
    text = np.eye(3, 4)
    fitted = Lsn(form=form).scorer(Head(tuple("abc"), text, 100.0, -text[None]), {})
    id_image, ood_image = np.array([[1.0, 0, 0, 0]]), np.array([[0.0, 0, 0, 1.0]])
    assert fitted(id_image) > fitted(ood_image)


@pytest.mark.parametrize("classes", [10, 100, 1000])
def test_both_forms_rank_images_all_but_identically(classes):
    head, features = clip_like(classes, 2000)
    paper, official = (Lsn(form=form).scorer(head, {})(features) for form in ("paper", "official"))
    assert spearmanr(paper, official).statistic > 0.999


def test_a_tiny_negative_temperature_does_not_overflow(head, features):
    # The smallest softmax tends to 0, the largest to 1.
    yes = Mcm().scorer(head, {})(features)
    assert Lsn(tau_bar=1e-6).scorer(head, {})(features) == pytest.approx(yes, abs=1e-12)
    assert Lsn(tau_bar=1e-6, form="official").scorer(head, {})(features) == pytest.approx(yes + 1)


@pytest.mark.parametrize("form", ["paper", "official", "logit"])
def test_scores_of_a_thousand_classes_stay_distinct_in_float64(form):
    head, features = clip_like(1000, 4000)
    assert len(np.unique(Lsn(form=form).scorer(head, {})(features))) > 0.99 * len(features)


def test_half_precision_would_not_keep_a_thousand_classes_distinct():
    head, features = clip_like(1000, 4000)
    scores = Lsn(form="official").scorer(head, {})(features).astype(np.float16)
    assert len(np.unique(scores)) < 0.1 * len(features)


@pytest.mark.parametrize("negative", [None, np.zeros((0, 7, 12))])
def test_a_head_without_negative_prompts_is_refused_with_the_command_that_learns_them(head, negative):
    with pytest.raises(LsnError, match="lsn train-neg"):
        Lsn().scorer(replace(head, negative=negative), {})


@pytest.mark.parametrize("shape", [(7,), (7, 12), (3, 6, 12), (3, 7, 5)])
def test_negative_prompts_of_other_classes_or_model_are_refused(head, shape):
    with pytest.raises(LsnError, match=r"shape \(K, 7, 12\), found"):
        Lsn().scorer(replace(head, negative=np.zeros(shape)), {})


@pytest.mark.parametrize("setting", [{"tau": 0.0}, {"tau_bar": -5.0}, {"form": "papyrus"}])
def test_impossible_settings_are_refused_by_name(setting):
    with pytest.raises(UsageError, match=next(iter(setting))):
        Lsn(**setting)


@pytest.mark.parametrize("form", ["paper", "official", "logit"])
def test_parts_add_up_and_the_second_is_mincm(head, features, form):
    yes, no = Lsn(form=form).parts(head, features)
    assert np.array_equal(yes + no, Lsn(form=form).scorer(head, {})(features))
    assert np.array_equal(no, MinCm(form=form).scorer(head, {})(features))
    assert ((no < 0) == (form != "official")).any()
