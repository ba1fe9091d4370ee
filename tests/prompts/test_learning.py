"""The learners: they learn, they repeat, and each step is the one the equations ask for."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from lsncli.errors import LsnError
from lsncli.prompts.contexts import prompt_features, slots
from lsncli.prompts.losses import negative_loss, official_orthogonality, orthogonality
from lsncli.prompts.negative import learn_negative, negative_steps
from lsncli.prompts.positive import learn_positive
from lsncli.prompts.settings import NEGATIVE, POSITIVE, NegativeSettings
from lsncli.types import Rows, unit

CLASSES = ["cat", "dog", "small red bird"]
POS = replace(POSITIVE["paper"], epochs=6, length=4, rate=0.02)
NEG = replace(NEGATIVE["paper"], epochs=6, length=4, rate=0.01)


@pytest.fixture(scope="module")
def tower(tiny_backbone):
    return tiny_backbone.text_tower()


@pytest.fixture(scope="module")
def rows() -> Rows:
    """Three noisy clusters of 12 rows each."""
    random = np.random.default_rng(3)
    labels = np.repeat(np.arange(3, dtype=np.int32), 12)
    centres = random.normal(size=(3, 32))
    features = centres[labels] + 0.5 * random.normal(size=(36, 32))
    return Rows(features.astype(np.float16), labels)


@pytest.mark.parametrize("mode", ["paper", "official"])
def test_positive_prompts_learn(tower, rows, mode) -> None:
    learned = learn_positive(tower, rows, CLASSES, replace(POS, mode=mode))
    assert learned.context.shape == (4, tower.width)
    assert learned.text.shape == (3, 32)
    assert len(learned.history) == 6
    assert learned.history[-1] < learned.history[0]
    np.testing.assert_allclose(np.linalg.norm(learned.text, axis=-1), 1)


@pytest.mark.parametrize("mode", ["paper", "official"])
def test_negative_prompts_learn_to_say_no(tower, rows, mode) -> None:
    learned = learn_negative(tower, rows, CLASSES, replace(NEG, mode=mode, epochs=12))
    assert learned.context.shape == (3, 3, 4, tower.width)
    assert learned.text.shape == (3, 3, 32)
    assert learned.history[-1] < learned.history[0]
    cosines = np.einsum("nd,kcd->knc", unit(rows.features), learned.text)
    refused = cosines.argmin(axis=-1) == rows.labels
    assert refused.mean() > 0.6  # the own class's "not" fits an image least; chance is a third


@pytest.mark.parametrize("mode", ["paper", "official"])
def test_the_same_seed_gives_the_same_prompts(tower, rows, mode) -> None:
    settings = replace(NEG, mode=mode, epochs=2)
    first, again = (learn_negative(tower, rows, CLASSES, settings) for _ in range(2))
    other = learn_negative(tower, rows, CLASSES, replace(settings, seed=1))
    assert torch.equal(first.context, again.context)
    assert first.history == again.history
    assert not torch.equal(first.context, other.context)


def test_official_loss_never_falls_below_its_floor(tower, rows) -> None:
    learned = learn_negative(tower, rows, CLASSES, replace(NEG, mode="official", weight=0.0, epochs=20))
    assert min(learned.history) >= math.log(1 + (len(CLASSES) - 1) / math.e)


def one_step(context: torch.Tensor, loss: torch.Tensor, rate: float) -> torch.Tensor:
    """Adam's first step from scratch: every coordinate moves by rate along the sign of its gradient."""
    (gradient,) = torch.autograd.grad(loss, context)
    return context.detach() - rate * gradient / (gradient.abs() + 1e-8)


def whole_batch(tower, rows, mode) -> tuple[NegativeSettings, torch.Tensor, torch.Tensor]:
    settings = replace(NEG, mode=mode, epochs=1, batch_size=len(rows), weight=0.3)
    images = torch.from_numpy(unit(rows.features)).float()
    return settings, images, torch.from_numpy(rows.labels).long()


def initial(tower, rows, settings) -> torch.Tensor:
    """The contexts before any learning: a rate too small to move them."""
    return learn_negative(tower, rows, CLASSES, replace(settings, rate=1e-30)).context


def test_a_joint_step_follows_equation_8(tower, rows) -> None:
    settings, images, labels = whole_batch(tower, rows, "paper")
    context = initial(tower, rows, settings).requires_grad_()
    words = slots(tower, CLASSES, settings.length)
    sets = torch.stack([prompt_features(tower, words, one) for one in context])
    loss = sum(negative_loss(images, one, labels, "paper") for one in sets)
    expected = one_step(context, loss + 0.3 * orthogonality(sets), settings.rate)
    found = learn_negative(tower, rows, CLASSES, settings).context
    moved = (found - context.detach()).abs()
    assert torch.dist(found, expected) < 0.02 * torch.dist(context.detach(), expected)
    assert moved.max() <= settings.rate * 1.001


def test_official_sets_take_turns_with_the_others_frozen(tower, rows) -> None:
    settings, images, labels = whole_batch(tower, rows, "official")
    start = initial(tower, rows, settings)
    words = slots(tower, CLASSES, settings.length)
    texts = [prompt_features(tower, words, one).detach() for one in start]
    expected = []
    for k in range(3):
        context = start[k].clone().requires_grad_()
        text = prompt_features(tower, words, context)
        others = torch.stack([texts[j] for j in range(3) if j != k])
        loss = negative_loss(images, text, labels, "official") + 0.3 * official_orthogonality(text, others)
        expected.append(one_step(context, loss, settings.rate))
        texts[k] = prompt_features(tower, words, expected[k]).detach()
    found = learn_negative(tower, rows, CLASSES, settings).context
    assert torch.dist(found, torch.stack(expected)) < 0.02 * torch.dist(start, torch.stack(expected))


def test_ticks_count_the_steps_that_were_promised(tower, rows) -> None:
    for mode in ("paper", "official"):
        settings = replace(NEG, mode=mode, epochs=2, batch_size=7)
        steps: list[int] = []
        learn_negative(tower, rows, CLASSES, settings, lambda n, note="", steps=steps: steps.append(n))
        assert sum(steps) == negative_steps(len(rows), settings)


def test_what_cannot_be_learned_from_is_refused(tower, rows) -> None:
    nothing = Rows(rows.features[:0], rows.labels[:0])
    with pytest.raises(LsnError, match="found none"):
        learn_positive(tower, nothing, CLASSES, POS)
    with pytest.raises(LsnError, match="expected 0 to 1, found 0 to 2"):
        learn_positive(tower, rows, CLASSES[:2], POS)
    with pytest.raises(LsnError, match="at least 2 classes"):
        learn_positive(tower, rows, CLASSES[:1], POS)
    with pytest.raises(LsnError, match="diverged"):
        learn_positive(tower, rows, CLASSES, replace(POS, rate=1e30, epochs=20))
