"""Values that came out of a file as JSON, believed only if they are of the types that are expected."""

import json
from dataclasses import is_dataclass
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")

LARGEST = 2**63


def parsed(text: str) -> Any:
    """What a JSON text says. Raises ValueError, also for one that is nested beyond all reason."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


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
