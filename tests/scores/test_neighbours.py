"""The search for neighbours: where it computes, and the same answers everywhere."""

import numpy as np
import pytest
import torch

from lsncli.errors import Unavailable
from lsncli.scores import neighbours
from lsncli.scores.knn import Knn
from lsncli.scores.neighbours import neighbour_scorer
from lsncli.scores.nnguide import NnGuide
from lsncli.types import unit

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here")


def collect(bank, k, features, weights=None, device="cpu"):
    """Similarities and places of the ``k`` nearest of one tile, nearest first."""
    seen = []

    def reduce(rows, similarity, places):
        order = similarity.argsort(axis=1)[:, ::-1]
        seen.append([np.take_along_axis(found, order, axis=1) for found in (similarity, places)])
        return np.zeros(len(rows))

    neighbour_scorer(bank, k, reduce, device, weights)(features)
    return [np.concatenate(found) for found in zip(*seen, strict=True)]


@pytest.mark.parametrize("weighted", [False, True])
def test_neighbours_equal_a_full_sort(features, train, weighted, monkeypatch):
    monkeypatch.setattr(neighbours, "ROWS", 7)
    monkeypatch.setattr(neighbours, "BANK", 8)
    weights = np.random.default_rng(4).normal(size=90)
    similarity, places = collect(train.features, 20, features, weights if weighted else None)
    every = unit(features) @ unit(train.features).T * (weights if weighted else 1)
    assert similarity == pytest.approx(np.sort(every, axis=1)[:, :-21:-1], abs=1e-14)
    assert np.array_equal(places, np.argsort(every, axis=1)[:, :-21:-1])


def test_a_bank_that_cannot_be_written_to_is_searched_without_a_warning(features, train):
    locked = train.features.copy()
    locked.flags.writeable = False
    assert collect(locked, 3, features)[0].shape == (40, 3)


def test_a_zero_row_of_the_bank_is_at_similarity_zero(features):
    similarity, _ = collect(np.zeros((2, 12), dtype=np.float16), 1, features)
    assert similarity.tolist() == [[0.0]] * 40


def test_a_device_without_float64_is_answered_with_the_cpu(head, features, train, monkeypatch):
    monkeypatch.setattr(neighbours, "pick_device", lambda name: torch.device(name))
    for score in (Knn(5), NnGuide()):
        learned = score.fit(head, train)
        expected = score.scorer(head, learned)(features)
        assert np.array_equal(score.scorer(head, learned, "mps")(features), expected)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_a_device_that_is_not_here_is_refused(head, train):
    with pytest.raises(Unavailable, match="'cuda' is not available"):
        Knn(5).scorer(head, Knn(5).fit(head, train), "cuda")


@needs_cuda
@pytest.mark.gpu
@pytest.mark.parametrize("score", [Knn(5), NnGuide()])
def test_cuda_gives_what_the_cpu_gives(head, features, train, score, monkeypatch):
    monkeypatch.setattr(neighbours, "BANK", 32)
    learned = score.fit(head, train)
    found = score.scorer(head, learned, "cuda")(features)
    assert found == pytest.approx(score.scorer(head, learned)(features), rel=1e-12)
