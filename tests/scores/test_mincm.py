"""MinCM against closed forms, a naive reference, and LSN, whose negative half it is."""

import math
from dataclasses import replace

import numpy as np
import pytest

from lsncli.errors import LsnError, UsageError
from lsncli.scores.lsn import Lsn
from lsncli.scores.mcm import Mcm
from lsncli.scores.mincm import MinCm
from lsncli.types import Head, unit

SOFTMAX_FORMS = ["paper", "official"]
FORMS = [*SOFTMAX_FORMS, "logit"]


def test_closed_form_of_equal_cosines_and_of_one_raised_class(corners):
    far_from_all, on_a_class = np.eye(6)[5:], corners.weights[:1]
    raised = math.exp(1 / 5)
    paper, official, logit = (MinCm(form=form).scorer(corners, {}) for form in FORMS)
    assert logit(far_from_all) == logit(on_a_class) == pytest.approx([0.0], abs=1e-15)
    assert paper(far_from_all) == pytest.approx([-1 / 5], abs=1e-15)
    assert official(far_from_all) == pytest.approx([1 / 5], abs=1e-15)
    assert paper(on_a_class) == pytest.approx([-1 / (raised + 4)], abs=1e-15)
    assert official(on_a_class) == pytest.approx([raised / (4 * raised + 1)], abs=1e-15)


@pytest.mark.parametrize("tau_bar", [5.0, 0.05])
def test_papers_form_equals_a_naive_equation_13(head, features, no, softmax, tau_bar):
    found = MinCm(tau_bar=tau_bar).scorer(head, {})(features)
    for i, score in enumerate(found):
        smallest = [min(softmax([c / tau_bar for c in cosines[i]])) for cosines in no]
        assert score == pytest.approx(-sum(smallest) / 3, abs=1e-12)


@pytest.mark.parametrize("tau_bar", [5.0, 0.05])
def test_official_form_equals_a_naive_reference(head, features, no, softmax, tau_bar):
    found = MinCm(tau_bar=tau_bar, form="official").scorer(head, {})(features)
    for i, score in enumerate(found):
        largest = [max(softmax([(1 - c) / tau_bar for c in cosines[i]])) for cosines in no]
        assert score == pytest.approx(sum(largest) / 3, abs=1e-12)


@pytest.mark.parametrize("tau_bar", [5.0, 0.05])
def test_logit_form_equals_a_naive_reference(head, features, no, tau_bar):
    found = MinCm(tau_bar=tau_bar, form="logit").scorer(head, {})(features)
    for i, score in enumerate(found):
        assert score == pytest.approx(-sum(min(cosines[i]) for cosines in no) / 3 / tau_bar, abs=1e-12)


@pytest.mark.parametrize("form", SOFTMAX_FORMS)
@pytest.mark.parametrize("tau_bar", [5.0, 0.1])
def test_lsn_is_mcm_and_mincm(head, features, form, tau_bar):
    whole = Lsn(tau=0.5, tau_bar=tau_bar, form=form).scorer(head, {})(features)
    halves = Mcm(tau=0.5).scorer(head, {})(features) + MinCm(tau_bar=tau_bar, form=form).scorer(head, {})(
        features
    )
    assert np.array_equal(whole, halves)


@pytest.mark.parametrize("form", FORMS)
def test_positive_prompts_do_not_matter(head, features, form):
    other = replace(head, weights=unit(np.random.default_rng(0).normal(size=head.weights.shape)))
    score = MinCm(form=form)
    assert np.array_equal(score.scorer(other, {})(features), score.scorer(head, {})(features))


@pytest.mark.parametrize("form", FORMS)
def test_an_image_that_some_not_does_not_fit_scores_higher(form):
    fitted = MinCm(form=form).scorer(Head(tuple("abc"), np.eye(3, 4), 100.0, -np.eye(3, 4)[None]), {})
    id_image, ood_image = np.array([[1.0, 0, 0, 0]]), np.array([[0.0, 0, 0, 1.0]])
    assert fitted(id_image) > fitted(ood_image)


def test_a_head_without_negative_prompts_is_refused_by_this_scores_name(head):
    with pytest.raises(LsnError, match="'mincm' needs negative prompts"):
        MinCm().scorer(replace(head, negative=None), {})


@pytest.mark.parametrize("setting", [{"tau_bar": 0.0}, {"form": "papyrus"}])
def test_impossible_settings_are_refused_by_name(setting):
    with pytest.raises(UsageError, match=next(iter(setting))):
        MinCm(**setting)
