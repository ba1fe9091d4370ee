"""A stage: order, bounds, errors, an early end."""

import threading
import time
from collections.abc import Generator

import pytest
from waiting import PATIENCE, wait_until

from lsncli.extraction.encoder import in_threads


def numbers(count: int, seen: list[int] | None = None) -> Generator[int, None, None]:
    for number in range(count):
        if seen is not None:
            seen.append(number)
        yield number


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("ahead", [1, 4])
def test_results_come_in_order_whoever_is_done_first(threads: int, ahead: int) -> None:
    def uneven(number: int) -> int:
        time.sleep(0.003 * (number % 3 == 0))
        return number * number

    found = list(in_threads(numbers(25), uneven, threads=threads, ahead=ahead, name="test"))
    assert found == [number * number for number in range(25)]


def test_nothing_in_gives_nothing_out() -> None:
    assert list(in_threads(numbers(0), str, name="test")) == []


def test_it_runs_ahead_so_far_and_no_further() -> None:
    seen: list[int] = []
    stage = in_threads(numbers(50, seen), lambda number: number, threads=2, ahead=3, name="test")
    for given, _ in enumerate(stage, 1):
        wait_until(lambda given=given: len(seen) == given + 2 + 3, "as many as it may take")
        if given == 10:
            break
    stage.close()
    assert len(seen) == 15  # the threads have ended and took no more


def test_threads_work_at_the_same_time() -> None:
    together = threading.Barrier(3, timeout=PATIENCE)

    def work(number: int) -> int:
        together.wait()
        return number

    assert list(in_threads(numbers(6), work, threads=3, name="test")) == list(range(6))


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_of_the_work_comes_in_its_place(threads: int) -> None:
    def picky(number: int) -> int:
        if number == 3:
            raise ValueError("no threes")
        return number

    found: list[int] = []
    with pytest.raises(ValueError, match="no threes"):
        found.extend(in_threads(numbers(9), picky, threads=threads, ahead=2, name="test"))
    assert found == [0, 1, 2]


def test_an_error_of_the_source_comes_behind_what_was_before_it() -> None:
    def broken() -> Generator[int, None, None]:
        yield 1
        yield 2
        raise KeyboardInterrupt

    found: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        found.extend(in_threads(broken(), lambda number: number, threads=2, name="test"))
    assert found == [1, 2]


def test_an_early_end_stops_the_threads_and_closes_the_source() -> None:
    closed = []

    def source() -> Generator[int, None, None]:
        try:
            yield from range(1000)
        finally:
            closed.append(True)

    stage = in_threads(source(), lambda number: number, threads=3, name="test-early")
    assert next(stage) == 0
    stage.close()
    assert closed == [True]
    assert not [one for one in threading.enumerate() if one.name.startswith("test-early")]
