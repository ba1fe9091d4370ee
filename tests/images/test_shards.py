"""Tars in webdataset's layout: classes beside images, shards named by braces."""

import json
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_packed import MODES, pack
from test_sources import keys, labels

from lsncli.errors import UsageError
from lsncli.images import listing as sources
from lsncli.images.item import Listing
from lsncli.images.listing import list_images
from lsncli.images.read import read_bytes


def shard(folder: Path, name: str, members: dict[str, bytes | str]) -> Path:
    """A tar of ``members``; a text is the content of a file, too."""
    content = [(key, data.encode() if isinstance(data, str) else data) for key, data in members.items()]
    pack(folder / name, content, MODES.get(name, "w"))
    return folder / name


def by_key(listing: Listing) -> dict[str, str | None]:
    return {item.key: listing.folders[item.label] if item.label >= 0 else None for item in listing.items}


@pytest.mark.parametrize("name", MODES)
def test_a_cls_beside_an_image_is_its_class(tmp_path: Path, name: str) -> None:
    members = {"000.jpg": b"a", "000.cls": "10", "001.cls": "9\n", "001.jpg": b"bb", "002.jpg": b"c" * 512}
    listing = list_images([shard(tmp_path, name, {**members, "002.cls": "9", "002.txt": "words"})])
    assert by_key(listing) == {"000.jpg": "10", "001.jpg": "9", "002.jpg": "9"}
    assert listing.folders == ("9", "10")  # by number
    assert (listing.problems, listing.ignored) == ((), 1)
    assert [read_bytes(item) for item in listing.items] == [b"a", b"bb", b"c" * 512]


def test_a_json_may_name_the_class_and_a_cls_counts_more(tmp_path: Path) -> None:
    members = {
        "a.jpg": b"x",
        "a.json": json.dumps({"caption": "a cat", "label": 3, "class_name": "cat"}),
        "b.jpg": b"x",
        "b.cls": "dog",
        "b.json": json.dumps({"cls": "cat"}),
        "c.jpg": b"x",
        "c.json": json.dumps({"caption": "nothing known"}),
        "d.jpg": b"x",
        "d.json": "[1, 2]",
        "set/e.left.jpg": b"x",
        "set/e.right.jpg": b"x",
        "set/e.cls": "cat",
        "f.cls": "-1",
        "f.jpg": b"x",
    }
    listing = list_images([shard(tmp_path, "t.tar", members)])
    assert by_key(listing) == {
        "a.jpg": "3",
        "b.jpg": "dog",
        "c.jpg": None,
        "d.jpg": None,
        "f.jpg": None,
        "set/e.left.jpg": "cat",
        "set/e.right.jpg": "cat",
    }
    assert listing.folders == ("3", "cat", "dog")
    assert listing.ignored == 2


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.cls", b""),
        ("a.cls", b"\xff\xfe"),
        ("a.cls", b"x" * 201),
        ("a.cls", b"c" * (1 << 17)),
        ("a.cls", b"\x1b[2J"),
        ("a.json", b"{"),
        ("a.json", b"[" * 60_000),
    ],
)
def test_what_should_be_a_class_and_is_none_is_a_problem_not_a_silence(
    tmp_path: Path, name: str, data: bytes
) -> None:
    listing = list_images(
        [shard(tmp_path, "t.tar", {"a.jpg": b"x", name: data, "b.jpg": b"x", "b.cls": "0"})]
    )
    assert by_key(listing) == {"a.jpg": None, "b.jpg": "0"}
    assert [problem.key for problem in listing.problems] == [name]
    assert listing.problem_paths == (f"{tmp_path / 't.tar'}:{name}",)


def test_a_tar_without_classes_beside_images_has_its_folders(tmp_path: Path) -> None:
    members = {"cat/a.jpg": b"x", "dog/b.jpg": b"x", "dog/b.json": '{"width": 3}'}
    listing = list_images([shard(tmp_path, "t.tar", members)])
    assert by_key(listing) == {"cat/a.jpg": "cat", "dog/b.jpg": "dog"}


def test_shards_are_listed_one_after_the_other_each_from_front_to_back(tmp_path: Path) -> None:
    for number in range(12):
        members = {f"{number:02d}{row:02d}.jpg": bytes(100 + row) for row in range(20)}
        shard(tmp_path, f"{number:03d}.tar", members)
    listing = list_images([tmp_path / "{000..011}.tar"])
    places = [(item.path, item.offset) for item in listing.items]
    assert places == sorted(places)
    assert keys(listing)[0] == "000.tar/0000.jpg"
    assert listing.digest == list_images([tmp_path / "*.tar"]).digest
    again = pickle.loads(pickle.dumps(listing.items))
    assert [read_bytes(item) for item in again] == [read_bytes(item) for item in listing.items]


def test_a_shard_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    shard(tmp_path, "0.tar", {"a.jpg": b"x"})
    with pytest.raises(UsageError, match=r"There is no .*1\.tar"):
        list_images([tmp_path / "{0..1}.tar"])
    shard(tmp_path, "{0..1}.tar", {"b.jpg": b"x"})  # a name with braces that is there is that name
    assert keys(list_images([tmp_path / "{0..1}.tar"])) == ["b.jpg"]


def test_numbers_and_folders_of_one_name_are_one_class(tmp_path: Path) -> None:
    (tmp_path / "set/7").mkdir(parents=True)
    (tmp_path / "set/7/a.jpg").write_bytes(b"x")
    shard(tmp_path, "t.tar", {"a.jpg": b"x", "a.cls": "7", "b.jpg": b"x", "b.cls": "10"})
    listing = list_images([tmp_path / "set", tmp_path / "t.tar"])
    assert listing.folders == ("7", "10")
    assert sorted(labels(listing)) == [0, 0, 1]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("s/{08..11}.tar", ["s/08.tar", "s/09.tar", "s/10.tar", "s/11.tar"]),
        ("{9..11}", ["9", "10", "11"]),
        ("{2..0}", ["2", "1", "0"]),
        ("{a,b}-{0..1}", ["a-0", "a-1", "b-0", "b-1"]),
        ("{a,}x", ["ax", "x"]),
        ("{}", ["{}"]),
        ("{a}", ["{a}"]),
        ("{1..}", ["{1..}"]),
        ("plain", ["plain"]),
    ],
)
def test_braces_stand_for_names(text: str, names: list[str]) -> None:
    assert sources.expand_braces(text) == names


@given(st.text("{}.,01a", max_size=14))
def test_any_text_has_an_expansion(text: str) -> None:
    assert sources.expand_braces(text)


def test_as_many_names_as_allowed_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MOST", 12)
    assert len(sources.expand_braces("{1..12}")) == len(sources.expand_braces("{1..3}{a,b,c,d}")) == 12
    for text in ("{1..13}", "{1..6}{a,b,c}"):
        with pytest.raises(UsageError, match="expands to more than 12 names"):
            sources.expand_braces(text)


def test_braces_do_not_explode() -> None:
    for text in ("{1..99999999999}", "{0..9}" * 7, "{" + "," * 2_000_000 + "}"):
        with pytest.raises(UsageError, match="more than"):
            sources.expand_braces(text)
