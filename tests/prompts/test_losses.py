"""The losses against closed forms and term-by-term loops over the equations of the paper and of the code."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize
from tower_samples import CLASSES, DIM, random, tower

from lsncli.prompts.learner import learn
from lsncli.prompts.settings import classification, logits, orthogonality, preset
from lsncli.types import Rows


def units(*shape: int, seed: int = 0) -> Tensor:
    return normalize(random(*shape, seed=seed), dim=-1)


IMAGES, TEXT, LABELS = units(6, 9, seed=1), units(2, 4, 9, seed=2), torch.tensor([0, 1, 2, 3, 1, 0])


def softmax(values: list[float]) -> list[float]:
    total = sum(math.exp(value) for value in values)
    return [math.exp(value) / total for value in values]


def by_hand(logit, passes: int) -> float:
    """Mean over images of -log of the softmax (of the softmax) at the label, summed over sets."""
    total = 0.0
    for text in TEXT:
        for x, y in zip(IMAGES, LABELS, strict=True):
            values = [logit(float(x @ t)) for t in text]
            for _ in range(passes):
                values = softmax(values)
            total -= math.log(values[y]) / len(IMAGES)
    return total


@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize(
    ("kind", "tau", "logit"),
    [
        ("positive", 0.01, lambda cosine: cosine / 0.01),  # Eq. 3
        ("negative", 0.05, lambda cosine: (1 - cosine) / 0.05),  # Eq. 6
        ("negative", 0.7, lambda cosine: (1 - cosine) / 0.7),
    ],
)
def test_classification_is_equations_3_to_6_of_each_set(kind, tau, logit, passes: int) -> None:
    values = logits(IMAGES, TEXT, kind, tau)
    assert values.shape == (2, 6, 4)
    found = classification(values, LABELS, double_softmax=passes == 2).item()
    assert found == pytest.approx(by_hand(logit, passes), rel=1e-9)


@pytest.mark.parametrize("kind", ["positive", "negative"])
def test_prompts_that_depend_on_the_image_are_compared_with_their_own_image(kind) -> None:
    text = units(2, 6, 4, 9, seed=3)
    found = logits(IMAGES, text, kind, 0.05)
    for k in range(2):
        for b in range(6):
            alone = logits(IMAGES[b : b + 1], text[k : k + 1, b], kind, 0.05)
            torch.testing.assert_close(found[k : k + 1, b : b + 1], alone)
    # The same text for every image is no other thing than CoOp's.
    torch.testing.assert_close(
        logits(IMAGES, TEXT[:, None].expand(-1, 6, -1, -1), kind, 0.05), logits(IMAGES, TEXT, kind, 0.05)
    )


def test_a_negative_prompt_is_right_when_it_fits_its_own_class_least() -> None:
    axes = torch.eye(3, dtype=torch.float64)[None]
    far, near = (logits(sign * axes[0], axes, "negative", 0.05) for sign in (-1, 1))
    labels = torch.arange(3)
    assert classification(far, labels, double_softmax=False) < 1e-6
    assert classification(near, labels, double_softmax=False) > 10


class TestOrthogonality:
    """Eq. 7, and what the code makes of it, by loops."""

    SETS = units(4, 5, 9, seed=4)

    def pairs(self, own: int | None) -> list[tuple[int, int]]:
        every = [(i, j) for i in range(4) for j in range(i + 1, 4)]
        return [pair for pair in every if own is None or own in pair]

    def cosines(self, own: int | None) -> list[float]:
        return [float(self.SETS[i, c] @ self.SETS[j, c]) for c in range(5) for i, j in self.pairs(own)]

    @pytest.mark.parametrize("own", [None, 0, 2, 3])
    def test_sum_mean_and_signed_are_loops_over_classes_and_pairs(self, own) -> None:
        cosines = self.cosines(own)
        sizes = [abs(cosine) for cosine in cosines]
        assert len(sizes) == 5 * (6 if own is None else 3)
        assert orthogonality(self.SETS, "sum", own).item() == pytest.approx(sum(sizes), rel=1e-9)
        assert orthogonality(self.SETS, "mean", own).item() == pytest.approx(
            sum(sizes) / len(sizes), rel=1e-9
        )
        expected = sum(cosines) / len(cosines)
        assert orthogonality(self.SETS, "signed", own).item() == pytest.approx(expected, rel=1e-9)

    @pytest.mark.parametrize("form", ["sum", "mean", "signed"])
    def test_image_conditional_sets_give_the_mean_over_images(self, form) -> None:
        sets = units(3, 7, 5, 9, seed=5)
        expected = sum(orthogonality(sets[:, b], form).item() for b in range(7)) / 7
        assert orthogonality(sets, form).item() == pytest.approx(expected, rel=1e-9)

    @pytest.mark.parametrize("form", ["sum", "mean", "signed"])
    def test_one_set_has_no_other_to_be_orthogonal_to(self, form) -> None:
        assert orthogonality(self.SETS[:1], form).item() == 0

    def test_orthogonal_sets_cost_nothing_and_equal_ones_all(self) -> None:
        axes = torch.eye(9, dtype=torch.float64)[:3, None].expand(3, 2, 9)
        assert orthogonality(axes, "sum").item() == 0
        assert orthogonality(axes[:1].expand(3, 2, 9), "sum").item() == pytest.approx(3 * 2)
        opposite = torch.stack([axes[0], -axes[0]])
        assert orthogonality(opposite, "sum").item() == pytest.approx(2)
        assert orthogonality(opposite, "signed").item() == pytest.approx(-1)  # no abs in the code

    @given(own=st.integers(0, 3), seed=st.integers(0, 100))
    def test_every_pair_belongs_to_two_sets(self, own: int, seed: int) -> None:
        sets = units(4, 3, 6, seed=seed)
        each = sum(orthogonality(sets, "sum", k) for k in range(4))
        torch.testing.assert_close(each, 2 * orthogonality(sets, "sum"))
        first = torch.cat([sets[own : own + 1], sets[:own], sets[own + 1 :]])
        torch.testing.assert_close(orthogonality(first, "sum", 0), orthogonality(sets, "sum", own))


@pytest.mark.parametrize(("classes", "known"), [(10, 1.461), (20, 2.078), (100, 3.622), (1000, 5.910)])
def test_a_double_softmax_never_falls_below_its_floor(classes: int, known: float) -> None:
    floor = math.log(1 + (classes - 1) / math.e)
    assert floor == pytest.approx(known, abs=1e-3)
    axes, labels = torch.eye(classes, dtype=torch.float64), torch.arange(classes)
    perfect = {
        "positive": logits(axes, axes[None], "positive", 0.01),
        "negative": logits(-axes, axes[None], "negative", 0.01),
    }
    for values in perfect.values():
        assert classification(values, labels, double_softmax=True).item() == pytest.approx(floor, abs=1e-6)
        assert classification(values, labels, double_softmax=False).item() < 1e-6
    uniform = torch.zeros(1, classes, classes, dtype=torch.float64)
    for double in (True, False):
        assert classification(uniform, labels, double_softmax=double).item() == pytest.approx(
            math.log(classes)
        )


@given(seed=st.integers(0, 1000), scale=st.floats(0.1, 1000), classes=st.integers(2, 12))
def test_no_logits_at_all_get_below_the_floor(seed: int, scale: float, classes: int) -> None:
    values = random(1, 5, classes, seed=seed, scale=scale)
    loss = classification(values, values[0].argmax(-1), double_softmax=True).item()
    assert loss >= math.log(1 + (classes - 1) / math.e) - 1e-12


@pytest.mark.parametrize("kind", ["positive", "negative"])
def test_training_stays_above_the_floor_in_official_mode_alone(kind) -> None:
    """Separable rows, learned until there is nothing left to learn."""
    axes = normalize(random(3, DIM, seed=8), dim=-1).numpy()
    rows = Rows(np.repeat(axes, 4, axis=0), np.repeat(np.arange(3, dtype=np.int32), 4))
    floor = math.log(1 + (len(CLASSES) - 1) / math.e)
    lowest = {}
    for mode in ("paper", "official"):
        settings = preset(
            kind,
            mode,
            sets=1,
            specific=True,
            length=2,
            optimizer="adam",
            rate=0.1,
            epochs=60,
            batch_size=12,
            tau=0.01,
        )
        lowest[mode] = min(learn(tower(), rows, CLASSES, settings).history)
    assert floor <= lowest["official"] < floor + 0.1
    assert lowest["paper"] < 0.1
