"""CLIPN's losses against plain loops and closed forms."""

import math

import pytest
import torch
from torch.nn.functional import normalize
from tower_samples import random

from lsncli.errors import UsageError
from lsncli.prompts.clipn import EPSILON, NoSettings, binary_opposite, objective, semantic_opposite

IMAGES, YES, NO = (normalize(random(5, 6, seed=seed), dim=-1) for seed in (1, 2, 3))


@pytest.mark.parametrize("scale", [10.0, 1.0])
def test_itbo_takes_the_no_caption_of_others_and_the_yes_caption_of_its_own(scale) -> None:
    own, others = [], []
    for i, x in enumerate(IMAGES):
        for j in range(5):
            yes, no = (scale * float(x @ text[j]) for text in (YES, NO))
            q = 1 / (1 + math.exp(yes - no))
            (own if i == j else others).append(-math.log(1 - q) if i == j else -math.log(q))
    expected = sum(own) / 5 + sum(others) / (5 * 4)
    assert binary_opposite(IMAGES, YES, NO, scale) == pytest.approx(expected, rel=1e-6)


def test_tso_is_two_minus_the_mean_distance() -> None:
    distances = [
        math.sqrt(math.dist(a, b) ** 2 + EPSILON) for a, b in zip(YES.tolist(), NO.tolist(), strict=True)
    ]
    assert semantic_opposite(YES, NO) == pytest.approx(2 - sum(distances) / 5, rel=1e-12)
    assert objective(IMAGES, YES, NO, 9.0) == pytest.approx(
        float(binary_opposite(IMAGES, YES, NO, 9.0) + semantic_opposite(YES, NO))
    )


def test_opposite_texts_cost_nothing_and_equal_ones_most() -> None:
    assert semantic_opposite(YES, -YES) == pytest.approx(0.0, abs=1e-4)
    assert semantic_opposite(YES, YES) == pytest.approx(2 - math.sqrt(EPSILON), abs=1e-9)
    undecided = binary_opposite(IMAGES, YES, YES, 100.0)
    assert undecided == pytest.approx(2 * math.log(2), rel=1e-9)


def test_equal_encoders_have_a_finite_gradient_and_large_scales_a_finite_loss() -> None:
    leaf = YES.float().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(semantic_opposite(YES.float(), normalize(leaf, dim=-1)), leaf)
    assert torch.isfinite(gradient).all()
    assert torch.isfinite(binary_opposite(IMAGES, YES, NO, 1e5))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"epochs": 0}, "--epochs: expected at least 1, found 0"),
        ({"batch_size": 1}, "--batch-size: expected at least 2, found 1"),
        ({"prompts": 0}, "--prompts: expected at least 1"),
        ({"rate": 0.0}, "--rate: expected a number above zero"),
        ({"rate": math.nan}, "--rate: expected a number above zero"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(given, message) -> None:
    with pytest.raises(UsageError, match=message):
        NoSettings(**given)
