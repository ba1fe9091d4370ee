"""Values out of a file as JSON or TOML, believed only if they are of the types that are expected."""

import json
import tomllib
from collections.abc import Callable
from dataclasses import is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")

LARGEST = 2**63
DEEPEST = 100
"""Lists and objects in one another; ours have less than ten."""
MOST_TOML = 1 << 20
"""Bytes of a TOML file, which is written by hand."""


def parsed(text: str | bytes, *, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """What a JSON text says. Raises ValueError, also for one that is nested more than DEEPEST times.

    ``pairs`` makes something else than a dict of the names and values of an object, as for ``json.loads``.
    """
    try:
        value = json.loads(text, object_pairs_hook=pairs)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    _check_depth(value)
    return value


def read_toml(path: Path) -> dict[str, Any]:
    """What a TOML file says. Raises OSError, and ValueError as ``parsed`` and above MOST_TOML bytes."""
    with path.open("rb") as file:
        data = file.read(MOST_TOML + 1)
    if len(data) > MOST_TOML:
        raise ValueError(f"it is larger than {MOST_TOML >> 10} KiB")
    try:
        found = tomllib.loads(data.decode("utf-8").replace("\r\n", "\n"))
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    _check_depth(found)
    return found


def _check_depth(value: Any) -> None:
    """Raise ValueError where it would be hard to look at a value, or to show it: each level is a call."""
    level = [value]
    for _ in range(DEEPEST):
        level = [
            inner
            for one in level
            if isinstance(one, list | dict)
            for inner in (one.values() if isinstance(one, dict) else one)
            if isinstance(inner, list | dict)
        ]
        if not level:
            return
    raise ValueError("nested too deep")


def typed(kind: type[T], value: Any, what: str = "the value") -> T:
    """``value`` as a ``kind``: str, bool, int, float, a union, tuple, dict or dataclass of such, or Any.

    Lists become tuples and objects dataclasses; every field is checked by its annotation. ``what`` names the
    value in the ValueError for one that does not fit. A bool is no number, and an int has 64 bits.
    """
    found: Any = _typed(kind, value, what)
    return found  # type: ignore[no-any-return]


def _typed(kind: Any, value: Any, what: str) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin in (Union, UnionType):
        return _one_of(inner, value, what)
    if origin is tuple and isinstance(value, list | tuple):
        kinds = [inner[0]] * len(value) if inner[-1] is Ellipsis else list(inner)
        if len(kinds) == len(value):
            return tuple(_typed(one, item, what) for one, item in zip(kinds, value, strict=True))
    elif origin is dict and isinstance(value, dict):
        return {_typed(inner[0], k, what): _typed(inner[1], v, what) for k, v in value.items()}
    elif is_dataclass(kind) and isinstance(value, dict):
        hints = get_type_hints(kind)
        fields = {name: _typed(hints.get(name, Any), one, name) for name, one in value.items()}
        made: Any = kind  # a type that is_dataclass has narrowed cannot be called, says mypy
        return made(**fields)
    elif kind in (int, float) and type(value) is int and abs(value) < LARGEST:
        return value  # 100 stays 100 as a float, too: digests are made of what was written
    elif kind in (float, str, bool, NoneType) and type(value) is kind:
        return value
    raise ValueError(f"{what}: expected {getattr(kind, '__name__', kind)}, found {str(value)[:40]!r}")


def _one_of(kinds: tuple[Any, ...], value: Any, what: str) -> Any:
    for kind in kinds:
        try:
            return _typed(kind, value, what)
        except (ValueError, TypeError):
            continue
    raise ValueError(f"{what}: found {str(value)[:40]!r}")
