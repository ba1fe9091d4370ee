"""Move one file between open folders: the very file that is meant, and onto nothing that is there."""

import errno
import os
import shutil
from contextlib import suppress
from hashlib import file_digest
from typing import IO

from lsncli.files import OpenFolder
from lsncli.images.file_identity import CHANGED, FileIdentity


def digest_in(folder: OpenFolder, name: str) -> tuple[str, FileIdentity]:
    """sha256 of a regular file, and which one it is. Raises OSError, also for a link."""
    with open(folder.open_file(name), "rb") as file:
        identity = FileIdentity.of(os.fstat(file.fileno()))
        return file_digest(file, "sha256").hexdigest(), identity


def move_file(
    source: OpenFolder, name: str, target: OpenFolder, new: str, identity: FileIdentity, temporary: str
) -> None:
    """Move the file of this identity, to another disk if need be.

    There it is called ``temporary`` until all of it is written. Another file that took its name is left where
    it is. Raises OSError, and FileExistsError if the name ``new`` is taken.
    """
    try:
        source.move(name, target, new)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _move_over(source, name, target, new, identity, temporary)
        return
    if not identity.is_same(target.status(new)):  # it was swapped since it was looked at
        target.move(new, source, name)
        raise OSError(CHANGED)


def _move_over(
    source: OpenFolder, name: str, target: OpenFolder, new: str, identity: FileIdentity, temporary: str
) -> None:
    with open(source.open_file(name), "rb") as old:
        with target.writing(new, as_binary, temporary=temporary) as file:
            shutil.copyfileobj(old, file, 1 << 20)
            status = os.fstat(old.fileno())
            if not identity.is_same(status):
                raise OSError(CHANGED)
            keep_status(file, status)
        target.sync()
        if not identity.is_same(source.status(name)):
            target.remove(new)
            raise OSError(CHANGED)
    source.remove(name)


def as_binary(handle: int) -> IO[bytes]:
    """A binary file to write, for ``OpenFolder.writing``."""
    return open(handle, "wb")


def keep_status(file: IO[bytes], status: os.stat_result) -> None:
    """Give a file that was just written the permissions and times of another, where that is possible."""
    file.flush()
    with suppress(OSError, AttributeError, TypeError, NotImplementedError):
        os.fchmod(file.fileno(), status.st_mode & 0o777)
        os.utime(file.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))
