"""Write files atomically, so that a file is complete or absent even after a crash.

A file is written under a temporary name in its folder, forced to disk, and then renamed. ``OpenFolder`` does
the same relative to an open folder: it follows no link, and overwrites nothing unless told to.
"""

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any
from uuid import uuid4

from lsncli.errors import LsnError

DESCRIPTORS = os.open in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW")
"""Whether this system supports operations relative to a folder descriptor."""
LINK = "is a symbolic link, which is not followed"
_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0)
NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_BINARY = getattr(os, "O_BINARY", 0)
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | NO_LINK | _BINARY
_DESCRIPTOR_FOLDERS = ("/proc/", "/dev/fd/")
_LONGEST = 200
"""Bytes of a file name that its temporary name repeats; more could exceed the longest possible name."""


class OpenFolder(AbstractContextManager["OpenFolder"]):
    """An open folder: operations stay in it even if its path is replaced meanwhile.

    Without a descriptor (on Windows, and for folders that no other process replaces) its path is used
    instead. Names are entries of the folder, not paths. No method follows a link of that name. All raise
    OSError.
    """

    def __init__(self, path: str, handle: int | None = None) -> None:
        self.path, self._handle = path, handle

    @classmethod
    def at(cls, path: str | os.PathLike[str]) -> "OpenFolder":
        """Open a folder by its path; follow links."""
        name = os.fspath(path)
        if DESCRIPTORS:
            return cls(name, os.open(name, _FOLDER))
        os.scandir(name).close()
        return cls(name)

    @classmethod
    def real(cls, path: str | os.PathLike[str], *, make: bool = False) -> "OpenFolder":
        """Open a folder by an absolute path that contains no link; ``make`` creates missing folders."""
        first, *names = Path(os.path.normpath(path)).parts
        folder = cls.at(first)
        for name in names:
            with folder as outer:
                folder = outer.inside(name, make=make)
        return folder

    def inside(self, name: str, *, make: bool = False) -> "OpenFolder":
        """Open a subfolder; ``make`` creates it if it is missing."""
        path = os.path.join(self.path, name)
        if make:
            with suppress(FileExistsError):
                self.make_folder(name)
        status = self.status(name)
        if stat.S_ISLNK(status.st_mode):
            raise OSError(f"{path} {LINK}")
        if not stat.S_ISDIR(status.st_mode):
            raise OSError(f"{path} is not a folder")
        return OpenFolder(
            path, os.open(name, _FOLDER | NO_LINK, dir_fd=self._handle) if DESCRIPTORS else None
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handle is not None:
            os.close(self._handle)

    def is_same(self, status: os.stat_result) -> bool:
        """Return whether ``status`` is that of this folder."""
        own = os.stat(self.path) if self._handle is None else os.fstat(self._handle)
        return os.path.samestat(own, status)

    def status(self, name: str) -> os.stat_result:
        """Return the status of an entry; for a link, that of the link itself."""
        return os.stat(self._name(name), dir_fd=self._handle, follow_symlinks=False)

    def has(self, name: str) -> bool:
        """Return whether there is an entry of that name, including a broken link."""
        try:
            self.status(name)
        except FileNotFoundError:
            return False
        return True

    def open_file(self, name: str, flags: int = os.O_RDONLY) -> int:
        """Open a regular file and return its descriptor. Refuse a pipe or a device without waiting."""
        if not DESCRIPTORS and stat.S_ISLNK(self.status(name).st_mode):
            raise OSError(LINK)
        nonblocking = getattr(os, "O_NONBLOCK", 0)
        try:
            handle = os.open(self._name(name), flags | NO_LINK | _BINARY | nonblocking, dir_fd=self._handle)
        except OSError as error:
            raise (OSError(LINK) if error.errno == errno.ELOOP else error) from error
        if stat.S_ISREG(os.fstat(handle).st_mode):
            return handle
        os.close(handle)
        raise OSError("is not a regular file")

    def new_file(self, name: str, mode: int = 0o666) -> int:
        """Create an empty file and return its descriptor. Raises FileExistsError if the name is taken."""
        return os.open(self._name(name), _NEW, mode, dir_fd=self._handle)

    def make_folder(self, name: str) -> None:
        """Create a folder. Raises FileExistsError if the name is taken."""
        os.mkdir(self._name(name), dir_fd=self._handle)

    def make_link(self, target: str, name: str) -> None:
        """Create a symbolic link to ``target``. Raises FileExistsError if the name is taken."""
        os.symlink(target, self._name(name), dir_fd=self._handle)

    def link_target(self, name: str) -> str:
        """Return the target of a symbolic link."""
        return os.readlink(self._name(name), dir_fd=self._handle)

    def remove(self, name: str) -> None:
        """Remove a file or link."""
        os.unlink(self._name(name), dir_fd=self._handle)

    def remove_folder(self, name: str) -> None:
        """Remove an empty folder."""
        os.rmdir(self._name(name), dir_fd=self._handle)

    def move(self, name: str, other: "OpenFolder", new: str) -> None:
        """Rename a file into ``other``. Raises FileExistsError if the name ``new`` is taken there.

        A rename would overwrite, so an empty file reserves the name first. A killed process can leave it
        behind.
        """
        os.close(other.new_file(new))
        try:
            self._replace(name, other, new)
        except OSError:
            other.remove(new)
            raise

    @contextmanager
    def writing(
        self,
        name: str,
        opened: Callable[[int], IO[Any]],
        *,
        overwrite: bool = False,
        temporary: str = "",
        private: bool = False,
    ) -> Iterator[IO[Any]]:
        """Write a new file that gets its name if the block succeeds; on an error nothing is left of it.

        ``opened`` makes a file object of a descriptor. Raises FileExistsError if the name is taken, unless
        ``overwrite`` is set: then the file replaces the old one and takes its permissions. ``temporary`` is
        its name while it is written; an existing file of that name is removed. Only its owner can read a
        ``private`` file. The content is then on disk; call ``sync`` to force a new name to disk too.
        """
        if temporary:
            with suppress(FileNotFoundError):
                self.remove(temporary)
        temporary = temporary or temporary_name(name)
        handle = self.new_file(temporary, 0o600 if private else 0o666)
        try:
            with opened(handle) as file:
                if overwrite and not private:
                    self._take_mode(name, handle)
                yield file
                file.flush()
                os.fsync(handle)
            if overwrite:
                self._replace(temporary, self, name)
                self.sync()
            else:
                self._publish(temporary, name)
        finally:
            with suppress(OSError):
                self.remove(temporary)

    def sync(self) -> None:
        """Force the names in this folder to disk, where the system supports it."""
        with suppress(OSError):
            handle = os.open(self._name("."), os.O_RDONLY, dir_fd=self._handle)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def _publish(self, temporary: str, name: str) -> None:
        try:  # a hard link never overwrites, and appears with the complete file
            os.link(self._name(temporary), self._name(name), src_dir_fd=self._handle, dst_dir_fd=self._handle)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            self.move(temporary, self, name)

    def _take_mode(self, name: str, handle: int) -> None:
        with suppress(OSError, AttributeError):
            status = self.status(name)
            if stat.S_ISREG(status.st_mode):
                os.fchmod(handle, stat.S_IMODE(status.st_mode))

    def _replace(self, name: str, other: "OpenFolder", new: str) -> None:
        paths = self._name(name), other._name(new)
        if self._handle is None and other._handle is None:
            os.replace(*paths)
        else:
            os.replace(*paths, src_dir_fd=self._handle, dst_dir_fd=other._handle)

    def _name(self, name: str) -> str:
        return os.path.join(self.path, name) if self._handle is None else name


def temporary_name(name: str) -> str:
    """Return a unique hidden name for a file that will be called ``name``."""
    return f"{_temporary_prefix(name)}{uuid4().hex[:16]}.tmp"


def is_temporary(name: str, final: str) -> bool:
    """Return whether ``name`` is a temporary name of a file that will be called ``final``."""
    return name.startswith(_temporary_prefix(final)) and name.endswith(".tmp")


def open_atomic(
    path: Path, *, mode: str = "wb", buffering: int = -1, temporary: str = "", private: bool = False
) -> AbstractContextManager[IO[bytes]]:
    """Write a binary file that replaces ``path`` if the block succeeds; on an error an old file stays.

    Missing folders are created. A symbolic link at ``path`` is replaced, not followed. A device or a pipe is
    written to directly. ``temporary`` is as for ``OpenFolder.writing``. Raises OSError.
    """
    return _write_atomically(path, lambda handle: open(handle, mode, buffering=buffering), temporary, private)


def open_atomic_text(path: Path, *, errors: str = "strict") -> AbstractContextManager[IO[str]]:
    """Write a UTF-8 text file as ``open_atomic`` does, without converting line ends."""
    return _write_atomically(
        path, lambda handle: open(handle, "w", encoding="utf-8", errors=errors, newline="")
    )


def write_atomic(path: Path, data: bytes, *, private: bool = False) -> None:
    """Write ``data`` to a file atomically; only its owner can read a ``private`` file.

    Raises LsnError if that fails; an old file then stays.
    """
    try:
        with open_atomic(path, private=private) as file:
            file.write(data)
    except OSError as error:
        raise LsnError(f"{path} could not be written: {error.strerror or error}.") from error


def write_own(path: Path, data: bytes, *, private: bool = False) -> None:
    """Write a file that only lsn uses, as ``write_atomic``; replace whatever has its name, even a pipe."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = OpenFolder(os.fspath(path.parent))
        with folder.writing(
            path.name, lambda handle: open(handle, "wb"), overwrite=True, private=private
        ) as file:
            file.write(data)
    except OSError as error:
        raise LsnError(f"{path} could not be written: {error.strerror or error}.") from error


def read_own(path: Path, most: int) -> bytes:
    """Read a file that lsn wrote, of at most ``most`` bytes. Raises OSError, also for a link or a pipe."""
    with OpenFolder.at(path.parent) as folder, open(folder.open_file(path.name), "rb") as file:
        if os.fstat(file.fileno()).st_size > most:
            raise OSError("is larger than any that lsn writes")
        return file.read()


def check_writable(path: Path) -> None:
    """Raise OSError if ``path`` cannot be written, so that a command can fail before its work."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not _written_in_place(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        folder, name = OpenFolder(os.fspath(path.parent)), temporary_name(path.name)
        os.close(folder.new_file(name))
        folder.remove(name)


def place_atomic(source: Path, target: Path, *, temporary: str = "") -> None:
    """Link ``source`` to ``target`` atomically, or copy it where there are no hard links. Raises OSError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary or temporary_name(target.name)
    linked = target.with_name(temporary)
    linked.unlink(missing_ok=True)
    try:
        os.link(source, linked)
    except OSError:
        with source.open("rb") as old, open_atomic(target, temporary=temporary) as new:
            shutil.copyfileobj(old, new, 1 << 20)
    else:
        try:
            os.replace(linked, target)
        finally:
            linked.unlink(missing_ok=True)  # it remains if the target already was the same file


def sync(path: Path) -> None:
    """Force the names in a folder to disk."""
    OpenFolder(os.fspath(path)).sync()


@contextmanager
def _write_atomically(
    path: Path, opened: Callable[[int], IO[Any]], temporary: str = "", private: bool = False
) -> Iterator[IO[Any]]:
    if _written_in_place(path):
        with opened(os.open(path, os.O_WRONLY | os.O_TRUNC | _BINARY)) as file:
            yield file
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = OpenFolder(os.fspath(path.parent))
    with folder.writing(path.name, opened, overwrite=True, temporary=temporary, private=private) as file:
        yield file


def _temporary_prefix(name: str) -> str:
    return f".{os.fsdecode(os.fsencode(name)[:_LONGEST])}."


def _written_in_place(path: Path) -> bool:
    """Return whether ``path`` is a device, a pipe, or an open file of a process such as /dev/stdout."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return True
        target = path.parent / os.readlink(path) if path.is_symlink() else path
    except OSError:
        return False
    folders = (f"{os.path.realpath(file.parent)}/" for file in (path, target))
    return any(folder.startswith(_DESCRIPTOR_FOLDERS) for folder in folders)
