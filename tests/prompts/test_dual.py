"""DualCoOp's loss against plain loops, and its learning against a step by hand."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from learning_samples import ROWS, TOWER, learned
from torch.nn.functional import normalize
from tower_samples import CLASSES, VOCABULARY, plain_features, random, weights

from lsncli.errors import UsageError
from lsncli.prompts.dualcoop import DUAL, Asymmetric, dual_settings
from lsncli.prompts.layout import context_layout
from lsncli.prompts.learner import learn

LOGITS, LABELS = random(2, 5, 4, seed=3), torch.tensor([0, 3, 1, 1, 2])


def by_hand(logits, labels, loss: Asymmetric, weights_of=None) -> torch.Tensor:
    """One image and one class at a time; ``weights_of`` are the logits that the weights are taken of."""
    total = torch.zeros((), dtype=logits.dtype)
    fixed = logits.detach() if weights_of is None else weights_of
    for b, label in enumerate(labels.tolist()):
        for c in range(logits.shape[2]):
            p, known = (torch.softmax(of[:, b, c], 0)[0] for of in (logits, fixed))
            if c == label:
                total = total - (1 - known) ** loss.gamma_pos * torch.log(p)
            else:
                absent, known = (torch.clamp(1 - q + loss.clip, max=1) for q in (p, known))
                total = total - (1 - known) ** loss.gamma_neg * torch.log(absent)
    return total / len(labels)


@pytest.mark.parametrize("loss", [Asymmetric(), Asymmetric(0.0, 0.0, 0.0), Asymmetric(2.0, 4.0, 0.2)])
@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_the_loss_is_the_sum_over_classes_and_the_mean_over_images(loss, scale) -> None:
    found = loss(scale * LOGITS, LABELS)
    assert found == pytest.approx(float(by_hand(scale * LOGITS, LABELS, loss)), rel=1e-9)


def test_without_weights_and_clip_it_is_the_binary_cross_entropy() -> None:
    margin = LOGITS[0] - LOGITS[1]
    target = torch.nn.functional.one_hot(LABELS, 4).double()
    expected = torch.nn.functional.binary_cross_entropy_with_logits(margin, target, reduction="sum") / 5
    assert Asymmetric(0, 0, 0)(LOGITS, LABELS) == pytest.approx(float(expected), rel=1e-12)


def test_weights_carry_no_gradient() -> None:
    leaf = LOGITS.clone().requires_grad_()
    (found,) = torch.autograd.grad(Asymmetric()(leaf, LABELS), leaf)
    (expected,) = torch.autograd.grad(by_hand(leaf, LABELS, Asymmetric(), LOGITS), leaf)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_closed_form_of_an_undecided_image() -> None:
    found = Asymmetric()(torch.zeros(2, 1, 3), torch.tensor([1]))
    assert found == pytest.approx(0.5 * math.log(2) - 2 * 0.45**2 * math.log(0.55), rel=1e-6)


@given(size=st.floats(0, 1e4))
def test_extreme_logits_keep_loss_and_gradient_finite(size: float) -> None:
    leaf = torch.tensor([[[size, -size]], [[-size, size]]]).requires_grad_()
    for label in (0, 1):
        loss = Asymmetric()(leaf, torch.tensor([label]))
        (gradient,) = torch.autograd.grad(loss, leaf)
        assert torch.isfinite(loss)
        assert torch.isfinite(gradient).all()


def test_easy_negatives_cost_nothing() -> None:
    logits = torch.tensor([[[9.0, -4.0]], [[-9.0, 4.0]]])  # class 1 has p = 0.0003, below the clip
    assert Asymmetric()(logits, torch.tensor([0])) == pytest.approx(0.0, abs=1e-6)


def test_the_defaults_are_the_authors() -> None:
    assert (Asymmetric().gamma_pos, Asymmetric().gamma_neg, Asymmetric().clip) == (1, 2, 0.05)
    assert (DUAL.sets, DUAL.length, DUAL.specific, DUAL.tau) == (2, 16, False, 1 / (20 * 5))
    assert (DUAL.optimizer, DUAL.rate, DUAL.epochs, DUAL.warmup, DUAL.batch_size) == ("sgd", 0.002, 50, 1, 32)
    assert dual_settings() == DUAL
    assert dual_settings(epochs=3, specific=True, rate=None) == replace(DUAL, epochs=3, specific=True)


@pytest.mark.parametrize(
    ("given_settings", "message"),
    [
        ({"epochs": 0}, "--epochs: expected a number above zero"),
        ({"epochs": 1}, "--warmup: expected fewer than the 1 epochs"),
        ({"sets": 3}, "a pair of contexts"),
        ({"learner": "cocoop"}, "a pair of contexts"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(given_settings, message) -> None:
    with pytest.raises(UsageError, match=message):
        dual_settings(**given_settings)


@pytest.mark.parametrize(
    ("values", "message"),
    [((-1.0, 2.0, 0.05), "--gamma-pos"), ((1.0, math.inf, 0.05), "--gamma-neg"), ((1.0, 2.0, 1.0), "--clip")],
)
def test_loss_settings_that_cannot_be_meant_are_refused(values, message) -> None:
    with pytest.raises(UsageError, match=message):
        Asymmetric(*values)


@pytest.mark.parametrize("specific", [False, True])
def test_learning_is_sgd_on_that_loss_for_both_contexts(specific: bool) -> None:
    settings = dual_settings(
        length=2, epochs=2, warmup=0, batch_size=len(ROWS), rate=0.01, specific=specific, tau=0.2
    )
    start = learned(replace(settings, epochs=1, rate=1e-12), objective=Asymmetric()).contexts
    images = normalize(torch.from_numpy(ROWS.features).float(), dim=-1)
    labels = torch.from_numpy(ROWS.labels).long()
    layout = context_layout(VOCABULARY, CLASSES, 2, specific=specific)
    contexts, velocity = start.clone(), torch.zeros_like(start)
    for epoch in range(2):
        leaf = contexts.clone().requires_grad_()
        text = plain_features(weights(), layout, leaf)
        logits = torch.stack([images @ one.T for one in text]) / 0.2
        (gradient,) = torch.autograd.grad(by_hand(logits, labels, Asymmetric()), leaf)
        velocity = 0.9 * velocity + gradient + 5e-4 * contexts
        contexts = contexts - 0.01 * (1 + math.cos(math.pi * epoch / 2)) / 2 * velocity
    found = learn(TOWER, ROWS, CLASSES, settings, objective=Asymmetric())
    torch.testing.assert_close(found.contexts, contexts, rtol=0, atol=2e-5)
    assert found.text.shape == (2, 3, 6)


def test_learning_tells_the_classes_apart() -> None:
    settings = dual_settings(length=4, epochs=40, batch_size=4, rate=0.05, tau=0.1)
    found = learn(TOWER, ROWS, CLASSES, settings, objective=Asymmetric())
    assert found.history[-1] < 0.8 * found.history[0]
    assert not torch.equal(found.contexts[0], found.contexts[1])
