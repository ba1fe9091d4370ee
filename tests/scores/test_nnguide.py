"""NNGuide against a full sort by plain loops, its parts, and its bank."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsncli.errors import LsnError, UsageError
from lsncli.scores import neighbours, ready
from lsncli.scores.energy import Energy
from lsncli.scores.nnguide import NnGuide
from lsncli.types import Head, Rows, unit


@pytest.fixture(scope="module", params=["text", "linear"])
def any_head(request, head):
    if request.param == "text":
        return head
    rng = np.random.default_rng(1)
    return Head(head.classes, rng.normal(size=head.weights.shape), 1.0, None, rng.normal(size=7) - 1)


def naive(head, features, bank, k):
    bias = [0.0] * len(head.weights) if head.bias is None else head.bias

    def energy(x):
        logits = [
            head.scale * math.fsum(w * v for w, v in zip(row, x, strict=True)) + b
            for row, b in zip(head.weights, bias, strict=True)
        ]
        return max(logits) + math.log(math.fsum(math.exp(value - max(logits)) for value in logits))

    guides = [[energy(b) * value for value in b] for b in unit(bank)]
    found = []
    for x in unit(features):
        products = sorted(math.fsum(g * v for g, v in zip(guide, x, strict=True)) for guide in guides)
        found.append(energy(x) * math.fsum(products[-k:]) / k)
    return found


@pytest.mark.parametrize("k", [1, 10, 90])
def test_scores_equal_a_full_sort(any_head, features, train, k):
    expected = naive(any_head, features, train.features, k)
    assert ready(NnGuide(k), any_head, train)(features) == pytest.approx(expected, rel=1e-10, abs=1e-12)


@settings(max_examples=30)
@given(rows=st.integers(1, 50), bank=st.integers(1, 100))
def test_tiles_do_not_change_the_scores(any_head, features, train, rows, bank):
    whole = ready(NnGuide(), any_head, train)(features)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "ROWS", rows)
        patch.setattr(neighbours, "BANK", bank)
        found = ready(NnGuide(), any_head, train)(features)
    assert found == pytest.approx(whole, rel=1e-12, abs=1e-12)


def test_energies_are_learned_in_chunks(any_head, train, monkeypatch):
    whole = NnGuide().fit(any_head, train)["energy"]
    monkeypatch.setattr("lsncli.scores.nnguide.CHUNK", 7)
    assert NnGuide().fit(any_head, train)["energy"] == pytest.approx(whole, rel=1e-13)
    assert whole == pytest.approx(ready(Energy(), any_head)(train.features))


def test_an_image_equal_to_all_training_images_scores_the_square_of_its_energy(any_head, features):
    same = Rows(np.repeat(features[:1], 12, axis=0), np.zeros(12, dtype=np.int32))
    energy = ready(Energy(), any_head)(features[:1])
    assert ready(NnGuide(), any_head, same)(features[:1]) == pytest.approx(energy**2, rel=1e-12)


def test_confident_neighbours_count_more_than_near_ones():
    head = Head(("a", "b"), np.array([[1.0, 0.0, 0.0], [0.9, 0.1, 0.0]]))
    bank = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])  # the second is no class
    scorer = ready(NnGuide(1), head, Rows(bank, np.zeros(2, dtype=np.int32)))
    x = np.array([[0.6, 0.0, 0.8]])
    energy = ready(Energy(), head)
    assert scorer(x) == pytest.approx(energy(x) * energy(bank[:1]) * 0.6)


def test_the_bank_stays_as_it_is_stored(head, train):
    learned = NnGuide().fit(head, train)
    assert {name: (a.dtype, a.shape) for name, a in learned.items()} == {
        "bank": (np.float16, (90, 12)),
        "energy": (np.float64, (90,)),
    }


@pytest.mark.parametrize(("fraction", "kept"), [(0.5, range(0, 90, 2)), (0.1, range(0, 90, 10))])
def test_a_fraction_of_the_rows_is_taken_at_even_distances(head, train, fraction, kept):
    learned = NnGuide(k=1, fraction=fraction).fit(head, train)
    assert np.array_equal(learned["bank"], train.features[list(kept)])
    whole = NnGuide(k=1).fit(head, train)["energy"][list(kept)]
    # Products of 45 or 9 rows and of 90 may add their 12 terms in another order, in float64.
    np.testing.assert_allclose(learned["energy"], whole, rtol=1e-12)


def test_more_neighbours_than_the_bank_has_rows_are_refused(head, train):
    with pytest.raises(LsnError, match="'nnguide' looks for k = 10 neighbours among only 9 training rows"):
        ready(NnGuide(fraction=0.1), head, train)


@pytest.mark.parametrize("settings", [{"k": 0}, {"fraction": 0.0}, {"fraction": 1.5}, {"fraction": math.nan}])
def test_settings_that_cannot_be_meant_are_refused(settings):
    with pytest.raises(UsageError, match=f"'{next(iter(settings))}' must be"):
        NnGuide(**settings)
