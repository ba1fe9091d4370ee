"""Running out of memory: what it is, computing with less, and the sentence where less does not help."""

import numpy as np
import pytest
import torch

from lsncli.errors import LsnError
from lsncli.memory import InParts, memory_errors, out_of_memory, with_less

RAN_OUT = (
    torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
    RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
    MemoryError("Unable to allocate 8 EiB for an array"),
)
OTHERWISE = (RuntimeError("expected a tensor"), ValueError("out of memory"), LsnError("out of memory"))


def test_errors_of_allocators_are_known() -> None:
    with pytest.raises(RuntimeError) as refused:
        torch.empty(1 << 55)
    for error in (*RAN_OUT, refused.value):
        assert out_of_memory(error), error
        sentence = r"^There is not enough memory for a test\."
        with pytest.raises(LsnError, match=sentence) as caught, memory_errors("a test", "Buy more."):
            raise error
        assert (caught.value.hint, caught.value.__cause__) == ("Buy more.", error)
    for error in OTHERWISE:
        assert not out_of_memory(error)
        with pytest.raises(type(error)) as same, memory_errors("a test", "Buy more."):
            raise error
        assert same.value is error


class Room:
    """Work that has room for so many rows."""

    def __init__(self, room: int) -> None:
        self.room, self.asked = room, []

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        self.asked.append(len(rows))
        if len(rows) > self.room:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return 2 * rows


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 16, 31])
@pytest.mark.parametrize("room", [1, 2, 5, 16, 100])
def test_rows_that_do_not_fit_come_in_parts(rows: int, room: int) -> None:
    work, given = Room(room), np.arange(3.0 * rows).reshape(rows, 3)
    in_parts = InParts(work)
    assert np.array_equal(in_parts(given), 2 * given)
    if rows <= room:
        assert work.asked == [rows]
    refused = sum(asked > room for asked in work.asked)
    assert np.array_equal(in_parts(given), 2 * given)
    assert sum(asked > room for asked in work.asked) == refused  # what fits is remembered
    assert InParts(Room(room))(np.empty((0, 3))).shape == (0, 3)


def test_one_row_without_room_is_the_error_and_other_errors_pass() -> None:
    with pytest.raises(torch.cuda.OutOfMemoryError):
        InParts(Room(0))(np.ones((4, 1)))

    def wrong(rows: np.ndarray) -> np.ndarray:
        raise RuntimeError("expected a tensor")

    with pytest.raises(RuntimeError, match="expected a tensor"):
        InParts(wrong)(np.ones((4, 1)))


def test_work_is_tried_again_with_less_until_there_is_no_less() -> None:
    left = 8

    def less() -> bool:
        nonlocal left
        left //= 2
        return left > 0

    def work(room: int) -> int:
        if left > room:
            raise MemoryError
        return left

    assert with_less(lambda: work(3), less) == 2
    left = 8
    with pytest.raises(MemoryError):
        with_less(lambda: work(-1), less)
    with pytest.raises(ZeroDivisionError):
        with_less(lambda: 1 // 0, less)
