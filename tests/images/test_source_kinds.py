"""What holds for every row of SOURCES; and a kind of source added as docs/add-an-image-source.md says."""

import inspect
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import is_dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from photo_samples import photos

from lsncli import registry
from lsncli.errors import UsageError
from lsncli.extraction.part_job import read_manifest, write_manifest
from lsncli.images import source_kinds
from lsncli.images.listing import list_images, shareable
from lsncli.images.parquet import ListedTable
from lsncli.images.read import ListedTar, read_bytes
from lsncli.images.remote import Remote
from lsncli.images.source_kinds import (
    SOURCES,
    SourceKind,
    find_kind,
    source_suffixes,
    sources_hint,
    split_fragment,
)
from lsncli.images.zip import ListedZip
from lsncli.store.reader import read_split
from lsncli.store.staging import ExtractionPlan

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "add-an-image-source.md").read_text(encoding="utf-8")
(CODE,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
(NAME, ROW) = re.search(r'`"(\w+)": (SourceKind\(.*?\))`', PAGE).groups()
every_kind = pytest.mark.parametrize("name", SOURCES)


@pytest.fixture
def added(tmp_path, monkeypatch) -> SourceKind:
    """Steps 1 and 2 of the page."""
    monkeypatch.syspath_prepend(write_module(tmp_path / "added"))
    monkeypatch.delitem(sys.modules, NAME, raising=False)
    kind = eval(ROW.replace("lsncli.images.", ""), {"SourceKind": SourceKind})
    monkeypatch.setitem(SOURCES, NAME, kind)
    return kind


def write_module(folder: Path) -> Path:
    assert f"`lsncli/images/{NAME}.py`" in PAGE
    folder.mkdir()
    (folder / f"{NAME}.py").write_text(CODE)
    return folder


def database(path: Path, folder: Path) -> Path:
    """The images of a folder of class folders, in a database."""
    with closing(sqlite3.connect(path)) as file:
        file.execute("CREATE TABLE images (name TEXT, data BLOB, class TEXT)")
        for image in sorted(folder.rglob("*.png")):
            row = (image.relative_to(folder).as_posix(), image.read_bytes(), image.parent.name)
            file.execute("INSERT INTO images VALUES (?, ?, ?)", row)
        file.commit()
    return path


@every_kind
def test_every_row_loads_and_is_documented(name) -> None:
    kind = SOURCES[name]
    for reference in filter(None, (kind.scan, kind.remote)):
        assert len(inspect.signature(registry.load(reference)).parameters) == 2
    assert bool(kind.scan) == bool(kind.suffixes)
    assert all(re.fullmatch(r"(\.[a-z0-9]+)+", suffix) for suffix in kind.suffixes)
    for content in (registry.load(place) for place in kind.contents.values()):
        assert is_dataclass(content)
        assert content.__hash__ is not None  # manifests hold each once
        assert callable(content.read)
    assert kind.shown in sources_hint()
    text = (ROOT / "docs" / "sources.md").read_text(encoding="utf-8")
    assert all(f"{suffix}`" in text for suffix in kind.suffixes[:1])


def test_no_two_kinds_share_an_end_of_a_name_or_a_name_in_manifests() -> None:
    assert len(set(source_suffixes())) == len(source_suffixes())
    assert len(source_kinds.content_types()) == sum(len(kind.contents) for kind in SOURCES.values())
    for name, kind in SOURCES.items():
        assert all(find_kind(f"a{suffix.upper()}") is SOURCES[name] for suffix in kind.suffixes)
    assert find_kind("a.jpg") is None
    assert split_fragment("a.parquet#b") == ("a.parquet", "b")
    assert split_fragment("a.tar#b") == ("a.tar#b", "")


def test_names_in_manifests_are_those_on_disk_of_before() -> None:
    assert source_kinds.content_types() == {
        "packed": ListedTar,
        "zip": ListedZip,
        "table": ListedTable,
        "remote": Remote,
    }


def test_the_longest_end_of_a_name_tells_the_kind(monkeypatch) -> None:
    longer = SourceKind((".old.txt",), "old lists", "somewhere:scan")
    monkeypatch.setitem(SOURCES, "old", longer)
    assert find_kind("a.old.txt") is longer
    assert find_kind("a.txt") is SOURCES["list"]


def test_the_added_kind_is_listed_alone_by_pattern_and_in_braces(added, tmp_path) -> None:
    folder = photos(tmp_path / "photos", 2)
    one = list_images([database(tmp_path / "0.sqlite", folder)])
    assert one.folders == ("left", "middle", "right")
    assert [read_bytes(item) for item in one.items] == [
        (folder / item.key).read_bytes() for item in one.items
    ]
    database(tmp_path / "1.sqlite", folder)
    for several in (tmp_path / "*.sqlite", tmp_path / "{0..1}.sqlite"):
        keys = [item.key for item in list_images([several]).items]
        assert keys == [f"{number}.sqlite/{item.key}" for number in (0, 1) for item in one.items]
    with pytest.raises(UsageError, match=r"lies behind a URL, where \.sqlite databases cannot be read"):
        list_images([Path("memory://x.sqlite")])
    (tmp_path / "bad.sqlite").write_bytes(b"x" * 5000)
    with pytest.raises(UsageError, match="cannot be read as a database of images"):
        list_images([tmp_path / "bad.sqlite"])
    with pytest.raises(UsageError) as caught:
        list_images([tmp_path / "none"])
    assert ".sqlite databases" in caught.value.hint


def test_items_of_the_added_kind_pass_from_process_to_process(added, tmp_path) -> None:
    listing = list_images([database(tmp_path / "x.sqlite", photos(tmp_path / "photos", 2))])
    assert shareable(listing) == ""
    plan = ExtractionPlan(listing.digest, "", len(listing.items), dim=1, batch_size=2, part_rows=4)
    write_manifest(tmp_path, plan, listing.items)
    assert [*read_manifest(tmp_path, plan, 0), *read_manifest(tmp_path, plan, 1)] == list(listing.items)


def test_a_kind_without_contents_is_refused_by_several_processes_and_works_in_one(
    added, tmp_path, monkeypatch
) -> None:
    monkeypatch.setitem(SOURCES, NAME, replace(added, contents={}))
    listing = list_images([database(tmp_path / "x.sqlite", photos(tmp_path / "photos", 2))])
    assert shareable(listing).endswith(
        "this process alone can read its images; no row of SOURCES names Database."
    )


@pytest.mark.slow
def test_two_processes_extract_the_added_kind_as_one_does(tmp_path, tiny_model) -> None:
    database(tmp_path / "x.sqlite", photos(tmp_path / "photos", 4))
    module = write_module(tmp_path / "added")
    (module / "sitecustomize.py").write_text(
        "from lsncli.images.source_kinds import SOURCES, SourceKind\n"
        f"SOURCES[{NAME!r}] = {ROW.replace('lsncli.images.', '')}\n"
    )
    paths = os.pathsep.join([str(module), *filter(None, sys.path)])
    parts = ("--batch-size", "2", "--part-rows", "4", "--workers", "1")
    for work, processes in (("one", "1"), ("two", "2")):
        words = ("extract", "x.sqlite", "--model", tiny_model, "--device", "cpu", "--work", work, "--quiet")
        subprocess.run(
            [sys.executable, "-m", "lsncli", *words, "--processes", processes, *parts],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": paths},
            check=True,
        )
    one, two = (read_split(tmp_path / work / "features.h5", "train") for work in ("one", "two"))
    assert one.keys == two.keys
    assert len(one.keys) == 12
    assert np.array_equal(one.features, two.features)
