"""Small files that are there whole or not at all, whatever happens while they are written."""

import os
from contextlib import suppress
from pathlib import Path

from lsncli.errors import LsnError


def write_whole(path: Path, data: bytes, *, private: bool = False) -> None:
    """Write a file by temporary file, fsync and rename; only its owner may read a ``private`` one.

    Raises LsnError; an old one then stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb", opener=_opened_for_owner if private else None) as file:
            file.write(data)
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    except OSError as error:
        raise LsnError(f"{path} could not be written: {error.strerror or error}.") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _opened_for_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def sync(path: Path) -> None:
    """Force a file or folder to the disk (folders cannot be opened for that on Windows, nor need they)."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
