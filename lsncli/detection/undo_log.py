"""The undo file of ``lsn score --move``, ``--copy`` and ``--link``: signed lines, so that only what this tool
wrote for this user is ever taken back.

Each line is a JSON object that ends in ``mac``: HMAC-SHA256, under a key of the user, of the line before it
(its ``mac``) and of this one. A line that was altered, inserted, left out or put elsewhere breaks the chain;
a last line that a kill cut short is ignored. The first line is ``{"lsn_undo": 2, "folder": DIR, "created":
[DIR and the folders around it that were made], "id": a random text}``.
"""

import hmac
import json
import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lsncli.detection.file_moves import as_binary
from lsncli.errors import LsnError
from lsncli.files import OpenFolder

KEY = "undo.key"
KEY_BYTES = 32
_BEGINNING = b"lsn undo 2\n"
"""What stands for the line before the first one."""
_MAC = b', "mac": "'
_MAC_LENGTH = len(_MAC) + 64 + len(b'"}')


def key_path() -> Path:
    """Where the user's key lies: ``$XDG_STATE_HOME/lsn/undo.key``, by default below ``~/.local/state``."""
    state = os.environ.get("XDG_STATE_HOME", "")
    folder = Path(state) if os.path.isabs(state) else Path("~/.local/state").expanduser()
    return folder / "lsn" / KEY


def read_key() -> bytes | None:
    """The user's key; None if there is none yet. Raises LsnError for one that others may have read."""
    path = key_path()
    try:
        with OpenFolder.at(path.parent) as folder, open(folder.open_file(path.name), "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            key = file.read(KEY_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LsnError(f"The key {path} cannot be read: {error.strerror or error}.") from error
    if os.name != "nt" and stat.S_IMODE(mode) & 0o077:
        raise LsnError(
            f"The key {path} can be read by other users.",
            "Remove it: a new one is made. What it signed can then be undone with --unsigned only.",
        )
    if len(key) != KEY_BYTES:
        raise LsnError(f"The key {path} is damaged: expected {KEY_BYTES} bytes.", "Remove it.")
    return key


def make_key() -> bytes:
    """The user's key, made on first use. Raises LsnError if it cannot be."""
    path = key_path()
    key = read_key()
    if key is not None:
        return key
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (
            OpenFolder.at(path.parent) as folder,
            suppress(FileExistsError),  # another process was faster
            folder.writing(path.name, as_binary, private=True) as file,
        ):
            file.write(secrets.token_bytes(KEY_BYTES))
    except OSError as error:
        raise LsnError(
            f"The key for undo files cannot be written to {path}: {error.strerror or error}.",
            "Set XDG_STATE_HOME to a folder that can be written.",
        ) from error
    key = read_key()
    if key is None:
        raise LsnError(f"The key {path} was removed.", "Try again.")
    return key


class UndoLog:
    """An undo file that is being written; ``begin`` makes one."""

    def __init__(self, path: Path, handle: int, key: bytes) -> None:
        self.path = path
        self._handle, self._key, self._mac, self._end = handle, key, _BEGINNING, 0

    def note(self, **fields: Any) -> None:
        """Write a line before its change is made. Raises OSError; the next line then takes its place.

        ASCII, so that a name that is not UTF-8 comes back to the byte.
        """
        body = json.dumps(fields)[:-1].encode("ascii")
        mac = _chained(self._key, self._mac, body)
        left = memoryview(body + _MAC + mac + b'"}\n')
        end = os.lseek(self._handle, self._end, os.SEEK_SET) + len(left)
        while left:
            left = left[os.write(self._handle, left) :]
        self._mac, self._end = mac, end


@contextmanager
def begin(folder: Path) -> Iterator[UndoLog]:
    """Make the folder, whose full path contains no link, and a new undo file in it.

    Raises LsnError if that is not possible.
    """
    key = make_key()
    created = [str(one) for one in (folder, *folder.parents) if not os.path.exists(one)]
    try:
        with OpenFolder.real(folder, make=True) as place:
            name, handle = _new_log(place)
            log = UndoLog(folder / name, handle, key)
            try:
                log.note(lsn_undo=2, folder=str(folder), created=created, id=secrets.token_hex(8))
            except OSError:
                os.close(handle)
                place.remove(name)
                raise
    except OSError as error:
        raise LsnError(
            f"Images cannot be sorted into {folder}: {error.strerror or error}.", "Name another folder."
        ) from error
    try:
        yield log
    finally:
        os.close(handle)


def _new_log(place: OpenFolder) -> tuple[str, int]:
    stamp, number = time.strftime("%Y%m%d-%H%M%S"), 1
    while True:
        name = f"lsn-undo-{stamp}{f'-{number}' if number > 1 else ''}.jsonl"
        try:
            return name, place.new_file(name)
        except FileExistsError:
            number += 1


class SignatureChain:
    """Checks one line after the other against the user's key."""

    def __init__(self, key: bytes | None) -> None:
        self._key, self._mac = key, _BEGINNING

    def holds(self, line: bytes) -> bool:
        """Whether this line, without its line end, follows the ones before as it was written."""
        body, end = line[:-_MAC_LENGTH], line[-_MAC_LENGTH:]
        mac = end[len(_MAC) : -2]
        if self._key is None or end[: len(_MAC)] != _MAC or end[-2:] != b'"}':
            return False
        expected = _chained(self._key, self._mac, body)
        self._mac = expected
        return hmac.compare_digest(mac, expected)


def _chained(key: bytes, before: bytes, body: bytes) -> bytes:
    return hmac.new(key, before + body, "sha256").hexdigest().encode("ascii")
