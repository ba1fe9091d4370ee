"""What waits is done side by side, and what comes of it keeps its order."""

import threading
import time

import pytest

from lsncli.images.together import in_order


def test_results_come_in_order_and_tasks_run_side_by_side() -> None:
    all_there = threading.Barrier(4, timeout=5)

    def task(number: int) -> int:
        all_there.wait()
        time.sleep(0.01 * (4 - number % 4))
        return number

    assert list(in_order([lambda number=number: task(number) for number in range(8)], 4)) == list(range(8))
    assert list(in_order([], 4)) == []


def test_an_error_is_raised_in_its_place() -> None:
    results = in_order([lambda: 1, lambda: 1 // 0, lambda: 3], 2)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_nothing_new_is_begun_once_it_is_closed() -> None:
    go, begun = threading.Event(), []

    def slow(number: int) -> int:
        begun.append(number)
        if number:
            go.wait(5)
        return number

    results = in_order([lambda number=number: slow(number) for number in range(50)], 2)
    assert next(results) == 0
    began = time.monotonic()
    results.close()
    assert time.monotonic() - began < 1  # it does not wait for those that run
    go.set()
    time.sleep(0.05)
    assert len(begun) <= 4
