"""Kinds of files that hold or name many images, and one registry of them.

To add a kind: a file with a function that lists it, a row in ``SOURCES``, a test file.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lsncli.images import listfile, parquet, tar
from lsncli.images.columns import AUTOMATIC, Columns
from lsncli.images.item import Source
from lsncli.registry import load


@dataclass(frozen=True)
class ListingOptions:
    """What a user said of how to list a file."""

    repeats: bool = False
    """Whether a path that a list names again is another image."""
    fragment: str = ""
    """What stands behind ``#`` in the name, for kinds that take it."""
    columns: Columns = AUTOMATIC
    """Which columns hold images and classes."""


@dataclass(frozen=True)
class SourceKind:
    """A kind of file: a row of ``SOURCES``."""

    suffixes: tuple[str, ...]
    """How names end, in lower case; empty for what no name tells."""
    shown: str
    """The kind in words, for hints and messages."""
    scan: str = ""
    """``module:function`` of a path and an ``ListingOptions`` that lists a file as a ``Source``."""
    remote: str = ""
    """The same of a URL; empty for a kind that is not read from behind one."""
    contents: dict[str, str] = field(default_factory=dict)
    """What its images lie in, where they are no files of their own: by the name that manifests have, the
    ``module:class`` of a frozen dataclass of what JSON can hold. Other processes make it anew and read."""
    fragment: bool = False
    """Whether ``#...`` behind the name says which part of the file is meant."""


SOURCES: dict[str, SourceKind] = {
    "list": SourceKind(
        (".txt", ".csv", ".tsv"),
        "lists (.txt, .csv, .tsv)",
        "lsncli.images.source_kinds:scan_list",
        "lsncli.images.source_kinds:scan_remote_list",
        fragment=True,
    ),
    "tar": SourceKind(
        (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz"),
        "tars (plain, .gz, .bz2, .xz)",
        "lsncli.images.source_kinds:scan_tar",
        "lsncli.images.remote_listing:scan_tar",
        {"packed": "lsncli.images.read:ListedTar"},
    ),
    "zip": SourceKind(
        (".zip",), "zip archives", "lsncli.images.zip:scan", contents={"zip": "lsncli.images.zip:ListedZip"}
    ),
    "table": SourceKind(
        (".parquet",),
        ".parquet files",
        "lsncli.images.source_kinds:scan_table",
        "lsncli.images.source_kinds:scan_table",
        {"table": "lsncli.images.parquet:ListedTable"},
        fragment=True,
    ),
    "url": SourceKind((), "URLs of any of these", contents={"remote": "lsncli.images.remote:Remote"}),
}
"""The names of ``contents`` are those of manifests on disk: they stay as they are."""


def find_kind(name: str) -> SourceKind | None:
    """The kind that the end of a name tells; None for a folder or an image."""
    lower = name.lower()
    ends = {suffix: kind for kind in SOURCES.values() for suffix in kind.suffixes if lower.endswith(suffix)}
    return ends[max(ends, key=len)] if ends else None


def source_suffixes() -> tuple[str, ...]:
    """How the names of all kinds end: what is a source of its own where a pattern finds it."""
    return tuple(suffix for kind in SOURCES.values() for suffix in kind.suffixes)


def split_fragment(name: str) -> tuple[str, str]:
    """``x.parquet#pixels`` as the file and the fragment, for kinds that take one; any other name alone."""
    file, _, fragment = name.rpartition("#")
    kind = find_kind(file)
    return (file, fragment) if kind and kind.fragment and "/" not in fragment else (name, "")


def sources_hint() -> str:
    """A hint: what can be named as a source."""
    kinds = ", ".join(kind.shown for kind in SOURCES.values())
    return f"Give folders, images, 'patterns/**/*.jpg', {kinds}, or - for a list on standard input."


def content_types() -> dict[str, type[Any]]:
    """What images can lie in that other processes can read, too, by its name in manifests."""
    return {name: load(place) for kind in SOURCES.values() for name, place in kind.contents.items()}


def scan_list(path: str, asked: ListingOptions) -> Source:
    """List the images that a list names; raises as ``listfile.scan``."""
    return listfile.scan(Path(path), repeats=asked.repeats, columns=_columns(asked))


def scan_remote_list(url: str, asked: ListingOptions) -> Source:
    """The same behind a URL."""
    return listfile.scan_url(url, repeats=asked.repeats, columns=_columns(asked))


def scan_tar(path: str, asked: ListingOptions) -> Source:
    """List the images of a tar; raises as ``tar.scan``."""
    return tar.scan(path, asked.columns)


def scan_table(path: str, asked: ListingOptions) -> Source:
    """List the rows of a Parquet file or URL; raises as ``table.scan``."""
    return parquet.scan(path, _columns(asked))


def _columns(asked: ListingOptions) -> Columns:
    """The columns that were asked for; behind ``#`` stands that of the images."""
    return asked.columns.with_path(asked.fragment)
