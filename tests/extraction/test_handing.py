"""Parts are handed out until all are made, whatever becomes of the workers."""

from collections import deque
from collections.abc import Callable

import pytest

from lsncli.errors import FingerprintMismatch, LsnError, Unavailable
from lsncli.extraction.engines.local import Broken
from lsncli.extraction.engines.ray_actors import (
    LOCK_SECONDS,
    Lost,
    News,
    PartProgress,
    Ready,
    Workers,
    hand_out,
)
from lsncli.extraction.part_job import PartResult
from lsncli.types import Seconds

SIZE = 10


def made(index: int) -> PartResult:
    return PartResult(index, rows=SIZE, failures=(), found=0, encoded=SIZE, seconds=Seconds(), unrecorded=0.0)


class Fake:
    """Workers that answer at once, what ``answer`` (worker, part) says."""

    def __init__(
        self,
        answer: Callable[[int, int], News | list[News]] = lambda worker, part: made(part),
        begin: Callable[[int], News] = lambda worker: Ready(),
    ) -> None:
        self.answer, self.begin = answer, begin
        self.hired = 0
        self.given: list[tuple[int, int, float]] = []
        self.coming: deque[tuple[int, News]] = deque()

    def hire(self) -> None:
        self.coming.append((self.hired, self.begin(self.hired)))
        self.hired += 1

    def give(self, worker: int, index: int, wait: float) -> None:
        self.given.append((worker, index, wait))
        news = self.answer(worker, index)
        self.coming.extend((worker, one) for one in (news if isinstance(news, list) else [news]))

    def dismiss(self, worker: int) -> None:
        self.coming = deque(one for one in self.coming if one[0] != worker)

    def news(self) -> tuple[int, News]:
        return self.coming.popleft()


def handed(workers: Workers, parts: int = 6, count: int = 2) -> tuple[list[int], list[int]]:
    """The parts that were made, and the ticks."""
    ticks: list[int] = []
    done = hand_out(parts, workers, count, lambda step, note="": ticks.append(step))
    return [one.index for one in done], ticks


def test_every_part_is_made_once_and_by_all_workers() -> None:
    workers = Fake()
    assert handed(workers) == ([0, 1, 2, 3, 4, 5], [SIZE] * 6)
    assert [part for _, part, _ in workers.given] == [0, 1, 2, 3, 4, 5]
    assert {worker for worker, _, _ in workers.given} == {0, 1}


def test_there_are_no_more_workers_than_parts() -> None:
    workers = Fake()
    handed(workers, parts=3, count=100)
    assert workers.hired == 3


def test_the_part_of_a_lost_worker_is_made_by_another_that_waits_for_its_lock() -> None:
    workers = Fake(lambda worker, part: Lost("node died") if worker == 0 else made(part))
    assert handed(workers)[0] == [0, 1, 2, 3, 4, 5]
    assert workers.hired == 3
    again = [(worker, wait) for worker, part, wait in workers.given if part == 0]
    assert [wait for _, wait in again] == [0.0, LOCK_SECONDS]
    assert again[1][0] != 0
    assert {wait for _, part, wait in workers.given if part} == {0.0}


def test_a_part_that_every_worker_is_lost_over_ends_the_run_with_a_sentence() -> None:
    workers = Fake(lambda worker, part: Lost("out of memory.") if part == 4 else made(part))
    with pytest.raises(LsnError, match=r"3 processes were lost at part 4: out of memory\.") as caught:
        handed(workers)
    assert "Run the same command again" in caught.value.hint
    assert [part for _, part, _ in workers.given] == [0, 1, 2, 3, 4, 5, 4, 4]


def test_a_part_that_failed_is_tried_once_more_last_of_all_and_by_a_new_worker() -> None:
    failing = [1]

    def answer(worker: int, part: int) -> News:
        if part in failing:
            failing.remove(part)
            return Broken(LsnError, "The device has no memory.", "")
        return made(part)

    workers = Fake(answer)
    assert handed(workers)[0] == [0, 1, 2, 3, 4, 5]
    given = [(worker, part) for worker, part, _ in workers.given]
    first, last = [worker for worker, part in given if part == 1]
    assert given[-1] == (last, 1)
    assert workers.hired == 3
    assert [worker for worker, _ in given].count(first) == 1


def test_a_part_that_fails_twice_ends_the_run_with_its_own_error() -> None:
    error = Broken(Unavailable, "The disk is full.", "Make room.")
    with pytest.raises(Unavailable, match=r"The disk is full\.") as caught:
        handed(Fake(lambda worker, part: error if part == 2 else made(part)))
    assert caught.value.hint == "Make room."


def test_a_worker_that_cannot_begin_ends_the_run() -> None:
    other = Broken(FingerprintMismatch, "Other weights.", "")
    with pytest.raises(FingerprintMismatch, match=r"Other weights\."):
        handed(Fake(begin=lambda worker: other if worker == 1 else Ready()))


def test_workers_that_are_lost_before_they_begin_are_replaced_but_not_for_ever() -> None:
    with pytest.raises(LsnError, match=r"3 processes were lost before they could begin: no room\."):
        handed(Fake(begin=lambda worker: Lost("no room.")))
    # A worker that is ready shows that it is possible.
    workers = Fake(begin=lambda worker: Ready() if worker % 3 == 2 else Lost("no room."))
    assert handed(workers, count=2)[0] == [0, 1, 2, 3, 4, 5]


def test_a_worker_that_is_lost_while_it_has_nothing_to_do_gets_nothing_any_more() -> None:
    def answer(worker: int, part: int) -> News | list[News]:
        if worker == 1:  # is done, has nothing to do and is lost; only then the other one is lost at its part
            workers.coming.extend([(1, made(part)), (1, Lost("node died")), (0, Lost("node died"))])
        return made(part) if worker > 1 else []

    workers = Fake(answer)
    assert handed(workers, parts=2)[0] == [0, 1]
    assert [(worker, part) for worker, part, _ in workers.given] == [(0, 0), (1, 1), (2, 0)]


def test_images_are_told_once_however_often_they_were_encoded() -> None:
    tries = []

    def answer(worker: int, part: int) -> list[News]:
        tries.append(part)
        if part == 0 and tries.count(0) == 1:
            return [PartProgress(0, 4), PartProgress(0, 8), Lost("node died")]
        return [PartProgress(part, 2), PartProgress(part, 6), made(part)]

    done, ticks = handed(Fake(answer), parts=2, count=1)
    assert done == [0, 1]
    assert ticks == [4, 4, 2, 4, 4, 2]
