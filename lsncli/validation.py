"""Read JSON and TOML from files that anyone may have written, and check every value by its type.

One validator, ``validate``, serves the files that lsn writes and those that users write.
"""

import json
import tomllib
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")

LARGEST = 2**63
DEEPEST = 100
"""Lists and objects in one another; ours have less than ten."""
MOST_TOML = 1 << 20
"""Bytes of a TOML file, which is written by hand."""


def parse_json(text: str | bytes, *, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
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
    """What a TOML file says. Raises OSError, and ValueError as ``parse_json`` and above MOST_TOML bytes."""
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


class FieldError(ValueError):
    """A value that is missing, unknown or not as expected; ``hint`` names the keys that are known."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True)
class Constraint:
    """What a value must be beside its type, as metadata of ``Annotated`` around str or int."""

    description: str
    """Messages say "expected" and this."""
    holds: Callable[[Any], bool]


Text = Annotated[str, Constraint("a text", lambda text: bool(text.strip()))]
"""A string that is not blank."""
Count = Annotated[int, Constraint("a whole number above 0", lambda number: number > 0)]

REST = {"rest": True}
"""Metadata of the one field of a dataclass, a dict, that takes every key without a field."""


def validate(kind: type[T], value: Any, where: str = "the value") -> T:
    """Return ``value`` as a ``kind``: str, bool, int, float, union, tuple, dict or dataclass of such, or Any.

    Lists become tuples, and objects (tables in TOML) become dataclasses, whose fields are checked by their
    annotations. A bool is no number, and an int has 64 bits. ``where`` names the file, table or field in
    messages. Raises FieldError for a value of another type or against a ``Constraint``, and for an unknown or
    missing key.
    """
    result: Any = _validate(kind, value, where, "")
    return result  # type: ignore[no-any-return]


def wrong_value(where: str, key: str, expected: str, value: Any) -> FieldError:
    """Return the error for ``value`` under ``key``, a path of keys such as ``ood.Cars``; "" for ``where``."""
    text = repr(value)
    text = text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
    return FieldError(f"{where}, key '{key}': expected {expected}, found {text}".replace(", key '':", ":"))


def missing_key(where: str, key: str, expected: str) -> FieldError:
    """Return the error for a key that must be there."""
    return FieldError(f"{where}: expected {expected} under the key '{key}', found none")


SHOWN = 60
"""Characters of an unexpected value that a message shows."""


def _validate(kind: Any, value: Any, where: str, key: str) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any or _is_scalar(kind, value):
        return value  # 100 stays 100 as a float, too: digests are made of what was written
    if origin in (Union, UnionType):
        return _member(inner, value, where, key)
    if origin is Annotated and _is_scalar(inner[0], value) and inner[1].holds(value):
        return value
    if origin is Literal and isinstance(value, str) and value in inner:
        return value
    if origin is tuple and isinstance(value, list | tuple):
        kinds = [inner[0]] * len(value) if inner[-1] is Ellipsis else list(inner)
        if len(kinds) == len(value):
            return tuple(_validate(one, item, where, key) for one, item in zip(kinds, value, strict=True))
    elif origin is dict and isinstance(value, dict):
        path = f"{key}." if key else ""
        return {
            _validate(inner[0], k, where, key): _validate(inner[1], v, where, path + k)
            for k, v in value.items()
        }
    elif is_dataclass(kind) and isinstance(value, dict):
        return _record(kind, value, f"{where}, [{key}]" if key else where)
    raise wrong_value(where, key, _description(kind), value)


def _is_scalar(kind: Any, value: Any) -> bool:
    if type(value) is int and kind in (int, float):
        return abs(value) < LARGEST
    return kind in (float, str, bool, NoneType) and type(value) is kind


def _member(kinds: tuple[Any, ...], value: Any, where: str, key: str) -> Any:
    """``value`` as the first member of a union that it fits."""
    if value is None and NoneType in kinds:
        return None
    others = [kind for kind in kinds if kind is not NoneType]
    if len(others) == 1:
        return _validate(others[0], value, where, key)
    for kind in others:
        try:
            return _validate(kind, value, where, key)
        except (ValueError, TypeError):
            continue
    raise wrong_value(where, key, " or ".join(map(_description, others)), value)


def _record(kind: Any, value: dict[str, Any], where: str) -> Any:
    known, takes_rest = _fields_of(kind)
    values: dict[str, Any] = {}
    for name, item in value.items():
        if name in known:
            values[name] = _validate(known[name][0], item, where, name)
        elif takes_rest:
            values.setdefault(takes_rest, {})[name] = item
        else:
            raise FieldError(
                f"{where}: there is no key {str(name)[:SHOWN]!r}", f"Expected {', '.join(sorted(known))}."
            )
    for name, (annotation, required) in known.items():
        if required and name not in values:
            raise missing_key(where, name, _description(annotation))
    return kind(**values)


@cache
def _fields_of(kind: Any) -> tuple[dict[str, tuple[Any, bool]], str]:
    """Annotation of every field and whether it is required; and the name of the ``REST`` field, or ""."""
    hints = get_type_hints(kind, include_extras=True)
    own = [one for one in fields(kind) if one.init]
    known = {
        one.name: (hints[one.name], one.default is MISSING and one.default_factory is MISSING)
        for one in own
        if one.metadata != REST
    }
    return known, next((one.name for one in own if one.metadata == REST), "")


SINGULAR = {
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    NoneType: "nothing",
}
PLURAL = {str: "texts", int: "whole numbers", float: "numbers"}


def _description(kind: Any) -> str:
    """A type in words, as messages say it behind "expected"."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return str(inner[1].description)
    if origin is Literal:
        return f"one of {', '.join(inner)}"
    if origin in (Union, UnionType):
        return " or ".join(_description(one) for one in inner if one is not NoneType)
    if origin is tuple:
        count = "" if inner[-1] is Ellipsis else f"{len(inner)} "
        return f"a list of {count}{PLURAL.get(inner[0], 'values')}"
    return SINGULAR.get(kind, "a table")
