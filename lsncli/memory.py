"""Where memory runs out: compute with less and go on, or say in one sentence what to lower."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import numpy as np

from lsncli.errors import LsnError

T = TypeVar("T")

ALLOCATORS = (
    "out of memory",  # CUDA, cuBLAS's and cuDNN's own, MPS
    "ALLOC_FAILED",
    "can't allocate memory",  # torch on a CPU
    "not enough memory",
)
"""What the messages of torch's RuntimeErrors contain where an allocator failed."""


def out_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out, of a device or of this machine."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in ALLOCATORS)


@contextmanager
def memory_errors(what: str, hint: str) -> Iterator[None]:
    """Turn the error of running out of memory into an LsnError: there was too little for ``what``."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise LsnError(f"There is not enough memory for {what}.", hint) from error


def with_less(work: Callable[[], T], less: Callable[[], bool]) -> T:
    """Return ``work()``. Where memory runs out, call ``less`` and try again, until that returns False."""
    while True:
        try:
            return work()
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error) or not less():
                raise
        _release()  # not in the handler: until it ends, the error holds what the work had allocated


def _release() -> None:
    """Give cached memory of the device back, of which a smaller piece could not use all."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()


class InParts(Generic[T]):
    """A function of rows that is called with fewer rows at a time once memory has run out.

    ``join`` puts the results of parts together. Results of rows must not depend on other rows.
    """

    def __init__(self, work: Callable[[Any], T], join: Callable[[list[T]], T] = np.concatenate) -> None:  # type: ignore[assignment]
        self._work, self._join = work, join
        self._most: int | None = None

    def __call__(self, rows: Any) -> T:
        """Return the result of ``rows``. Raises the error if there is no memory for one."""
        if self._most is None or len(rows) <= self._most:
            try:
                return self._work(rows)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error) or len(rows) < 2:
                    raise
                self._most = min(self._most or len(rows), len(rows) // 2)  # several threads share it
            _release()
        most = self._most
        return self._join([self(rows[first : first + most]) for first in range(0, len(rows), most)])
