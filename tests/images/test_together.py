"""What waits is done side by side, and what comes of it keeps its order."""

import threading

import pytest
from waiting import PATIENCE

from lsncli.images.listing import in_order


def test_results_come_in_order_and_tasks_run_side_by_side() -> None:
    all_there = threading.Barrier(4, timeout=PATIENCE)
    ended = [threading.Event() for _ in range(8)]

    def task(number: int) -> int:
        all_there.wait()
        if number % 4 < 3:  # of four at a time the last ends first
            assert ended[number + 1].wait(PATIENCE)
        ended[number].set()
        return number

    assert list(in_order([lambda number=number: task(number) for number in range(8)], 4)) == list(range(8))
    assert list(in_order([], 4)) == []


def test_an_error_is_raised_in_its_place() -> None:
    results = in_order([lambda: 1, lambda: 1 // 0, lambda: 3], 2)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_nothing_new_is_begun_once_it_is_closed_and_nobody_waits_for_what_runs() -> None:
    before, go = set(threading.enumerate()), threading.Event()
    begun: list[int] = []
    ended: list[int] = []

    def slow(number: int) -> int:
        begun.append(number)
        if number:
            go.wait(PATIENCE)
        ended.append(number)
        return number

    results = in_order([lambda number=number: slow(number) for number in range(50)], 2)
    assert next(results) == 0
    results.close()
    assert ended == [0]  # those that run were not waited for: they wait for this
    go.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE)
    assert set(begun) == set(ended) <= {0, 1, 2}
