"""JSON from a file is believed only where it is of the type that is expected."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsncli import validation
from lsncli.types import Fingerprint
from lsncli.validation import REST, Count, FieldError, Text, parse_json, read_toml, validate


@dataclass(frozen=True)
class Point:
    x: float
    names: tuple[str, ...] = ()
    size: int | None = None


def test_objects_become_records_and_lists_tuples() -> None:
    found = validate(Point, {"x": 1, "names": ["a", "b"]})
    assert found == Point(1, ("a", "b"))
    assert type(found.x) is int  # as it was written: digests depend on it
    assert validate(tuple[tuple[str, str], ...], [["a", "b"]]) == (("a", "b"),)
    assert validate(dict[str, Any], {"a": [1]}) == {"a": [1]}


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
        validate(kind, value)


@pytest.mark.parametrize("value", [{}, {"x": 1, "other": 2}])
def test_a_record_has_all_its_fields_and_no_others(value: dict[str, Any]) -> None:
    with pytest.raises(FieldError, match=r"key '(x|other)'"):
        validate(Point, value)


@dataclass(frozen=True)
class Inner:
    name: Text
    count: Count | None = None


@dataclass(frozen=True)
class Outer:
    kind: Literal["a", "b"] = "a"
    names: str | tuple[str, ...] = ""
    sets: dict[str, Inner] = field(default_factory=dict)
    others: dict[str, Any] = field(default_factory=dict, metadata=REST)


def test_keys_without_a_field_can_be_kept() -> None:
    assert validate(Outer, {"kind": "b", "x": 1, "others": 2}).others == {"x": 1, "others": 2}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"kind": "c"}, "my.toml, key 'kind': expected one of a, b, found 'c'"),
        ({"names": 3}, "my.toml, key 'names': expected a text or a list of texts, found 3"),
        ({"sets": 3}, "my.toml, key 'sets': expected a table, found 3"),
        ({"sets": {"x": 3}}, "my.toml, key 'sets.x': expected a table, found 3"),
        ({"sets": {"x": {}}}, "my.toml, [sets.x]: expected a text under the key 'name', found none"),
        ({"sets": {"x": {"name": " "}}}, "my.toml, [sets.x], key 'name': expected a text, found ' '"),
        (
            {"sets": {"x": {"name": "a", "count": 0}}},
            "my.toml, [sets.x], key 'count': expected a whole number above 0, found 0",
        ),
        ({"sets": {"x": {"name": "a", "cuont": 1}}}, "my.toml, [sets.x]: there is no key 'cuont'"),
    ],
)
def test_messages_name_file_table_and_key(value: dict[str, Any], message: str) -> None:
    with pytest.raises(FieldError) as caught:
        validate(Outer, value, "my.toml")
    assert str(caught.value) == message


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(list(Fingerprint.__dataclass_fields__)), json_values))
def test_any_json_is_a_record_or_an_error_that_readers_expect(value: dict[str, Any]) -> None:
    try:
        found = validate(Fingerprint, value)
    except (TypeError, ValueError):
        return
    assert isinstance(found.model, str)
    assert all(isinstance(one, float | int) for one in found.mean)


@pytest.mark.parametrize("text", ["[" * 100_000, "{", "", "9" * 10_000])
def test_a_text_that_is_no_json_or_beyond_reason_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_json(text)


@pytest.mark.parametrize("depth", [101, 500, 900, 100_000])
def test_what_is_nested_too_deep_is_one_sentence(tmp_path: Path, depth: int) -> None:
    """Also where a parser would have read it: whoever looks at the values goes down each level."""
    for text in ("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth):
        with pytest.raises(ValueError, match=r"^nested too deep$"):
            parse_json(text)
        with pytest.raises(ValueError, match=r"^nested too deep$"):
            parse_json(text.encode())
    path = tmp_path / "a.toml"
    for text in ("x = " + "[" * depth + "]" * depth, ".".join("a" * min(depth, 900)) + " = 1"):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"^nested too deep$"):
            read_toml(path)


def test_what_is_not_too_deep_is_read(tmp_path: Path) -> None:
    deep = "[" * 100 + "]" * 100
    assert str(parse_json(deep)) == deep
    (tmp_path / "a.toml").write_bytes(f"x = {deep[1:-1]}\r\n".encode())
    assert str(read_toml(tmp_path / "a.toml")["x"]) == deep[1:-1]


@pytest.mark.parametrize("content", [b"x = " + b"9" * 5000, b"\xff", b"\0", b"x" * (1 << 20) + b" = 1"])
def test_toml_that_cannot_be_is_a_value_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.toml").write_bytes(content)
    with pytest.raises(ValueError, match=r"."):
        read_toml(tmp_path / "a.toml")


def test_files_of_users_are_parsed_in_one_place() -> None:
    """Every other reader would need all these limits, too. What lsn itself brings along needs none."""
    package = Path(validation.__file__).parent
    own = {"validation.py", "reference", "backbones/catalogue.py", "artefacts/files.py"}
    own |= {"training/finetune.py", "training/prompts.py"}  # their own settings, to and fro
    found = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if re.search(r"tomllib\.load|json\.loads?\(|JSONDecoder", path.read_text(encoding="utf-8"))
    }
    assert {one for one in found if one not in own and one.partition("/")[0] not in own} == set()
