"""What a fetch may cost: seconds by a clock of our own, and bytes."""

import asyncio
import threading
from types import SimpleNamespace

import pytest

from lsncli.errors import UsageError
from lsncli.images import budget as module
from lsncli.images.budget import (
    CURRENT,
    SECONDS,
    SLOWEST,
    Budget,
    FetchTimeout,
    Unfetchable,
    run_in_thread,
    with_deadline,
)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Its ``now`` is the time."""
    time = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(module, "clock", lambda: time.now)
    return time


def test_a_try_has_half_of_the_time_and_each_byte_earns_some(
    clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SECONDS, "10")
    budget = Budget(1 << 30)
    assert (budget.left(), budget.left_of_try()) == (10, 5)
    clock.now += 4
    budget.received(3 * SLOWEST)
    assert (budget.left(), budget.left_of_try()) == (9, 4)
    budget.try_again()
    budget.received(10)  # of the second try: what came in the first has been paid for
    assert (budget.left(), budget.left_of_try()) == (9, 8)
    clock.now += 9
    assert (budget.left(), budget.left_of_try()) == (0, -1)


def test_an_expected_size_earns_its_time_from_the_start(clock: SimpleNamespace) -> None:
    assert Budget(expected=100 * SLOWEST).left() == 60 + 100


def test_time_on_hold_does_not_count(clock: SimpleNamespace) -> None:
    budget = Budget()
    with budget.on_hold():
        clock.now += 1000
        assert budget.left() == 60
    assert (budget.left(), budget.left_of_try()) == (60, 30)


def test_bytes_beyond_the_limit_are_refused() -> None:
    budget = Budget(5)
    budget.received(5)
    with pytest.raises(Unfetchable, match="too large: more than 0 MiB"):
        budget.received(6)
    with pytest.raises(Unfetchable, match="too large: more than 3 MiB"):
        Budget(3 << 20).received(4 << 20)
    with pytest.raises(Unfetchable, match="why"):
        Budget(5, excess="why").received(6)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "soon", "", "86401"])
def test_seconds_that_are_none_are_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECONDS, text)
    with pytest.raises(
        UsageError, match=f"{SECONDS}: expected seconds above 0, up to 86,400, found '{text}'"
    ):
        Budget()


def test_a_coroutine_that_is_late_is_cancelled(clock: SimpleNamespace) -> None:
    ended = []

    async def endless(step: float) -> None:
        try:
            while True:
                clock.now += step
                await asyncio.sleep(0)
        finally:
            ended.append(True)

    async def seven(number: int, *, more: int) -> int:
        await asyncio.sleep(0)
        return number + more

    async def wrong() -> None:
        raise KeyError("a")

    # Nothing wakes the watcher before the time is over but its own wait, so let that be short.
    budget = Budget()
    clock.now += 29.999
    with pytest.raises(FetchTimeout):
        asyncio.run(with_deadline(endless, budget)(0.5))
    assert ended == [True]
    assert asyncio.run(with_deadline(seven, Budget())(3, more=4)) == 7
    with pytest.raises(KeyError):
        asyncio.run(with_deadline(wrong, Budget())())


@pytest.mark.parametrize("left", [0.0, -0.5])
def test_a_try_ends_when_its_time_is_over_and_not_a_second_later(left: float) -> None:
    asked: list[None] = []

    def left_of_try() -> float:
        asked.append(None)
        return left if len(asked) == 1 else -10.0

    async def waits() -> None:
        await asyncio.sleep(60)

    budget, release = SimpleNamespace(left_of_try=left_of_try), threading.Event()
    with pytest.raises(FetchTimeout):
        asyncio.run(with_deadline(waits, budget)())
    assert len(asked) == 1
    asked.clear()
    try:
        with pytest.raises(FetchTimeout):
            run_in_thread(release.wait, budget)
    finally:
        release.set()
    assert len(asked) == 1


def test_a_library_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECONDS, "0.1")
    release, began = threading.Event(), threading.Event()
    seen, budget = [], Budget()

    def hangs() -> None:
        seen.append(CURRENT.get())
        began.set()
        release.wait(60)

    token = CURRENT.set(budget)
    try:
        with pytest.raises(FetchTimeout):
            run_in_thread(hangs, budget)
        assert began.wait(60)
    finally:
        release.set()
        CURRENT.reset(token)
    assert seen == [budget]


def test_results_and_errors_of_a_library_come_back() -> None:
    assert run_in_thread(lambda: 7, Budget()) == 7
    with pytest.raises(KeyError):
        run_in_thread(lambda: {}["a"], Budget())
