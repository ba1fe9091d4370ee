"""The registry of the kinds of files that contain or name many images.

To add a kind, write a module with a function that lists such a file, a row in ``SOURCES``, and a test file.
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
    """The options of a user for listing a file."""

    repeats: bool = False
    """Whether a path that a list names twice is two images."""
    fragment: str = ""
    """The text after ``#`` in the name, for kinds that use it."""
    columns: Columns = AUTOMATIC
    """Which columns hold images and classes."""


@dataclass(frozen=True)
class SourceKind:
    """A kind of file: a row of ``SOURCES``."""

    suffixes: tuple[str, ...]
    """The ends of file names, in lower case; empty for a kind that names do not tell."""
    shown: str
    """A description for hints and messages."""
    scan: str = ""
    """``module:function`` that lists a file: (path, ListingOptions) -> Source."""
    remote: str = ""
    """The same for a URL; empty for a kind that can only be read from the disk."""
    contents: dict[str, str] = field(default_factory=dict)
    """How other processes read images that are not files of their own: by its name in manifests, the
    ``module:class`` of a frozen dataclass whose fields JSON can hold."""
    fragment: bool = False
    """Whether ``#...`` after the name selects a part of the file."""


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
"""The keys of ``contents`` are stored in manifests: they never change."""


def find_kind(name: str) -> SourceKind | None:
    """Return the kind of a file by the end of its name; None for a folder or an image."""
    lower = name.lower()
    ends = {suffix: kind for kind in SOURCES.values() for suffix in kind.suffixes if lower.endswith(suffix)}
    return ends[max(ends, key=len)] if ends else None


def source_suffixes() -> tuple[str, ...]:
    """Return the suffixes of all kinds: a file of one that matches a pattern is a source of its own."""
    return tuple(suffix for kind in SOURCES.values() for suffix in kind.suffixes)


def split_fragment(name: str) -> tuple[str, str]:
    """Split ``x.parquet#pixels`` into file and fragment; the fragment is "" for kinds that use none."""
    file, _, fragment = name.rpartition("#")
    kind = find_kind(file)
    return (file, fragment) if kind and kind.fragment and "/" not in fragment else (name, "")


def sources_hint() -> str:
    """Return a hint that lists all kinds of sources."""
    kinds = ", ".join(kind.shown for kind in SOURCES.values())
    return f"Give folders, images, 'patterns/**/*.jpg', {kinds}, or - for a list on standard input."


def content_types() -> dict[str, type[Any]]:
    """Return the types of ``SourceKind.contents`` of all kinds, by their names in manifests."""
    return {name: load(path) for kind in SOURCES.values() for name, path in kind.contents.items()}


def scan_list(path: str, options: ListingOptions) -> Source:
    """List the images that a list file names. Raises as ``listfile.scan``."""
    return listfile.scan(Path(path), repeats=options.repeats, columns=_columns(options))


def scan_remote_list(url: str, options: ListingOptions) -> Source:
    """List the images that a list behind a URL names. Raises as ``listfile.scan_url``."""
    return listfile.scan_url(url, repeats=options.repeats, columns=_columns(options))


def scan_tar(path: str, options: ListingOptions) -> Source:
    """List the images of a tar. Raises as ``tar.scan``."""
    return tar.scan(path, options.columns)


def scan_table(path: str, options: ListingOptions) -> Source:
    """List the rows of a Parquet file or URL. Raises as ``parquet.scan``."""
    return parquet.scan(path, _columns(options))


def _columns(options: ListingOptions) -> Columns:
    """Return the columns to use; the fragment names the column of images."""
    return options.columns.with_path(options.fragment)
