"""Images inside a zip archive. Threads read them from one open archive; nothing is unpacked to the disk.
Classes may lie beside images, as in a tar."""

import lzma
import os
import posixpath
import stat
import struct
import zipfile
import zlib
from dataclasses import dataclass
from functools import lru_cache

from lsncli.console import printable
from lsncli.errors import UsageError
from lsncli.images.item import (
    MAX_BYTES,
    Problem,
    Source,
    is_hidden,
    is_image,
    is_system,
)
from lsncli.images.read import CHANGED, Undecodable
from lsncli.images.sidecar_labels import LONGEST, SidecarLabels, label_items
from lsncli.images.source_kinds import ListingOptions

LONGEST_NAME = 4096
"""Bytes of a member's name."""
BYTES_A_MEMBER = 46
"""What each member takes at least in the directory of an archive."""
DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    NotImplementedError,  # a method of compression that zipfile does not know
    RuntimeError,
    ValueError,
)
"""What reading a damaged or encrypted archive raises, besides OSError."""
ENCRYPTED = 1
"""The flag of a member that takes a password."""
OPEN_ARCHIVES = 16
"""Archives that a process keeps open."""


@dataclass(frozen=True, slots=True)
class ListedZip:
    """An archive as it was when it was listed: its size in bytes and the time of its last change in ns."""

    path: str
    size: int
    mtime: int

    def read(self, offset: int, size: int | None) -> bytes:
        """The unpacked bytes of the member whose header is at ``offset``. Raises OSError, and Undecodable."""
        if (self.size, self.mtime) != _state(self.path):
            raise Undecodable(f"its archive {CHANGED}")
        try:
            archive, members = _archive(self)
            with archive.open(members[offset]) as file:
                data = file.read((size or 0) + 1)  # one more byte, and the checksum is compared at the end
        except KeyError:
            raise Undecodable(f"its archive {CHANGED}") from None
        except DAMAGED as error:
            raise Undecodable(f"damaged in its archive: {printable(str(error))}") from error
        if len(data) != size:
            raise Undecodable("damaged in its archive: not as long as the directory says")
        return data


def scan(path: str, asked: ListingOptions) -> Source:
    """List the images of an archive. Its single top-level folder, if any, is not part of the keys.

    Members that are encrypted, links, too large, or whose names lead out of the archive are problems. Raises
    UsageError if it is no zip archive.
    """
    try:
        content = ListedZip(path, *_state(path))
        archive, _ = _archive(content)
    except (OSError, *DAMAGED) as error:
        raise UsageError(
            f"'{path}' cannot be read as a zip archive: {printable(str(error))}.",
            "Give a whole .zip, or unpack it and give the folder.",
        ) from error
    labels, ignored, system = SidecarLabels(asked.columns), 0, set[str]()
    places: dict[str, tuple[int, int]] = {}
    problems: list[Problem] = []
    for member in archive.infolist():
        if member.is_dir():
            continue
        name = posixpath.normpath(member.filename).lstrip("/")
        if len(name.encode("utf-8", "surrogateescape")) > LONGEST_NAME:
            short = f"{name[:100]}..."
            problems.append(
                Problem(short, f"its name is longer than {LONGEST_NAME} bytes", f"{path}:{short}")
            )
        elif hidden := [part for part in name.split("/") if part != ".." and is_hidden(part)]:
            ignored += 1
            system |= set(filter(is_system, hidden))
        elif not is_image(name):
            usable = not _refused(name, member) and labels.wants(name, member.file_size)
            ignored += not (usable and _is_label(labels, name, content, member))
        elif reason := _refused(name, member):
            problems.append(Problem(name, reason, f"{path}:{name}"))
        else:
            places[name] = (member.header_offset, member.file_size)
    found, bad = label_items(path, places, content, labels)
    return Source(found, problems + bad, ignored, system, notes=[labels.note] if labels.note else [])


def _is_label(labels: SidecarLabels, name: str, content: ListedZip, member: zipfile.ZipInfo) -> bool:
    """Whether a small file beside an image says its class, or tries to."""
    if member.file_size > LONGEST:
        return False
    try:
        return labels.add(name, content.read(member.header_offset, member.file_size))
    except (Undecodable, OSError) as error:
        labels.bad[name] = str(error)
        return True


def _refused(name: str, member: zipfile.ZipInfo) -> str:
    """Why a member cannot be an image to read; empty if it can."""
    if name == ".." or name.startswith("../"):
        return "its name leads out of the archive"
    if stat.S_ISLNK(member.external_attr >> 16):
        return "a symbolic link inside the archive"
    if member.flag_bits & ENCRYPTED:
        return "encrypted"
    if member.file_size > MAX_BYTES:
        return f"too large: {member.file_size / 2**30:.1f} GiB"
    return ""


@lru_cache(OPEN_ARCHIVES)
def _archive(content: ListedZip) -> tuple[zipfile.ZipFile, dict[int, zipfile.ZipInfo]]:
    """An open archive, and its members by the place of their headers."""
    archive = zipfile.ZipFile(content.path)
    members = {member.header_offset: member for member in archive.infolist()}
    if len(members) * BYTES_A_MEMBER > content.size:
        raise zipfile.BadZipFile("more members than it has room for")
    return archive, members


def _state(path: str) -> tuple[int, int]:
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise Undecodable("not a regular file")
    return status.st_size, status.st_mtime_ns
