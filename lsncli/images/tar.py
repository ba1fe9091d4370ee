"""Images inside a tar, with classes in files beside them.

A plain tar is indexed by offset and size, so that threads read images without a lock. The images of a
compressed tar are unpacked once, into a file without a name.
"""

import posixpath
import tarfile
from collections.abc import Callable
from typing import IO

from lsncli.console import printable
from lsncli.errors import UsageError
from lsncli.images import tar_stream
from lsncli.images.columns import Columns
from lsncli.images.item import (
    MAX_BYTES,
    Content,
    Problem,
    Source,
    is_hidden,
    is_image,
    is_system,
)
from lsncli.images.read import packed
from lsncli.images.sidecar_labels import LONGEST, SidecarLabels, label_items
from lsncli.images.tar_stream import UnpackedFile

LONGEST_NAME = 4096
"""Bytes that a member's name may have, as a path on most systems."""
MOST_FIELDS = 1000
"""Fields that global headers may have."""
MOST_MEMBERS, BYTES_A_MEMBER = 1_000_000, 20
"""Members that any tar may have, and the fewest bytes per member in a tar of more, also compressed."""

MemberRange = tuple[int, int]  # offset and size of a member's bytes
Keep = Callable[[tarfile.TarInfo], MemberRange]


def _in_place(member: tarfile.TarInfo) -> MemberRange:
    return member.offset_data, member.size


def scan(path: str, columns: Columns) -> Source:
    """Index a tar of any compression. A single top-level folder is not part of the keys.

    Links inside the tar are followed. Members that are no plain files, broken links and names that lead out
    of the tar are problems. A tar that is cut short gives the images before the cut, and a problem. No file
    is ever written under a member's name. Raises UsageError if it is no tar, LsnError if it unpacks to too
    much.
    """
    try:
        with open(path, "rb") as file:
            return scan_file(path, file, packed(path), columns)
    except OSError as error:
        raise _not_a_tar(path, error) from error


def scan_file(path: str, file: IO[bytes], content: Content, columns: Columns) -> Source:
    """Index an open ``file`` called ``path``, as ``scan``; ``content`` reads it unless it is compressed."""
    try:
        most = max(MOST_MEMBERS, file.seek(0, 2) // BYTES_A_MEMBER)
        file.seek(0)
        unpacked_file = tar_stream.open_compressed(file)
        if unpacked_file is None:
            return _index(path, tar_stream.LimitedFile(file), content, columns, _in_place, most)
        with unpacked_file:
            forward, unpacked = tar_stream.ForwardFile(unpacked_file, path), UnpackedFile()
            return _index(
                path, forward, unpacked, columns, lambda member: _copy(forward, member, unpacked), most
            )
    except (tarfile.TarError, *tar_stream.DAMAGED) as error:
        raise _not_a_tar(path, error) from error


def _not_a_tar(path: str, error: Exception) -> UsageError:
    return UsageError(
        f"'{path}' cannot be read as a tar: {printable(str(error))}.",
        "Give a .tar, plain or compressed by gzip, bzip2 or xz, or unpack it and give the folder.",
    )


def _index(
    path: str, file: tar_stream.LimitedFile, content: Content, columns: Columns, keep: Keep, most: int
) -> Source:
    images: dict[str, MemberRange] = {}
    links: dict[str, str] = {}
    problems: list[Problem] = []
    labels, ignored, members = SidecarLabels(columns), 0, 0
    system: set[str] = set()
    with _open(file) as tar:
        try:
            while (member := _next(tar, file)) is not None:
                # tarfile keeps every member: a million of them would take a gigabyte.
                tar.members.clear()  # type: ignore[attr-defined]
                if tar.offset <= member.offset:  # a negative size would make tarfile loop forever
                    raise tarfile.ReadError("members that overlap")
                members += 1
                if members > most:
                    raise tarfile.ReadError(f"more than {most:,} members in so small a file")
                if max(map(_byte_length, (member.name, member.linkname))) > LONGEST_NAME:
                    short = f"{member.name[:100]}..."
                    reason = f"its name is longer than {LONGEST_NAME} bytes"
                    problems.append(Problem(short, reason, f"{path}:{short}"))
                    continue
                name = posixpath.normpath(member.name).lstrip("/")
                if member.isdir():
                    continue
                reason = _refused(name, member)
                if hidden := [part for part in name.split("/") if part != ".." and is_hidden(part)]:
                    ignored += 1
                    system |= set(filter(is_system, hidden))
                elif not is_image(name):
                    usable = not reason and member.isreg() and labels.accepts(name, member.size)
                    ignored += not (usable and labels.add(name, _read_start(file, member)))
                elif reason:
                    problems.append(Problem(name, reason, f"{path}:{name}"))
                elif member.islnk():
                    links[name] = posixpath.normpath(member.linkname).lstrip("/")
                elif member.issym():
                    links[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))
                else:
                    images[name] = keep(member)
            # tarfile takes a broken header for the end: all members after it would be lost silently.
            if file.latest.strip(b"\0"):
                raise tarfile.ReadError("a broken header")
            while keep is not _in_place and file.read(tar_stream.PIECE):
                pass  # to the end, where compressed data has its checksum
        except (tarfile.TarError, *tar_stream.DAMAGED) as error:
            reason = f"the tar is cut short or damaged: {printable(str(error))}"
            problems.append(Problem(posixpath.basename(path), reason, path))
    for name, target in links.items():
        member_range = _follow(target, images, links)
        if member_range is None:
            problems.append(Problem(name, "a link to nothing inside the tar", f"{path}:{name}"))
        else:
            images[name] = member_range
    items, label_problems = label_items(path, images, content, labels)
    notes = [labels.note] if labels.note else []
    return Source(items, problems + label_problems, ignored, system, notes=notes)


def _open(file: tar_stream.LimitedFile) -> tarfile.TarFile:
    with file.headers():  # tarfile reads those of the first member
        return tarfile.TarFile(fileobj=_as_file(file), mode="r", encoding="utf-8", errors="surrogateescape")


def _next(tar: tarfile.TarFile, file: tar_stream.LimitedFile) -> tarfile.TarInfo | None:
    with file.headers():
        member = tar.next()
    if len(tar.pax_headers) > MOST_FIELDS:  # tarfile copies the global ones for each member
        raise tarfile.ReadError(f"global headers of more than {MOST_FIELDS} fields")
    return member


def _byte_length(name: str) -> int:
    return len(name.encode("utf-8", "surrogateescape"))


def _read_start(file: tar_stream.LimitedFile, member: tarfile.TarInfo) -> bytes:
    file.seek(member.offset_data)
    data = file.read(min(member.size, LONGEST + 1))
    if len(data) < min(member.size, LONGEST + 1):
        raise tarfile.ReadError("unexpected end of data")
    return data


def _as_file(file: tar_stream.LimitedFile) -> IO[bytes]:
    return file  # type: ignore[return-value] # tarfile uses read, seek and tell only


def _refused(name: str, member: tarfile.TarInfo) -> str:
    """Return why a member cannot be read as an image; empty if it can."""
    if name == ".." or name.startswith("../"):
        return "its name leads out of the tar"
    if member.islnk() or member.issym():
        return ""
    if not member.isreg() or member.issparse():
        return "not a plain file inside the tar"
    if member.size > MAX_BYTES:
        return f"too large: {member.size / 2**30:.1f} GiB"
    return ""


def _copy(file: tar_stream.ForwardFile, member: tarfile.TarInfo, unpacked: UnpackedFile) -> MemberRange:
    start, left = unpacked.size, member.size
    unpacked.check_space(left)
    file.seek(member.offset_data)
    while left > 0:
        piece = file.read(min(left, tar_stream.PIECE))
        if not piece:
            raise tarfile.ReadError("unexpected end of data")
        unpacked.append(piece)
        left -= len(piece)
    return start, member.size


def _follow(name: str, images: dict[str, MemberRange], links: dict[str, str]) -> MemberRange | None:
    for _ in range(40):  # as many links as Linux follows before it reports a loop
        if name in images:
            return images[name]
        if name not in links:
            return None
        name = links[name]
    return None
