"""Images inside a zip archive, with classes in files beside them, as in a tar.

Threads read from one open archive; nothing is unpacked to the disk.
"""

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
"""Bytes that a member's name may have."""
BYTES_A_MEMBER = 46
"""The smallest entry of a member in the directory of an archive, in bytes."""
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
"""The errors of reading a damaged or encrypted archive, besides OSError."""
ENCRYPTED = 1
"""The flag of a member that needs a password."""
OPEN_ARCHIVES = 16
"""Archives that a process keeps open."""


@dataclass(frozen=True, slots=True)
class ListedZip:
    """An archive in its state when it was listed: its size in bytes and its modification time in ns."""

    path: str
    size: int
    mtime: int

    def read(self, offset: int, size: int | None) -> bytes:
        """Return the bytes of the member with a header at ``offset``. Raises OSError, Undecodable."""
        if (self.size, self.mtime) != _state(self.path):
            raise Undecodable(f"its archive {CHANGED}")
        try:
            archive, members = _archive(self)
            with archive.open(members[offset]) as file:
                data = file.read((size or 0) + 1)  # the checksum is compared when the end is read
        except KeyError:
            raise Undecodable(f"its archive {CHANGED}") from None
        except DAMAGED as error:
            raise Undecodable(f"damaged in its archive: {printable(str(error))}") from error
        if len(data) != size:
            raise Undecodable("damaged in its archive: its length differs from the directory")
        return data


def scan(path: str, options: ListingOptions) -> Source:
    """List the images of an archive. A single top-level folder is not part of the keys.

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
    labels, ignored, system = SidecarLabels(options.columns), 0, set[str]()
    images: dict[str, tuple[int, int]] = {}
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
            usable = not _refused(name, member) and labels.accepts(name, member.file_size)
            ignored += not (usable and _is_label(labels, name, content, member))
        elif reason := _refused(name, member):
            problems.append(Problem(name, reason, f"{path}:{name}"))
        else:
            images[name] = (member.header_offset, member.file_size)
    items, label_problems = label_items(path, images, content, labels)
    notes = [labels.note] if labels.note else []
    return Source(items, problems + label_problems, ignored, system, notes=notes)


def _is_label(labels: SidecarLabels, name: str, content: ListedZip, member: zipfile.ZipInfo) -> bool:
    """Return whether a small file beside an image contains a class, valid or not."""
    if member.file_size > LONGEST:
        return False
    try:
        return labels.add(name, content.read(member.header_offset, member.file_size))
    except (Undecodable, OSError) as error:
        labels.invalid[name] = str(error)
        return True


def _refused(name: str, member: zipfile.ZipInfo) -> str:
    """Return why a member cannot be read as an image; empty if it can."""
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
    """Open an archive, and return its members by the offset of their headers."""
    archive = zipfile.ZipFile(content.path)
    members = {member.header_offset: member for member in archive.infolist()}
    if len(members) * BYTES_A_MEMBER > content.size:
        raise zipfile.BadZipFile("more members than fit into its size")
    return archive, members


def _state(path: str) -> tuple[int, int]:
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise Undecodable("not a regular file")
    return status.st_size, status.st_mtime_ns
