"""The losses against closed forms and term-by-term loops over the paper's equations."""

import math

import pytest
import torch

from lsncli.errors import UsageError
from lsncli.prompts.losses import (
    negative_loss,
    official_orthogonality,
    orthogonality,
    positive_loss,
)
from lsncli.prompts.settings import NEGATIVE, POSITIVE, choose


def units(*shape: int, seed: int = 0) -> torch.Tensor:
    rows = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(rows, dim=-1)


IMAGES, TEXT, LABELS = units(6, 9, seed=1), units(4, 9, seed=2), torch.tensor([0, 1, 2, 3, 1, 0])


def by_hand(logit) -> float:
    total = 0.0
    for x, y in zip(IMAGES, LABELS, strict=True):
        weights = [math.exp(logit(float(x @ t))) for t in TEXT]
        total -= math.log(weights[y] / sum(weights))
    return total / len(IMAGES)


def test_positive_loss_is_equations_3_and_4() -> None:
    expected = by_hand(lambda cosine: cosine / 0.01)
    assert positive_loss(IMAGES, TEXT, LABELS, "paper").item() == pytest.approx(expected, rel=1e-9)


def test_negative_loss_is_equations_5_and_6() -> None:
    expected = by_hand(lambda cosine: 1 / 0.05 - cosine / 0.05)
    assert negative_loss(IMAGES, TEXT, LABELS, "paper").item() == pytest.approx(expected, rel=1e-9)


def test_orthogonality_is_equation_7() -> None:
    sets = units(3, 4, 9)
    expected = sum(
        abs(float(sets[i, c] @ sets[j, c])) for c in range(4) for i in range(3) for j in range(i + 1, 3)
    )
    assert orthogonality(sets).item() == pytest.approx(expected, rel=1e-9)
    assert orthogonality(sets[:1]).item() == 0


def test_official_orthogonality_is_a_mean_of_signed_cosines() -> None:
    sets = units(3, 4, 9)
    expected = sum(float(sets[0, c] @ sets[j, c]) for c in range(4) for j in (1, 2)) / 8
    assert official_orthogonality(sets[0], sets[1:]).item() == pytest.approx(expected, rel=1e-9)
    assert official_orthogonality(sets[0], sets[:0]).item() == 0


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_official_losses_have_the_floor_of_a_double_softmax(classes: int) -> None:
    text = torch.eye(classes, dtype=torch.float64)
    labels = torch.arange(classes)
    floor = math.log(1 + (classes - 1) / math.e)
    perfect_positive = positive_loss(text, text, labels, "official").item()
    perfect_negative = negative_loss(-text, text, labels, "official").item()
    assert perfect_positive == pytest.approx(floor, abs=1e-6)
    assert floor <= perfect_negative < floor + 1e-3
    assert positive_loss(text, text, labels, "paper").item() < 1e-6
    uniform = positive_loss(text[:1] * 0, text, labels[:1], "official").item()
    assert uniform == pytest.approx(math.log(classes))


def test_presets_hold_the_published_settings() -> None:
    positive, negative = choose(POSITIVE, "paper"), choose(NEGATIVE, "paper")
    assert (positive.length, positive.epochs, positive.batch_size, positive.rate) == (16, 50, 8, 0.002)
    assert (negative.length, negative.epochs, negative.batch_size, negative.rate) == (16, 100, 8, 0.001)
    assert (negative.sets, negative.weight) == (3, 0.1)
    assert (POSITIVE["official"].rate, NEGATIVE["official"].rate, NEGATIVE["official"].weight) == (
        0.001,
        0.002,
        1.0,
    )


def test_choose_replaces_only_what_is_given() -> None:
    settings = choose(NEGATIVE, "paper", epochs=3, rate=None, weight=0.0)
    assert (settings.epochs, settings.rate, settings.weight) == (3, 0.001, 0.0)
    with pytest.raises(UsageError, match="--batch-size: expected a number above zero, found 0"):
        choose(POSITIVE, "paper", batch_size=0)
    with pytest.raises(UsageError, match="--rate: expected a number above zero, found nan"):
        choose(POSITIVE, "paper", rate=math.nan)
    with pytest.raises(UsageError, match="--weight: expected zero or a number above it, found -1"):
        choose(NEGATIVE, "paper", weight=-1)
    with pytest.raises(UsageError, match="--mode"):
        choose(POSITIVE, "fancy")
