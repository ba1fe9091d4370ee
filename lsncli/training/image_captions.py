"""Image-caption pairs: a .csv (or .tsv) with the columns ``image`` and ``caption``, or webdataset tars."""

import csv
import os
import posixpath
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lsncli.console import printable
from lsncli.errors import LsnError, UsageError
from lsncli.images.item import ImageItem, is_hidden, is_image, size_and_time
from lsncli.images.read import packed
from lsncli.types import Failure

COLUMNS = ("image", "caption")
LONGEST = 1 << 16
"""Bytes of a caption file; longer ones are no captions."""
HINT = "Give a .csv with the columns image,caption, or tars that hold NAME.jpg beside NAME.txt."


@dataclass(frozen=True)
class Pairs:
    """Images, each with the index of its caption as its ``label``, and the files without a pair."""

    items: tuple[ImageItem, ...]
    captions: tuple[str, ...]
    problems: tuple[Failure, ...] = ()


@dataclass(frozen=True)
class _Pair:
    key: str
    path: str
    offset: int | None
    size: int | None
    caption: str


def read_pairs(paths: Sequence[Path]) -> Pairs:
    """Read the pairs of csv files and tars, in order; of several files, keys start with the file's name.

    Paths in a csv are relative to its folder; a missing image fails when it is read. In a tar, an image
    without a caption and a caption without an image are problems. Raises UsageError for a file of another
    kind, LsnError for a malformed csv (with the line) and if there is no pair.
    """
    pairs: list[_Pair] = []
    problems: list[Failure] = []
    for path in paths:
        prefix = f"{path.name}/" if len(paths) > 1 else ""
        if not path.is_file():
            raise UsageError(f"There is no file '{path}'.", HINT)
        if path.suffix.lower() in (".csv", ".tsv"):
            pairs += [_with_prefix(pair, prefix) for pair in _read_csv(path)]
        elif path.suffix.lower() == ".tar":
            packed_pairs, failures = _read_tar(path)
            pairs += [_with_prefix(pair, prefix) for pair in packed_pairs]
            problems += [Failure(prefix + failure.key, failure.reason) for failure in failures]
        else:
            raise UsageError(f"'{path}' is neither a .csv nor a .tar.", HINT)
    if not pairs:
        raise LsnError(f"There are no image-caption pairs in {', '.join(map(str, paths))}.", HINT)
    contents = {pair.path: packed(pair.path) for pair in pairs if pair.offset is not None}
    items = [
        ImageItem(pair.key, pair.path, pair.offset, pair.size, contents.get(pair.path), label=row)
        for row, pair in enumerate(pairs)
    ]
    return Pairs(tuple(items), tuple(pair.caption for pair in pairs), tuple(problems))


def _with_prefix(pair: _Pair, prefix: str) -> _Pair:
    return _Pair(prefix + pair.key, pair.path, pair.offset, pair.size, pair.caption)


def _read_csv(path: Path) -> Iterator[_Pair]:
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
            header = [cell.strip().lower() for cell in next(reader, [])]
            missing = [name for name in COLUMNS if name not in header]
            if missing:
                columns = printable(",".join(header)) or "none"
                raise LsnError(
                    f"{path}, line 1: expected the columns image,caption, found {columns}.",
                    "Begin the file with a line that names its columns.",
                )
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    yield _row(path, reader.line_num, header, cells)
    except (OSError, csv.Error) as error:
        raise LsnError(f"{path}, line {reader.line_num}: {error}.") from error


def _row(path: Path, line: int, header: list[str], cells: list[str]) -> _Pair:
    if len(cells) != len(header):
        raise LsnError(
            f"{path}, line {line}: expected {len(header)} columns, found {len(cells)}.",
            'A caption that holds the separator must be in "double quotes".',
        )
    image, caption = (cells[header.index(name)].strip() for name in COLUMNS)
    for name, value in (("image", image), ("caption", caption)):
        if not value:
            raise LsnError(f"{path}, line {line}: the {name} is empty.")
    if "\0" in image:
        raise LsnError(f"{path}, line {line}: a path cannot hold a NUL character.")
    if any("\udc80" <= letter <= "\udcff" for letter in caption):
        raise LsnError(f"{path}, line {line}: the caption is not UTF-8.")
    file = path.parent / image
    size, _ = size_and_time(file)
    return _Pair(os.path.normpath(image).replace(os.sep, "/"), str(file), None, size, caption)


def _read_tar(path: Path) -> tuple[list[_Pair], list[Failure]]:
    images: dict[str, tuple[str, int, int]] = {}
    captions: dict[str, str] = {}
    problems: list[Failure] = []
    try:
        with tarfile.open(path, "r:", encoding="utf-8", errors="surrogateescape") as tar:
            try:
                while (member := tar.next()) is not None:
                    # tarfile remembers every member; a million would take a gigabyte.
                    tar.members.clear()  # type: ignore[attr-defined]
                    name = posixpath.normpath(member.name).lstrip("/")
                    if not member.isreg() or any(is_hidden(part) for part in name.split("/")):
                        continue
                    base, _, extension = name.rpartition(".")
                    if is_image(name):
                        if base in images:
                            problems.append(Failure(name, f"a second image beside {images[base][0]}"))
                        else:
                            images[base] = (name, member.offset_data, member.size)
                    elif extension.lower() == "txt":
                        text = tar.extractfile(member) if member.size <= LONGEST else None
                        captions[base] = (
                            "" if text is None else text.read().decode("utf-8", "replace").strip()
                        )
            except (tarfile.TarError, OSError) as error:
                reason = f"the tar is cut short or damaged: {printable(str(error))}"
                problems.append(Failure(path.name, reason))
    except (tarfile.TarError, OSError, EOFError) as error:
        raise UsageError(
            f"'{path}' cannot be read as an uncompressed tar: {error}.", "Pack it again without compression."
        ) from error
    pairs = [
        _Pair(name, str(path), offset, size, captions[base])
        for base, (name, offset, size) in images.items()
        if captions.get(base)
    ]
    for base, (name, _, _) in images.items():
        if not captions.get(base):
            problems.append(
                Failure(name, "no caption beside it" if base not in captions else "no usable caption")
            )
    problems += [Failure(f"{base}.txt", "no image beside it") for base in captions if base not in images]
    return pairs, problems
