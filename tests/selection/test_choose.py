"""The rule of the choice and its evidence, on AUROC made by hand."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsncli.selection.choose import WORDS, choose, margin_between

KINDS = ("random", "sibling")


def near_of(**means: float | list[float]) -> dict[str, np.ndarray]:
    """AUROC (2, 10): one number for a method, with a spread of its own over the classes, or ten."""
    spread = 0.01 * np.cos(np.arange(10))
    made = {}
    for number, (name, value) in enumerate(means.items()):
        row = value + spread * (1 + 0.1 * number) if isinstance(value, float) else np.array(value)
        made[name] = np.stack([row - 0.002, row + 0.002])
    return made


def far_of(**values: float) -> dict[str, dict[str, float]]:
    return {name: {WORDS: value} for name, value in values.items()}


def choice_of(near, far=None, **options):
    return choose(near, far or {}, KINDS, default="mcm", **options)


def test_a_method_that_is_better_on_every_class_is_chosen() -> None:
    choice = choice_of(near_of(mcm=0.80, energy=0.85, knn=0.90))
    assert (choice.method, choice.verdict, choice.runner_up) == ("knn", "chosen", "energy")
    assert choice.margin.value == pytest.approx(0.05, abs=0.002)
    assert choice.margin.low > 0
    assert [row.method for row in choice.compared] == ["knn", "energy", "mcm"]
    over = choice.row("knn").over_default
    assert over.low < over.value < over.high
    assert choice.row("mcm").over_default.value == 0
    assert choice.row("knn").near["sibling"] - choice.row("knn").near["random"] == pytest.approx(0.004)


def test_of_methods_within_one_standard_error_the_simplest_is_chosen() -> None:
    noise = 0.02 * np.sin(3 * np.arange(10))
    noise -= noise.mean()
    base = np.full(10, 0.8)
    near = near_of(mcm=base.tolist(), energy=(base + 0.09).tolist(), knn=(base + 0.094 + noise).tolist())
    error = noise.std(ddof=1) / np.sqrt(10)
    assert error > 0.004
    assert choice_of(near).method == "energy"
    turned = {name: near[name] for name in ("mcm", "knn", "energy")}
    assert choice_of(turned).method == "knn"
    clear = near | {"knn": near["knn"] + 3 * error}
    assert choice_of(clear).method == "knn"


def test_a_difference_of_a_few_classes_is_no_evidence() -> None:
    lucky = np.full(10, 0.8)
    lucky[0] += 0.15  # one class of ten
    choice = choice_of(near_of(mcm=0.80, knn=lucky.tolist()))
    assert (choice.method, choice.verdict) == ("mcm", "no difference")
    assert choice.row("knn").over_default.low <= 0 < choice.row("knn").over_default.value


def test_a_simple_method_without_evidence_does_not_hide_one_that_has_it() -> None:
    noise = 0.04 * np.cos(3 * np.arange(10))
    noisy = 0.8 + 0.018 + noise - noise.mean()
    choice = choice_of(near_of(mcm=[0.8] * 10, energy=noisy.tolist(), knn=(0.82 + noise / 40).tolist()))
    assert choice.row("energy").over_default.low < 0
    assert choice.row("knn").over_default.low > 0
    assert (choice.method, choice.verdict, choice.runner_up) == ("knn", "chosen", "energy")


def test_a_best_method_within_one_standard_error_of_the_default_is_no_difference() -> None:
    noise = 0.04 * np.cos(3 * np.arange(10))
    noise += 0.004 - noise.mean()  # a standard error of 0.009
    choice = choice_of(near_of(mcm=[0.8] * 10, knn=(0.8 + noise).tolist()))
    assert (choice.method, choice.verdict) == ("mcm", "no difference")
    assert choice.compared[0].method == "knn"
    worse = choice_of(near_of(mcm=[0.8] * 10, knn=(0.79 + noise).tolist()))
    assert (worse.method, worse.verdict) == ("mcm", "no better")


def test_where_nothing_beats_chance_nothing_is_chosen_whatever_the_far_axis() -> None:
    near = {
        "mcm": 0.5 + 0.05 * np.cos(np.arange(20)).reshape(2, 10),
        "knn": 0.5 + 0.05 * np.sin(2 * np.arange(20)).reshape(2, 10) + 0.001,
    }
    choice = choice_of(near, far_of(mcm=0.6, knn=0.98))
    assert (choice.method, choice.verdict) == ("mcm", "chance")


def test_a_method_worse_than_the_default_on_left_out_classes_is_not_considered() -> None:
    choice = choice_of(near_of(mcm=0.9, knn=0.88), far_of(mcm=0.7, knn=0.95))
    assert (choice.method, choice.verdict) == ("mcm", "no better")
    assert "classes left out" in choice.row("knn").why_not
    assert choice.row("knn").mean > choice.row("mcm").mean


def test_the_far_axis_is_a_veto_and_half_of_the_mean() -> None:
    near = near_of(mcm=0.80, energy=0.90, knn=0.89)
    assert choice_of(near).method == "energy"
    both = choice_of(near, far_of(mcm=0.92, energy=0.93, knn=0.97))
    assert both.method == "knn"
    assert both.row("knn").mean == pytest.approx((choice_of(near).row("knn").mean + 0.97) / 2)
    vetoed = choice_of(near, far_of(mcm=0.92, energy=0.93, knn=0.89))
    assert "far axis" in vetoed.row("knn").why_not
    poor = choice_of(near, far_of(mcm=0.5, energy=0.6, knn=0.7))  # all are poor: better than the default
    assert not any(row.why_not for row in poor.compared)


def test_a_saturated_far_axis_is_not_ranked() -> None:
    near = near_of(mcm=0.80, energy=0.90, knn=0.88)
    choice = choice_of(near, far_of(mcm=0.9, energy=0.992, knn=0.9999))
    assert not choice.ranked_far
    assert choice.method == "energy"
    assert choice.row("energy").mean == pytest.approx(np.mean(near["energy"]))


def test_foreign_splits_take_the_place_of_words() -> None:
    near = near_of(mcm=0.80, energy=0.85, knn=0.85)
    far = {
        "mcm": {WORDS: 0.9, "a": 0.6, "b": 0.6},
        "energy": {WORDS: 0.98, "a": 0.7, "b": 0.7},
        "knn": {WORDS: 0.91, "a": 0.9, "b": 0.8},
    }
    assert choice_of(near, far).row("knn").mean == pytest.approx((0.85 + 0.87) / 2, abs=0.001)
    choice = choice_of(near, far, foreign=True)
    assert choice.method == "knn"
    assert choice.row("knn").mean == pytest.approx(0.85, abs=0.001)


def test_a_margin_agrees_with_all_signs_by_hand() -> None:
    pair = np.array([0.02, 0.05, -0.01, 0.03, 0.04, 0.02])

    def statistic(values: np.ndarray) -> float:
        return values.mean() / (values.std(ddof=1) / np.sqrt(len(values)))

    every = [statistic(pair * signs) for signs in product((-1, 1), repeat=6)]
    half = np.quantile(every, 0.95) * pair.std(ddof=1) / np.sqrt(6)
    margin = margin_between(pair, np.zeros(6))
    assert (margin.low, margin.value, margin.high) == pytest.approx(
        (pair.mean() - half, pair.mean(), pair.mean() + half)
    )


@pytest.mark.parametrize("classes", [6, 10, 20])
def test_the_interval_of_a_margin_covers_the_difference_in_about_90_of_100_pairs(classes: int) -> None:
    pairs = np.random.default_rng(classes).normal(0.02, 0.05, size=(1000, classes))
    margins = [margin_between(pair, np.zeros(classes)) for pair in pairs]
    covered = np.mean([margin.low <= 0.02 <= margin.high for margin in margins])
    assert covered == pytest.approx(0.9, abs=0.033)  # three and a half standard errors


@pytest.mark.parametrize("classes", [6, 10, 30])
def test_without_a_difference_the_default_is_kept_in_about_95_of_100_selections(classes: int) -> None:
    """A bootstrap over six classes would replace it in 45 % (benchmarks.accuracy.selection_errors)."""
    random = np.random.default_rng(classes)
    replaced = 0
    for _ in range(200):
        shared = random.normal(size=(3, classes))
        values = 0.8 + 0.02 * (random.normal(size=(16, 3)) @ shared + random.normal(size=(16, classes)))
        near = {"mcm": values[:1], **{f"m{number}": values[number : number + 1] for number in range(1, 16)}}
        replaced += choose(near, {}, ("random",), default="mcm").verdict == "chosen"
    assert replaced <= 20  # 5 % of 200 and three and a half standard errors


@given(st.integers(0, 1000))
def test_equal_numbers_give_an_equal_choice_and_copies_of_the_default_are_not_chosen(seed: int) -> None:
    random = np.random.default_rng(seed)
    near = {name: random.uniform(0.5, 1, size=(2, 8)) for name in ("mcm", "a", "b")}
    near["copy"] = near["mcm"]
    first, second = (choose(near, {}, KINDS, default="mcm") for _ in range(2))
    assert (first.method, first.margin, first.verdict) == (second.method, second.margin, second.verdict)
    assert first.method != "copy"
    assert first.row("copy").over_default.value == 0
    assert first.row(first.method).mean >= first.row("mcm").mean
