"""JSON from a file is believed only where it is of the type that is expected."""

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsncli.records import parsed, typed
from lsncli.types import Fingerprint


@dataclass(frozen=True)
class Point:
    x: float
    names: tuple[str, ...] = ()
    size: int | None = None


def test_objects_become_records_and_lists_tuples() -> None:
    found = typed(Point, {"x": 1, "names": ["a", "b"]})
    assert found == Point(1, ("a", "b"))
    assert type(found.x) is int  # as it was written: digests hang on it
    assert typed(tuple[tuple[str, str], ...], [["a", "b"]]) == (("a", "b"),)
    assert typed(dict[str, Any], {"a": [1]}) == {"a": [1]}


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (int, True),
        (int, 1.0),
        (int, 2**70),
        (float, 10**400),
        (float, "1"),
        (str, None),
        (bool, 1),
        (tuple[str, ...], "ab"),
        (tuple[float, float], [1.0]),
        (dict[str, int], {"a": "b"}),
        (Point, []),
        (Point, {"x": None}),
        (Point, {"x": 1, "size": "2"}),
    ],
)
def test_what_does_not_fit_is_refused(kind: Any, value: Any) -> None:
    with pytest.raises(ValueError, match=r"expected|found"):
        typed(kind, value)


@pytest.mark.parametrize("value", [{}, {"x": 1, "other": 2}])
def test_a_record_has_all_its_fields_and_no_others(value: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        typed(Point, value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(list(Fingerprint.__dataclass_fields__)), json_values))
def test_any_json_is_a_record_or_an_error_that_readers_expect(value: dict[str, Any]) -> None:
    try:
        found = typed(Fingerprint, value)
    except (TypeError, ValueError):
        return
    assert isinstance(found.model, str)
    assert all(isinstance(one, float | int) for one in found.mean)


@pytest.mark.parametrize("text", ["[" * 100_000, "{", "", "9" * 10_000])
def test_a_text_that_is_no_json_or_beyond_reason_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parsed(text)
