"""What a tuned tower minimises: plain at first, with outliers once there are features to make them from."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from lsncli.training.finetune_losses import LOSSES, TuneLoss

CLASSES, DIM = 3, 6
COUNTS = torch.tensor([20, 12, 20])


def made(name: str) -> TuneLoss:
    return LOSSES[name](COUNTS, DIM, torch.Generator().manual_seed(0), torch.device("cpu"))


def weights() -> torch.Tensor:
    return torch.randn(CLASSES, DIM, generator=torch.Generator().manual_seed(5))


def head(features: torch.Tensor) -> torch.Tensor:
    return 10 * features @ weights().T


def batch(count: int = 24, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.arange(count) % CLASSES
    noise = torch.randn(count, DIM, generator=torch.Generator().manual_seed(seed))
    return normalize(weights()[labels] + noise, dim=-1), labels


def value(loss: TuneLoss, count: int = 24) -> torch.Tensor:
    features, labels = batch(count)
    return loss(features, head(features), labels, head)


def expected(name: str) -> torch.Tensor:
    features, labels = batch()
    logits = head(features)
    return cross_entropy(normalize(logits, dim=1) / 8 if name == "npos" else logits, labels)


@pytest.mark.parametrize("name", list(LOSSES))
def test_a_loss_begins_without_outliers(name: str) -> None:
    loss = made(name)
    loss.begin(0.0, head)
    torch.testing.assert_close(value(loss), expected(name))


@pytest.mark.parametrize(("name", "start"), [("vos", 0.4), ("npos", 0.5)])
def test_outliers_come_when_their_time_has_come_and_every_class_was_seen(name: str, start: float) -> None:
    loss = made(name)
    loss.begin(start, head)  # nothing was seen yet
    torch.testing.assert_close(value(loss), expected(name))
    loss.begin(start - 0.01, head)
    torch.testing.assert_close(value(loss), expected(name))
    loss.begin(start, head)
    found = value(loss)
    assert 0.01 < float((found - expected(name)).detach()) < 1  # log 2 and more, at a weight of a tenth
    found.backward()
    assert all(one.grad is not None and one.grad.any() for one in loss.parameters.values())


@pytest.mark.parametrize("name", ["vos", "npos"])
def test_the_separation_can_be_learned(name: str) -> None:
    loss = made(name)
    value(loss)
    loss.begin(0.9, head)
    first = float(value(loss).detach())
    optimizer = torch.optim.Adam(loss.parameters.values(), lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        value(loss).backward()
        optimizer.step()
    assert float(value(loss).detach()) < first - 0.01


@pytest.mark.parametrize("name", ["vos", "npos"])
def test_the_queue_of_a_class_holds_its_latest_features(name: str) -> None:
    loss = made(name)
    queue, seen = loss.buffers["queue"], loss.buffers["seen"]
    assert queue.shape == (CLASSES, 20, DIM)  # no more than there are
    features, labels = batch(63)
    loss(features, head(features), labels, head)
    assert seen.tolist() == [21, 21, 21]
    mine = features[labels == 1].half()
    np.testing.assert_array_equal(queue[1, 0], mine[20])
    np.testing.assert_array_equal(queue[1, 1:], mine[1:20])


def test_features_that_do_not_differ_give_vos_no_gaussian() -> None:
    loss = made("vos")
    features, labels = normalize(weights(), dim=-1).repeat(4, 1), torch.arange(12) % CLASSES
    loss(features, head(features), labels, head)
    loss.begin(0.9, head)
    torch.testing.assert_close(value(loss), expected("vos"))


def test_each_loss_says_by_which_score_it_is_tested() -> None:
    assert {name: loss.TESTED_BY for name, loss in LOSSES.items()} == {
        "ce": "msp",
        "vos": "energy",
        "npos": "msp",
    }
