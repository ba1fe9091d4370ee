"""The undo file of ``lsn score --move``, ``--copy`` and ``--link``.

Its lines are signed, so that only changes that lsn recorded for this user are undone.

Each line is a JSON object that ends in ``mac``: the HMAC-SHA256, with a key of the user, of the ``mac`` of
the previous line and of this line. A line that was altered, inserted, removed or reordered breaks the chain;
an incomplete last line (the process was killed) is ignored. The first line is ``{"lsn_undo": 2, "folder":
DIR, "created": [DIR and the parent folders that were created], "id": a random text}``.
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
"""The initial value of the chain, in place of a previous ``mac``."""
_MAC = b', "mac": "'
_MAC_LENGTH = len(_MAC) + 64 + len(b'"}')


def key_path() -> Path:
    """Return the path of the key: ``$XDG_STATE_HOME/lsn/undo.key``, by default below ``~/.local/state``."""
    state = os.environ.get("XDG_STATE_HOME", "")
    folder = Path(state) if os.path.isabs(state) else Path("~/.local/state").expanduser()
    return folder / "lsn" / KEY


def read_key() -> bytes | None:
    """Read the user's key; None if there is none yet. Raises LsnError if other users can read it."""
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
    """Read the user's key, or create it on first use. Raises LsnError if that fails."""
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
    """An undo file that is being written; ``begin`` creates one."""

    def __init__(self, path: Path, handle: int, key: bytes) -> None:
        self.path = path
        self._handle, self._key, self._mac, self._end = handle, key, _BEGINNING, 0

    def note(self, **fields: Any) -> None:
        """Write a line before its change is made. Raises OSError; the next line then overwrites it.

        The line is ASCII, so that a name that is not UTF-8 is restored exactly.
        """
        body = json.dumps(fields)[:-1].encode("ascii")
        mac = _chain_mac(self._key, self._mac, body)
        unwritten = memoryview(body + _MAC + mac + b'"}\n')
        end = os.lseek(self._handle, self._end, os.SEEK_SET) + len(unwritten)
        while unwritten:
            unwritten = unwritten[os.write(self._handle, unwritten) :]
        self._mac, self._end = mac, end


@contextmanager
def begin(folder: Path) -> Iterator[UndoLog]:
    """Create the folder, whose full path contains no link, and a new undo file in it.

    Raises LsnError if that fails.
    """
    key = make_key()
    created = [str(path) for path in (folder, *folder.parents) if not os.path.exists(path)]
    try:
        with OpenFolder.real(folder, make=True) as target:
            name, handle = _create_log(target)
            log = UndoLog(folder / name, handle, key)
            try:
                log.note(lsn_undo=2, folder=str(folder), created=created, id=secrets.token_hex(8))
            except OSError:
                os.close(handle)
                target.remove(name)
                raise
    except OSError as error:
        raise LsnError(
            f"Images cannot be sorted into {folder}: {error.strerror or error}.", "Name another folder."
        ) from error
    try:
        yield log
    finally:
        os.close(handle)


def _create_log(folder: OpenFolder) -> tuple[str, int]:
    stamp, number = time.strftime("%Y%m%d-%H%M%S"), 1
    while True:
        name = f"lsn-undo-{stamp}{f'-{number}' if number > 1 else ''}.jsonl"
        try:
            return name, folder.new_file(name)
        except FileExistsError:
            number += 1


class SignatureChain:
    """Verify the lines of an undo file, in order, with the user's key."""

    def __init__(self, key: bytes | None) -> None:
        self._key, self._mac = key, _BEGINNING

    def holds(self, line: bytes) -> bool:
        """Return whether the next line (without its line end) is what was written after the previous one."""
        body, end = line[:-_MAC_LENGTH], line[-_MAC_LENGTH:]
        mac = end[len(_MAC) : -2]
        if self._key is None or end[: len(_MAC)] != _MAC or end[-2:] != b'"}':
            return False
        expected = _chain_mac(self._key, self._mac, body)
        self._mac = expected
        return hmac.compare_digest(mac, expected)


def _chain_mac(key: bytes, previous: bytes, body: bytes) -> bytes:
    return hmac.new(key, previous + body, "sha256").hexdigest().encode("ascii")
