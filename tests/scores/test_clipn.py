"""CLIPN's two scores against plain loops, closed forms, and the decisions of its authors."""

import math
from dataclasses import replace

import numpy as np
import pytest

from lsncli.errors import LsnError, UsageError
from lsncli.scores import load_score
from lsncli.scores.clipn import Clipn
from lsncli.types import Head, unit


def naive(feature, head, form):
    """One image by the definition: no features normalised, summed over sets, normalised again."""
    x = [float(v) for v in feature]
    x = [v / math.hypot(*x) for v in x]
    bias = [0.0] * len(head.classes) if head.bias is None else head.bias
    yes = [
        head.scale * math.fsum(map(math.prod, zip(x, w, strict=True))) + b
        for w, b in zip(head.weights, bias, strict=True)
    ]
    chances = []
    for c, logit in enumerate(yes):
        total = [math.fsum(one[c][d] / math.hypot(*one[c]) for one in head.negative) for d in range(len(x))]
        mean = [v / math.hypot(*total) for v in total]
        no = head.scale * math.fsum(map(math.prod, zip(x, mean, strict=True)))
        chances.append(1 / (1 + math.exp(no - logit)))
    if form == "ctw":
        return chances[yes.index(max(yes))]
    likely = [math.exp(logit - max(yes)) for logit in yes]
    return math.fsum(p * q for p, q in zip(likely, chances, strict=True)) / math.fsum(likely)


@pytest.mark.parametrize("form", ["atd", "ctw"])
@pytest.mark.parametrize("scale", [100.0, 3.0])
def test_both_forms_equal_a_naive_reference(head, features, form, scale):
    scaled = replace(head, scale=scale)
    found = Clipn(form).scorer(scaled, {})(features)
    expected = [naive(feature, scaled, form) for feature in features]
    assert found == pytest.approx(expected, rel=1e-6, abs=0)


@pytest.mark.parametrize("form", ["atd", "ctw"])
def test_both_forms_equal_a_naive_reference_on_a_linear_head(features, form):
    random = np.random.default_rng(8)
    linear = Head(
        tuple("abcd"),
        random.normal(size=(4, 12)),
        1.0,
        unit(random.normal(size=(2, 4, 12))),
        random.normal(size=4),
    )
    expected = [naive(feature, linear, form) for feature in features]
    assert Clipn(form).scorer(linear, {})(features) == pytest.approx(expected, rel=1e-6)


def test_ctw_decides_at_a_half_by_whether_yes_or_no_is_nearer():
    head = Head(("a", "b"), np.eye(2, 3), 100.0, np.array([[[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]]))
    images = np.array([[1.0, 0.2, 0.9], [1.0, 0.2, 1.1], [1.0, 0.0, 1.0]])
    found = Clipn("ctw").scorer(head, {})(images)
    assert found[0] > 0.5 > found[1]
    assert found[2] == pytest.approx(0.5, abs=1e-12)


def test_atd_is_the_mean_chance_of_equally_likely_classes(corners):
    turned = replace(corners, scale=1.0, negative=-corners.negative)
    image = np.ones((1, 6))  # cosine 1 / sqrt(6) with every class, minus that with every "no"
    expected = 1 / (1 + math.exp(-2 / math.sqrt(6)))
    for form in ("atd", "ctw"):
        assert Clipn(form).scorer(turned, {})(image) == pytest.approx([expected], rel=1e-12)


def test_sets_count_equally_whatever_their_length(head, features):
    longer = replace(head, negative=head.negative * np.array([1.0, 7.0, 0.1])[:, None, None])
    found = [Clipn().scorer(one, {})(features) for one in (head, longer)]
    assert found[0] == pytest.approx(found[1], rel=1e-9)


def test_prompts_that_depend_on_the_image_are_refused(head, conditional):
    for weights, negative in ((conditional.weights, head.negative), (head.weights, conditional.negative)):
        with pytest.raises(LsnError, match="'clipn' needs fixed weights"):
            Clipn().scorer(replace(head, weights=weights, negative=negative), {})


def test_another_form_is_refused():
    with pytest.raises(UsageError, match="'atd' or 'ctw', found 'mean'"):
        load_score("clipn", form="mean")
