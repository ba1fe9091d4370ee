"""Source that is edited for the length of a test, and which code of lsncli runs."""

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest

from lsncli.methods import source_digest as code

Node = tuple[str, str]


def forget() -> None:
    """Look at every definition again."""
    for known in (code._bare, code._neighbours, code._reached):
        known.cache_clear()


@contextmanager
def edited(changes: Mapping[str, str | Callable[[str], str]]) -> Iterator[None]:
    """Modules with another source: a whole one, or a function of the one they have."""
    read, parsed = code._source, code._module

    def source(module: str) -> str:
        change = changes.get(module)
        if callable(change):
            before = read(module)
            after = change(before)
            assert after != before, f"the edit of {module} changes nothing"
            return after
        return read(module) if change is None else change

    @cache
    def module(name: str) -> Any:
        return parsed.__wrapped__(name) if name in changes else parsed(name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(code, "_source", source)
        patch.setattr(code, "_module", module)
        forget()
        yield
    forget()


def added(line: str) -> Callable[[str], str]:
    """The source with one more line at its end."""
    return lambda text: f"{text}\n{line}\n"


def replaced(old: str, new: str) -> Callable[[str], str]:
    return lambda text: text.replace(old, new)


@contextmanager
def functions_called(without: set[Node]) -> Iterator[set[Node]]:
    """Definitions of lsncli that run, and not what runs inside of ``without``."""
    called: set[Node] = set()
    inside = threading.local()

    def profile(frame: Any, event: str, _: object) -> None:
        if event not in ("call", "return") or frame.f_code.co_filename.startswith("<"):
            return
        module = str(frame.f_globals.get("__name__", ""))
        if module.partition(".")[0] != "lsncli":
            return
        node = module, frame.f_code.co_qualname.partition(".")[0]
        depth = getattr(inside, "depth", 0)
        if node in without:
            inside.depth = depth + (1 if event == "call" else -1)
        elif event == "call" and not depth and node[1] != "<module>":
            called.add(node)

    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        yield called
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
