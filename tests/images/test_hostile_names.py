"""Files of names and words that hold what no name is: one sentence that shows a part of it."""

from pathlib import Path

import pytest

from lsncli.bench.suite_toml import load_suite
from lsncli.cli.score_inputs import class_list
from lsncli.errors import UsageError
from lsncli.images.class_names import class_names
from lsncli.images.names_file import read_name_lines, read_names
from lsncli.methods.candidates import read_vocabulary

HOSTILE = {
    "long.txt": (
        b"cat\n" + b"x" * 10_000_000,
        "a name of 10,000,000 characters, and 1,000 are allowed",
    ),
    "nul.txt": (b"cat\0dog\n", "cannot be read: it holds a NUL character"),
    "latin.txt": (b"caf\xe9\n", "cannot be read: 'utf-8' codec can't decode byte 0xe9"),
    "utf16.txt": ("cat\ndog\n".encode("utf-16"), "cannot be read: 'utf-8' codec"),
}
JSON = {
    "deep.json": (b"[" * 100_000, "is not valid JSON: nested too deep"),
    "closed.json": (b"[" * 500 + b"]" * 500, "is not valid JSON: nested too deep"),
    "digits.json": (b"[" + b"9" * 10_000 + b"]", "is not valid JSON: Exceeds the limit"),
    "long.json": (b'["' + b"x" * 10_000_000 + b'"]', "contains a name of 10,000,000 characters"),
    "key.json": (b'{"' + b"x" * 10_000_000 + b'": "cat"}', "contains a name of 1,001 characters"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_every_reader_of_names_says_one_sentence(tmp_path: Path, name: str) -> None:
    content, reason = HOSTILE[name]
    path = tmp_path / name
    path.write_bytes(content)
    readers = (read_name_lines, lambda one: read_names(one, ()), lambda one: read_vocabulary(str(one)))
    for read in (*readers, lambda one: class_list(str(one)), lambda one: class_names(["1", "2"], one)):
        with pytest.raises(UsageError, match=reason) as caught:
            read(path)
        assert len(str(caught.value)) < 500 + len(str(path))


@pytest.mark.parametrize("name", JSON)
def test_names_in_json_that_are_none_are_one_sentence(tmp_path: Path, name: str) -> None:
    content, reason = JSON[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=reason):
        read_names(tmp_path / name, ())
    with pytest.raises(UsageError, match=r"is a file, but does not end in \.txt"):
        class_list(str(tmp_path / name))


def test_a_hundred_thousand_names_are_read(tmp_path: Path) -> None:
    names = [f"class {number}" for number in range(100_000)]
    (tmp_path / "many.txt").write_text("\n".join(names))
    assert list(read_names(tmp_path / "many.txt", ()).names) == names


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"x = " + b"[" * 100_000, "is not valid TOML: nested too deep"),
        (b"x" * (1 << 21), "is not valid TOML: it is larger than 1024 KiB"),
        (b"title = 9" + b"9" * 5000, "is not valid TOML: Exceeds the limit"),
        (b"title = '\xff'", "is not valid TOML: 'utf-8' codec"),
        (b"title = '\0'", "is not valid TOML"),
        (b"title = ['" + b"x" * 1_000_000 + b"']", "key 'title': expected a text, found"),
        (b"x" * 1_000_000 + b" = 1", "there is no key 'x{60}'"),
    ],
)
def test_a_hostile_suite_is_one_sentence(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "suite.toml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=reason) as caught:
        load_suite(str(path))
    assert len(str(caught.value)) < 5000
