"""Move one file between open folders, checked by identity and without overwriting another file."""

import errno
import os
import shutil
from contextlib import suppress
from hashlib import file_digest
from typing import IO

from lsncli.files import OpenFolder
from lsncli.images.file_identity import CHANGED, FileIdentity


def digest_in(folder: OpenFolder, name: str) -> tuple[str, FileIdentity]:
    """Return the sha256 and the identity of a regular file. Raises OSError, also for a link."""
    with open(folder.open_file(name), "rb") as file:
        identity = FileIdentity.of(os.fstat(file.fileno()))
        return file_digest(file, "sha256").hexdigest(), identity


def move_file(
    source: OpenFolder, name: str, target: OpenFolder, new: str, identity: FileIdentity, temporary: str
) -> None:
    """Move the file of this identity, also to another disk.

    On another disk it has the name ``temporary`` until it is complete. A file of another identity is not
    moved. Raises OSError, and FileExistsError if the name ``new`` is taken.
    """
    try:
        source.move(name, target, new)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _move_across_disks(source, name, target, new, identity, temporary)
        return
    if not identity.is_same(target.status(new)):  # the file was replaced after its identity was read
        target.move(new, source, name)
        raise OSError(CHANGED)


def _move_across_disks(
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
    """Open a descriptor as a binary file to write, for ``OpenFolder.writing``."""
    return open(handle, "wb")


def keep_status(file: IO[bytes], status: os.stat_result) -> None:
    """Copy the permissions and times of another file to one just written, where that is possible."""
    file.flush()
    with suppress(OSError, AttributeError, TypeError, NotImplementedError):
        os.fchmod(file.fileno(), status.st_mode & 0o777)
        os.utime(file.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))
