"""The runtime for the work ahead: the fastest in total, measured when it is worth it, and kept."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lsncli.backbones import runtime_choice, runtime_of
from lsncli.backbones.runtime_choice import (
    MANY,
    for_images,
    measure,
    runtimes_key,
)
from lsncli.errors import Unavailable
from lsncli.machine import keep_measured, measurements_file
from lsncli.types import Fingerprint

FINGERPRINT = Fingerprint(
    *("fake", "", "ab" * 32, 4, 8, "bicubic", "shortest", (0.5, 0.5, 0.5), (0.2, 0.2, 0.2), "fp32", 100.0)
)


class Clock:
    """A clock that only computing advances, so that no test depends on the machine's."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


@dataclass(frozen=True)
class Timed:
    """A backbone whose runtimes take so many seconds an image, and to get ready."""

    clock: Clock
    image: dict[str, float]
    ready: dict[str, float] = field(default_factory=dict)
    broken: tuple[str, ...] = ()
    requested: str = ""
    made: list[str] = field(default_factory=list)
    fingerprint: Fingerprint = FINGERPRINT

    @property
    def runtime(self) -> str:
        return self.requested or "torch"

    @property
    def runtimes(self) -> tuple[str, ...]:
        return (self.requested,) if self.requested else tuple(self.image)

    def on_runtime(self, name: str) -> "Timed":
        if name in self.broken:
            raise Unavailable(f"{name} does not work.")
        if name not in self.made:
            self.made.append(name)
            self.clock.now += self.ready.get(name, 0)
        return replace(self, requested=name)

    def preprocess(self, image: Any) -> torch.Tensor:
        return torch.zeros(3, 8, 8)

    def encode(self, pixels: torch.Tensor) -> Any:
        self.clock.now += len(pixels) * self.image[self.runtime]
        return np.zeros((len(pixels), 4), np.float16)


@pytest.fixture
def clock(monkeypatch, tmp_path: Path) -> Clock:
    clock = Clock()
    monkeypatch.setattr(runtime_choice, "time", clock)
    monkeypatch.setenv("LSN_CACHE", str(tmp_path))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    return clock


def test_the_fastest_in_total_is_chosen_and_its_time_kept(clock: Clock) -> None:
    backbone = Timed(clock, {"torch": 1.0, "fused": 0.5, "openvino": 0.4}, {"openvino": 12.0})
    assert runtime_of(for_images(backbone, 100_000)) == "openvino"
    (kept,) = json.loads(measurements_file().read_text()).values()
    assert {name: row["image"] for name, row in kept.items()} == pytest.approx(backbone.image)
    assert kept["openvino"]["ready"] == pytest.approx(12)
    again = replace(backbone, made=[])
    spent = clock.now
    assert runtime_of(for_images(again, 100_000)) == "openvino"
    assert clock.now - spent == pytest.approx(12)  # made, and not measured again
    assert runtime_of(for_images(backbone, MANY)) == "openvino"
    slow = {"torch": (1, 0), "fused": (2, 0), "openvino": (0.9, 100)}
    rows = {name: {"image": image, "ready": ready} for name, (image, ready) in slow.items()}
    keep_measured(runtimes_key(FINGERPRINT), rows)
    assert runtime_of(for_images(backbone, 900)) == "torch"  # 900 s, against 100 + 810
    assert runtime_of(for_images(backbone, 1100)) == "openvino"


def test_the_self_test_takes_at_most_its_share(clock: Clock) -> None:
    for images in (600, 3_000, 10_000, 100_000, 1_000_000):
        began = clock.now
        measure(Timed(clock, {"torch": 0.1, "fused": 0.07, "openvino": 0.05}), images)
        assert clock.now - began <= runtime_choice.SHARE * images * 0.1 + 4 * 0.1  # the first two turns


@pytest.mark.parametrize(("images", "tried"), [(600, set()), (3_000, {"torch", "fused"})])
def test_too_little_work_is_not_measured(clock: Clock, images: int, tried: set[str]) -> None:
    backbone = Timed(clock, {"torch": 0.1, "fused": 0.07})
    assert set(measure(backbone, images)) == tried
    assert (runtime_of(for_images(backbone, images)) == "fused") == bool(tried)


def test_few_images_one_runtime_or_one_that_was_asked_for_are_not_measured(clock: Clock) -> None:
    backbone = Timed(clock, {"torch": 1.0, "fused": 0.5})
    assert for_images(backbone, MANY - 1) is backbone
    only = Timed(clock, {"torch": 1.0})
    assert for_images(only, 1_000_000) is only
    asked = backbone.on_runtime("torch")
    assert for_images(asked, 1_000_000) is asked
    assert clock.now == 0


def test_a_runtime_that_does_not_work_here_is_left_out(clock: Clock) -> None:
    backbone = Timed(clock, {"torch": 1.0, "fused": 0.1}, broken=("fused",))
    assert runtime_of(for_images(backbone, 100_000)) == "torch"


@pytest.mark.parametrize(
    "times",
    ["", "[]", "{", '{"KEY": {"torch": {"image": "fast", "ready": 0}}}', '{"KEY": {"torch": 3}}', "[" * 9999],
)
def test_a_damaged_file_of_times_is_measured_again(clock: Clock, times: str) -> None:
    measurements_file().write_text(times.replace("KEY", runtimes_key(FINGERPRINT)))
    assert runtime_of(for_images(Timed(clock, {"torch": 1.0, "fused": 0.5}), 100_000)) == "fused"
    assert runtimes_key(FINGERPRINT) in json.loads(measurements_file().read_text())


def test_a_cache_that_cannot_be_written_is_no_error(clock: Clock, monkeypatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LSN_CACHE", str(tmp_path / "file"))
    assert runtime_of(for_images(Timed(clock, {"torch": 1.0, "fused": 0.5}), 100_000)) == "fused"


def test_times_are_of_one_machine_model_and_number_of_threads(clock: Clock, monkeypatch) -> None:
    keys = {runtimes_key(FINGERPRINT), runtimes_key(replace(FINGERPRINT, precision="int8"))}
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    keys.add(runtimes_key(FINGERPRINT))
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    keys.add(runtimes_key(FINGERPRINT))
    assert len(keys) == 4
    assert runtimes_key(replace(FINGERPRINT, weights="cd" * 32)) in keys
