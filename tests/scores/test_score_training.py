"""The training that scores share: batches, SGD against a loop, bounded steps, refusals."""

import math

import numpy as np
import pytest
import torch
from naive_training import descend

from lsncli.device import seeded
from lsncli.errors import LsnError, UsageError
from lsncli.scores import load_score, training
from lsncli.scores.training import Batches, Sgd, constant, cosine, each_epoch, run_epoch, steps, trainable
from lsncli.types import Rows, unit

CPU = torch.device("cpu")
TRAINED = ["vos", "npos", "rpl", "arpl"]


def batches(count, size, seed=0):
    rng = np.random.default_rng(1)
    rows = Rows(rng.normal(size=(count, 3)).astype(np.float16), np.arange(count, dtype=np.int32))
    return rows, Batches(rows, size, seeded(seed), CPU, "toy")


@pytest.mark.parametrize(("count", "size", "lengths"), [(10, 4, [4, 3, 3]), (8, 4, [4, 4]), (3, 9, [3])])
def test_an_epoch_sees_every_row_once_in_even_batches(count, size, lengths):
    rows, found = batches(count, size)
    seen = list(found)
    assert [len(labels) for _, labels in seen] == lengths
    assert len(found) == len(lengths)
    labels = torch.cat([labels for _, labels in seen]).tolist()
    assert sorted(labels) == list(range(count))
    features = torch.cat([features for features, _ in seen])
    assert features.dtype == torch.float32
    assert features.numpy() == pytest.approx(unit(rows.features)[labels], abs=1e-6)


def test_every_epoch_has_another_order_and_equal_seeds_the_same():
    def orders(seed):
        _, found = batches(20, 20, seed)
        return [next(iter(found))[1].tolist() for _ in range(2)]

    first, second = orders(0)
    assert first != second
    assert orders(0) == [first, second]
    assert orders(1) != [first, second]


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("schedule", [constant, cosine, steps])
def test_descent_equals_a_loop(nesterov, schedule):
    rows, found = batches(6, 6)
    target = unit(rows.features).mean(axis=0)
    parameter = trainable(np.array([1.0, -2.0, 0.5]), CPU)
    sgd = Sgd(7, 0.005, 0.01, nesterov, schedule)
    for _, optimizer in each_epoch(found, sgd, [parameter]):
        run_epoch(optimizer, found, lambda features, _: (parameter - features.mean(0)).pow(4).sum())
    expected = descend(
        lambda p: float(((p - target) ** 4).sum()),
        [1.0, -2.0, 0.5],
        epochs=7,
        rate=0.005,
        decay=0.01,
        nesterov=nesterov,
        schedule=schedule,
    )
    assert np.abs(expected - [1.0, -2.0, 0.5]).max() > 0.1
    assert parameter.detach().numpy() == pytest.approx(expected, rel=1e-4)


def test_schedules_in_closed_form():
    assert [constant(0.0), constant(0.99)] == [1.0, 1.0]
    assert [cosine(0.0), cosine(0.5), cosine(1.0)] == pytest.approx([1.0, 0.5, 0.0])
    assert [steps(d) for d in (0.0, 0.29, 0.3, 0.6, 0.9)] == pytest.approx([1, 1, 0.1, 0.01, 0.001])


def test_slow_parameters_take_a_tenth_of_the_rate():
    _, found = batches(4, 4)
    fast, slow = trainable(torch.zeros(1), CPU), trainable(torch.zeros(1), CPU)
    for _, optimizer in each_epoch(found, Sgd(1, 0.5, 0.0, False, constant), [fast], slow=[slow]):
        run_epoch(optimizer, found, lambda *_: (fast + slow).sum())
    assert [float(fast.detach()), float(slow.detach())] == pytest.approx([-0.5, -0.05])


def test_steps_are_bounded_by_fewer_epochs(monkeypatch):
    monkeypatch.setattr(training, "STEPS", 12)
    _, found = batches(10, 2)
    epochs = [epoch for epoch, _ in each_epoch(found, Sgd(9, 0.1, 0.0, False, cosine), [torch.zeros(1)])]
    assert epochs == [0, 1]  # 5 steps each
    monkeypatch.setattr(training, "STEPS", 1)
    assert len(list(each_epoch(found, Sgd(9, 0.1, 0.0, False, cosine), [torch.zeros(1)]))) == 1


@pytest.mark.parametrize(
    ("epochs", "start", "expected"),
    [(5, 0.4, [-2, -1, 0, 1, 2]), (4, 0.9, [-3, -2, -1, 0]), (1, 0.9, [0]), (2, 0.0, [0, 1])],
)
def test_epochs_are_counted_from_where_outliers_start_and_one_has_them(epochs, start, expected):
    _, found = batches(4, 4)
    sgd = Sgd(epochs, 0.1, 0.0, False, constant, start=start)
    assert [epoch for epoch, _ in each_epoch(found, sgd, [torch.zeros(1)])] == expected


def test_a_loss_that_is_no_longer_finite_stops_with_a_lower_rate_to_try():
    _, found = batches(4, 2)
    parameter = trainable(torch.ones(1), CPU)
    ((_, optimizer),) = each_epoch(found, Sgd(1, 0.1, 0.0, False, constant), [parameter])
    with pytest.raises(LsnError, match=r"'toy' diverged: its loss became nan.*toy,rate=0\.01"):
        run_epoch(optimizer, found, lambda *_: math.nan * parameter.sum())


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed": -1}, "'seed' must be 0 or above, found -1"),
        ({"epochs": 0}, "'epochs' must be"),
        ({"batch_size": 0}, "'batch_size' must be"),
        ({"rate": 0.0}, "'rate' must be"),
        ({"rate": math.inf}, "'rate' must be"),
        ({"weight": -0.1}, "'weight' must be"),
    ],
)
def test_impossible_settings_are_refused(name, settings, message):
    with pytest.raises(UsageError, match=message):
        load_score(name, **settings)


@pytest.mark.parametrize("name", ["vos", "npos"])
@pytest.mark.parametrize("start", [-0.1, 1.0, math.nan])
def test_outliers_must_start_within_the_training(name, start):
    with pytest.raises(UsageError, match="'start' must be a fraction from 0 to below 1"):
        load_score(name, start=start)


@pytest.mark.parametrize("name", TRAINED)
def test_equal_seeds_give_equal_arrays_and_touch_nothing_global(name, head, train):
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    fits = [load_score(name, epochs=4, seed=seed).fit(head, train) for seed in (5, 5, 6)]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    for key in fits[0]:
        assert fits[0][key].dtype == np.float32
        assert np.array_equal(fits[0][key], fits[1][key])
    assert any(not np.array_equal(fits[0][key], fits[2][key]) for key in fits[0])


@pytest.mark.parametrize("name", ["npos", "rpl", "arpl"])
def test_one_class_is_refused(name, head, train):
    alone = type(head)(("a",), head.weights[:1])
    rows = Rows(train.features, np.zeros_like(train.labels))
    with pytest.raises(LsnError, match=f"'{name}' needs at least 2 classes, found 1"):
        load_score(name).fit(alone, rows)


@pytest.mark.parametrize("name", TRAINED)
def test_every_trained_score_says_what_frozen_features_leave_out(name):
    assert "the image tower stays frozen" in load_score(name).REDUCED
