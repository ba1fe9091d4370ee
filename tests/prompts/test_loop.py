"""The training loop's parts: rates, batches, an epoch, and a state that can be kept and taken up again."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from tower_samples import random

from lsncli.device import seeded
from lsncli.errors import LsnError
from lsncli.prompts.loop import (
    WARMUP_RATE,
    batches,
    make_optimizer,
    rate_at,
    restore,
    run_epoch,
    snapshot,
)
from lsncli.prompts.settings import preset
from lsncli.types import Rows

CPU = torch.device("cpu")
SETTINGS = preset("positive", rate=0.002, epochs=50)


class TestRates:
    def test_half_a_cosine_from_the_full_rate_towards_zero(self) -> None:
        assert rate_at(0, SETTINGS) == 0.002
        assert rate_at(25, SETTINGS) == pytest.approx(0.001)
        assert 0 < rate_at(49, SETTINGS) == pytest.approx(0.001 * (1 - math.cos(math.pi / 50)))

    def test_the_rates_are_those_of_torchs_cosine_schedule(self) -> None:
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.002)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50)
        for epoch in range(50):
            assert rate_at(epoch, SETTINGS) == pytest.approx(schedule.get_last_lr()[0], rel=1e-9)
            optimizer.step()
            schedule.step()

    def test_warm_up_goes_before_the_schedule_as_in_coop(self) -> None:
        warm = replace(SETTINGS, warmup=2)
        assert [rate_at(epoch, warm) for epoch in range(4)] == [
            WARMUP_RATE,
            WARMUP_RATE,
            rate_at(0, SETTINGS),
            rate_at(1, SETTINGS),
        ]
        assert rate_at(1, replace(warm, schedule="constant")) == WARMUP_RATE == 1e-5

    def test_a_constant_rate_is_constant(self) -> None:
        constant = replace(SETTINGS, schedule="constant")
        assert {rate_at(epoch, constant) for epoch in range(50)} == {0.002}


def made_rows(count: int = 10, dtype=np.float16) -> Rows:
    features = random(count, 4, seed=1).numpy().astype(dtype)
    return Rows(features, (np.arange(count) % 3).astype(np.int32))


class TestBatches:
    @given(count=st.integers(3, 30), size=st.integers(1, 40), seed=st.integers(0, 99))
    def test_an_epoch_is_every_row_once_in_batches_of_the_size(self, count, size, seed) -> None:
        turn = np.arange(count) / 10  # row i points there
        rows = Rows(np.stack([np.cos(turn), np.sin(turn)], 1), (np.arange(count) % 3).astype(np.int32))
        found = list(batches(rows, 3, size, seeded(seed), CPU))
        assert [len(labels) for _, labels in found[:-1]] == [size] * (len(found) - 1)
        order = [round(10 * math.atan2(y, x)) for images, _ in found for x, y in images.tolist()]
        labels = torch.cat([labels for _, labels in found])
        assert sorted(order) == list(range(count))
        assert labels.tolist() == rows.labels[order].tolist()  # each with its label

    def test_every_epoch_has_an_order_of_its_own_and_the_seed_decides_it(self) -> None:
        def epochs(seed: int) -> list[Tensor]:
            data = batches(made_rows(), 3, 10, seeded(seed), CPU)
            return [images for _ in range(2) for images, _ in data]

        first, second = epochs(3)
        assert not torch.equal(first, second)
        for one, again in zip(epochs(3), (first, second), strict=True):
            assert torch.equal(one, again)
        assert not torch.equal(epochs(4)[0], first)

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    def test_images_are_unit_float32_rows_whatever_the_store_holds(self, dtype) -> None:
        data = batches(made_rows(dtype=dtype), 3, 4, seeded(0), CPU)
        assert (data.images.dtype, data.labels.dtype) == (torch.float32, torch.int64)
        torch.testing.assert_close(data.images.norm(dim=1), torch.ones(10))

    def test_rows_that_cannot_be_learned_from_are_refused(self) -> None:
        rows = made_rows()
        with pytest.raises(LsnError, match=r"^Training needs labelled rows; found none\."):
            batches(Rows(rows.features[:0], rows.labels[:0]), 3, 8, seeded(0), CPU)
        with pytest.raises(LsnError, match=r"^Training needs at least 2 classes; found 1\."):
            batches(rows, 1, 8, seeded(0), CPU)
        with pytest.raises(LsnError, match=r"labels: expected 0 to 1, found 0 to 2\."):
            batches(rows, 2, 8, seeded(0), CPU)
        with pytest.raises(LsnError, match=r"labels: expected 0 to 2, found -1 to 1\."):
            batches(Rows(rows.features, rows.labels - 1), 3, 8, seeded(0), CPU)


class TestEpoch:
    def test_its_loss_is_the_mean_over_rows_not_over_batches(self) -> None:
        data = batches(made_rows(10), 3, 4, seeded(0), CPU)  # the last batch has two rows
        point = torch.zeros(1, requires_grad=True)
        seen: list[tuple[float, int]] = []

        def loss_of(images: Tensor, labels: Tensor) -> Tensor:
            loss = labels.float().mean() + 0 * point.sum()
            seen.append((loss.item(), len(labels)))
            return loss

        notes: list[tuple[int, str]] = []
        optimizer = torch.optim.SGD([point], lr=0.25)
        loss = run_epoch(data, optimizer, loss_of, lambda step, note="": notes.append((step, note)))
        assert [count for _, count in seen] == [4, 4, 2]
        assert loss == pytest.approx(0.9)  # labels 0 1 2 0 1 2 0 1 2 0
        assert notes == [(1, f"loss {value:.3f}, rate 0.25") for value, _ in seen]

    def test_one_step_a_batch_without_gradients_of_the_last(self) -> None:
        data = batches(made_rows(10), 3, 5, seeded(0), CPU)
        point = torch.zeros(1, requires_grad=True)
        run_epoch(data, torch.optim.SGD([point], lr=0.5), lambda *_: 3 * point.sum(), lambda *_: None)
        assert point.item() == -2 * 0.5 * 3

    def test_a_gradient_is_computed_again_while_it_can_take_less_memory(self) -> None:
        data = batches(made_rows(10), 3, 5, seeded(0), CPU)
        point, room = torch.zeros(1, requires_grad=True), 0

        def loss_of(*_: object) -> Tensor:
            (2 * point.sum()).backward()  # part of a gradient, before memory runs out
            if room < 2:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")
            point.grad = None
            return 3 * point.sum()

        def less() -> bool:
            nonlocal room
            room += 1
            return room < 3

        optimizer = torch.optim.SGD([point], lr=0.5)
        run_epoch(data, optimizer, loss_of, lambda *_: None, less)
        assert (point.item(), room) == (-2 * 0.5 * 3, 2)
        room = -5
        with pytest.raises(torch.cuda.OutOfMemoryError):
            run_epoch(data, optimizer, loss_of, lambda *_: None, lambda: False)

    @pytest.mark.parametrize("value", [math.inf, math.nan])
    def test_a_loss_that_is_no_number_ends_it_with_a_sentence(self, value: float) -> None:
        data = batches(made_rows(), 3, 5, seeded(0), CPU)
        point = torch.zeros(1, requires_grad=True)
        with pytest.raises(LsnError, match=rf"^Training diverged: the loss became {value}\.") as caught:
            run_epoch(data, torch.optim.SGD([point], lr=1), lambda *_: point.sum() + value, print)
        assert caught.value.hint == "Use a lower --rate."
        assert point.item() == 0  # nothing was done with it


def test_sgd_is_coops_with_momentum_and_weight_decay() -> None:
    point = torch.tensor([2.0], requires_grad=True)
    optimizer = make_optimizer([point], replace(SETTINGS, rate=0.1, momentum=0.9, weight_decay=0.01))
    value, velocity = 2.0, 0.0
    for gradient in (1.0, -3.0, 0.5):
        point.grad = torch.tensor([gradient])
        optimizer.step()
        velocity = 0.9 * velocity + gradient + 0.01 * value
        value -= 0.1 * velocity
        assert point.item() == pytest.approx(value, rel=1e-6)


def test_adam_is_the_papers_without_weight_decay() -> None:
    point = torch.tensor([2.0], requires_grad=True)
    optimizer = make_optimizer([point], replace(preset("negative"), rate=0.1))
    value, mean, square = 2.0, 0.0, 0.0
    for step, gradient in enumerate((1.0, -3.0, 0.5), start=1):
        point.grad = torch.tensor([gradient])
        optimizer.step()
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        value -= 0.1 * (mean / (1 - 0.9**step)) / (math.sqrt(square / (1 - 0.999**step)) + 1e-8)
        assert point.item() == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("name", ["sgd", "adam"])
class TestState:
    """Three parameters, one of which has never had a turn."""

    def new(self, name: str) -> tuple[dict[str, Tensor], torch.optim.Optimizer, torch.Generator]:
        parameters = {f"x.{k}": random(2, 3, seed=k).float().requires_grad_() for k in range(3)}
        settings = replace(SETTINGS, optimizer=name, rate=0.1)
        return parameters, make_optimizer(list(parameters.values()), settings), seeded(5)

    def go_on(self, parameters, optimizer, generator, which=(0, 1), steps: int = 3) -> list[Tensor]:
        for _ in range(steps):
            optimizer.zero_grad()
            sum(
                (parameters[f"x.{k}"] ** 2 * torch.rand(3, generator=generator)).sum() for k in which
            ).backward()
            optimizer.step()
        return [parameter.detach().clone() for parameter in parameters.values()]

    def test_what_goes_on_from_a_snapshot_goes_on_to_the_bit(self, name: str) -> None:
        whole = self.new(name)
        self.go_on(*whole)
        kept = snapshot(whole[0], whole[1], whole[2], (3.0, 2.5))
        assert kept.history == (3.0, 2.5)
        expected = [self.go_on(*whole), self.go_on(*whole, which=(0, 1, 2))]
        for _ in range(2):  # a checkpoint is not used up by the one who goes on from it
            other = self.new(name)
            self.go_on(*other, steps=1)
            restore(kept, *other)
            found = [self.go_on(*other), self.go_on(*other, which=(0, 1, 2))]
            for one, another in zip(expected, found, strict=True):
                assert all(torch.equal(a, b) for a, b in zip(one, another, strict=True))

    def test_a_snapshot_is_a_copy(self, name: str) -> None:
        state = self.new(name)
        self.go_on(*state)
        kept = snapshot(*state, ())
        before = {key: tensor.clone() for key, tensor in kept.tensors.items()}
        self.go_on(*state)
        assert kept.tensors.keys() >= {"x.0", "x.1", "x.2", "generator"}
        assert not any(tensor.requires_grad for tensor in kept.tensors.values())
        for key, tensor in kept.tensors.items():
            assert torch.equal(tensor, before[key])
        assert any(key.startswith("optimizer.0.") for key in kept.tensors)
        assert not any(key.startswith("optimizer.2.") for key in kept.tensors)  # it has had no turn

    @pytest.mark.parametrize("damage", ["missing", "shape", "generator"])
    def test_a_checkpoint_of_something_else_is_a_sentence(self, name: str, damage: str) -> None:
        state = self.new(name)
        self.go_on(*state)
        kept = snapshot(*state, ())
        if damage == "missing":
            del kept.tensors["x.1"]
        else:
            kept.tensors["x.1" if damage == "shape" else damage] = torch.zeros(7, 5)
        with pytest.raises(LsnError, match=r"^The checkpoint does not fit this training: ") as caught:
            restore(kept, *self.new(name))
        assert caught.value.hint == "Start again with --restart."
