"""A file system in memory that fails as networks do, and counts what is asked of it."""

from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.memory import MemoryFileSystem


class Flaky(MemoryFileSystem):
    """``flaky://``: ``plan`` says, by the number of the call, what to raise (None = nothing)."""

    protocol = "flaky"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    plan: Callable[[int], Exception | None] = staticmethod(lambda number: None)
    calls: ClassVar[Counter[str]] = Counter()
    fetched = 0

    @classmethod
    def reset(cls) -> None:
        cls.store.clear()
        cls.pseudo_dirs[:] = [""]
        cls.behave(lambda number: None)

    @classmethod
    def behave(cls, plan: Callable[[int], Exception | None]) -> None:
        cls.plan = staticmethod(plan)
        cls.calls, cls.fetched = Counter(), 0

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return MemoryFileSystem._strip_protocol(path.replace("flaky://", "memory://"))

    def _ask(self, what: str) -> None:
        number = self.calls.total()
        self.calls[what] += 1
        if (error := self.plan(number)) is not None:
            raise error

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **other: Any) -> bytes:
        self._ask("cat")
        data = super().cat_file(path, start, end)
        type(self).fetched += len(data)
        return data

    def ls(self, path: str, detail: bool = True, **other: Any) -> Any:
        self._ask("ls")
        return super().ls(path, detail=detail)

    def info(self, path: str, **other: Any) -> Any:
        self._ask("info")
        return super().info(path)


fsspec.register_implementation("flaky", Flaky, clobber=True)


def put(files: dict[str, bytes]) -> None:
    Flaky().pipe({f"flaky://{name}": data for name, data in files.items()})
