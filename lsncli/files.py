"""Every file that is written: there whole or not at all, whatever happens meanwhile.

A file gets a temporary name in its folder, is forced to the disk, and is then renamed. ``OpenFolder`` does
the same within an open folder, where no link is followed and nothing is overwritten unless asked for.
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
"""Whether a folder can be held open."""
LINK = "is a symbolic link, which is not followed"
_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0)
NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_BINARY = getattr(os, "O_BINARY", 0)
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | NO_LINK | _BINARY
_DESCRIPTOR_FOLDERS = ("/proc/", "/dev/fd/")
_LONGEST = 200
"""Bytes of a file's name that its temporary name repeats: with the rest it must not become too long."""


class OpenFolder(AbstractContextManager["OpenFolder"]):
    """An open folder: what is done in it is done there, wherever its path leads by now.

    Without a descriptor (on Windows, and where nobody else can be in the way) its path stands for it. Names
    are those of entries, no paths. No method follows a link that has the name. All raise OSError.
    """

    def __init__(self, path: str, handle: int | None = None) -> None:
        self.path, self._handle = path, handle

    @classmethod
    def at(cls, path: str | os.PathLike[str]) -> "OpenFolder":
        """Open a folder by a path whose links are followed."""
        name = os.fspath(path)
        if DESCRIPTORS:
            return cls(name, os.open(name, _FOLDER))
        os.scandir(name).close()
        return cls(name)

    @classmethod
    def real(cls, path: str | os.PathLike[str], *, make: bool = False) -> "OpenFolder":
        """Open a folder by a full path that contains no link; ``make`` makes what is missing of it."""
        first, *names = Path(os.path.normpath(path)).parts
        folder = cls.at(first)
        for name in names:
            with folder as outer:
                folder = outer.inside(name, make=make)
        return folder

    def inside(self, name: str, *, make: bool = False) -> "OpenFolder":
        """Open a folder in this one; ``make`` makes it if it is missing."""
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
        """Whether ``status`` is of this very folder."""
        own = os.stat(self.path) if self._handle is None else os.fstat(self._handle)
        return os.path.samestat(own, status)

    def status(self, name: str) -> os.stat_result:
        """What has the name; of a link, what the link itself is."""
        return os.stat(self._name(name), dir_fd=self._handle, follow_symlinks=False)

    def has(self, name: str) -> bool:
        """Whether anything has the name, be it a link that leads nowhere."""
        try:
            self.status(name)
        except FileNotFoundError:
            return False
        return True

    def open_file(self, name: str, flags: int = os.O_RDONLY) -> int:
        """A descriptor of the regular file of that name. A pipe or a device is refused at once."""
        if not DESCRIPTORS and stat.S_ISLNK(self.status(name).st_mode):
            raise OSError(LINK)
        waiting = getattr(os, "O_NONBLOCK", 0)
        try:
            handle = os.open(self._name(name), flags | NO_LINK | _BINARY | waiting, dir_fd=self._handle)
        except OSError as error:
            raise (OSError(LINK) if error.errno == errno.ELOOP else error) from error
        if stat.S_ISREG(os.fstat(handle).st_mode):
            return handle
        os.close(handle)
        raise OSError("is not a regular file")

    def new_file(self, name: str, mode: int = 0o666) -> int:
        """A descriptor of a new, empty file. Raises FileExistsError if the name is taken."""
        return os.open(self._name(name), _NEW, mode, dir_fd=self._handle)

    def make_folder(self, name: str) -> None:
        """Make a folder. Raises FileExistsError if the name is taken."""
        os.mkdir(self._name(name), dir_fd=self._handle)

    def make_link(self, target: str, name: str) -> None:
        """Make a symbolic link to ``target``. Raises FileExistsError if the name is taken."""
        os.symlink(target, self._name(name), dir_fd=self._handle)

    def link_target(self, name: str) -> str:
        """Where the symbolic link of that name leads."""
        return os.readlink(self._name(name), dir_fd=self._handle)

    def remove(self, name: str) -> None:
        """Remove a file or link."""
        os.unlink(self._name(name), dir_fd=self._handle)

    def remove_folder(self, name: str) -> None:
        """Remove a folder that is empty."""
        os.rmdir(self._name(name), dir_fd=self._handle)

    def move(self, name: str, other: "OpenFolder", new: str) -> None:
        """Rename a file into ``other``. Raises FileExistsError if the name ``new`` is taken there.

        A rename would overwrite: an empty file takes the name first. A kill in between leaves it.
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
        """A new file that gets its name when the block ends well; otherwise nothing is left of it.

        ``opened`` makes a file object of a descriptor. Raises FileExistsError if the name is taken, unless
        ``overwrite``: then the file takes the permissions and the place of the old one. ``temporary`` is the
        name that it has meanwhile; whatever else has that name is removed. Only its owner may read a
        ``private`` file. The content is on the disk then; that a new name is there too takes ``sync``.
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
        """Force names to the disk, where folders can be opened for that."""
        with suppress(OSError):
            handle = os.open(self._name("."), os.O_RDONLY, dir_fd=self._handle)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def _publish(self, temporary: str, name: str) -> None:
        try:  # a second name never overwrites, and has the whole file at once
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
    """A hidden name, of nothing that exists, for a file that will be called ``name``."""
    return f"{_beginning(name)}{uuid4().hex[:16]}.tmp"


def is_temporary(name: str, final: str) -> bool:
    """Whether ``name`` is a temporary one of a file that will be called ``final``."""
    return name.startswith(_beginning(final)) and name.endswith(".tmp")


def whole(
    path: Path, *, mode: str = "wb", buffering: int = -1, temporary: str = "", private: bool = False
) -> AbstractContextManager[IO[bytes]]:
    """A binary file that takes the place of ``path`` when the block ends well; an old one stays otherwise.

    Missing folders are made. A symbolic link at ``path`` is replaced, not followed. A device or a pipe is
    written to as it is. ``temporary`` as for ``OpenFolder.writing``. Raises OSError.
    """
    return _written(path, lambda handle: open(handle, mode, buffering=buffering), temporary, private)


def whole_text(path: Path, *, errors: str = "strict") -> AbstractContextManager[IO[str]]:
    """``whole`` for UTF-8 text, whose line ends are written as they are."""
    return _written(path, lambda handle: open(handle, "w", encoding="utf-8", errors=errors, newline=""))


def write_whole(path: Path, data: bytes, *, private: bool = False) -> None:
    """Write a file at once; only its owner may read a ``private`` one.

    Raises LsnError; an old file then stays.
    """
    try:
        with whole(path, private=private) as file:
            file.write(data)
    except OSError as error:
        raise LsnError(f"{path} could not be written: {error.strerror or error}.") from error


def write_own(path: Path, data: bytes, *, private: bool = False) -> None:
    """``write_whole`` for a file that only lsn names: whatever has that name is replaced, be it a pipe."""
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
    """A file that lsn wrote, of at most ``most`` bytes. Raises OSError; for a link, pipe or device, too."""
    with OpenFolder.at(path.parent) as folder, open(folder.open_file(path.name), "rb") as file:
        if os.fstat(file.fileno()).st_size > most:
            raise OSError("is larger than any that lsn writes")
        return file.read()


def check_writable(path: Path) -> None:
    """Raise OSError, before the work rather than after it, if ``path`` cannot be written."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not _written_in_place(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        folder, name = OpenFolder(os.fspath(path.parent)), temporary_name(path.name)
        os.close(folder.new_file(name))
        folder.remove(name)


def place_whole(source: Path, target: Path, *, temporary: str = "") -> None:
    """Give a file a second name, or a copy where there are no hard links. Raises OSError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary or temporary_name(target.name)
    linked = target.with_name(temporary)
    linked.unlink(missing_ok=True)
    try:
        os.link(source, linked)
    except OSError:
        with source.open("rb") as old, whole(target, temporary=temporary) as new:
            shutil.copyfileobj(old, new, 1 << 20)
    else:
        try:
            os.replace(linked, target)
        finally:
            linked.unlink(missing_ok=True)  # still there where the target was the same file already


def sync(path: Path) -> None:
    """Force a folder to the disk."""
    OpenFolder(os.fspath(path)).sync()


@contextmanager
def _written(
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


def _beginning(name: str) -> str:
    return f".{os.fsdecode(os.fsencode(name)[:_LONGEST])}."


def _written_in_place(path: Path) -> bool:
    """Whether ``path`` is a device, a pipe, or an open file of a process such as /dev/stdout."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return True
        leads = path.parent / os.readlink(path) if path.is_symlink() else path
    except OSError:
        return False
    folders = (f"{os.path.realpath(one.parent)}/" for one in (path, leads))
    return any(folder.startswith(_DESCRIPTOR_FOLDERS) for folder in folders)
