"""Read CIFAR-10 and CIFAR-100 as published: Python batches or binary files, unpacked or in a .tar.gz.

Images are passed on as PPM, so the model gets the pixels of the archive. Keys do not depend on the format:
``cat/data_batch_1-00012`` is the same image in all of them.

A pickle is a program: ``pickle.load`` may call any function. The reader here knows four names, replaces each
by a harmless class or function, and refuses all others.
"""

import pickle
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from lsncli.console import printable
from lsncli.errors import LsnError
from lsncli.images.item import ImageItem
from lsncli.images.read import Undecodable

Bytes = NDArray[np.uint8]

MOST_ITEMS = 1 << 28
"""Elements that an array may have: CIFAR's largest has 153,600,000."""


class _Type:
    """Replaces ``numpy.dtype``: the name of a type without its behaviour."""

    def __init__(self, name: Any = "", *_: Any) -> None:
        self.name = name

    def __setstate__(self, state: Any) -> None:
        """Ignore byte order and fields, which an array of bytes lacks."""


class _Array:
    """Replaces an array while it is read."""

    def __init__(self) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _NdArray:
    """Replaces the class ``numpy.ndarray``, an argument in pickles."""


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _encode(text: Any, encoding: Any = "latin1", *_: Any) -> bytes:
    """Decode bytes as Python 3 writes them into a pickle of protocol 2."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError("bytes in an encoding other than latin1")
    return text.encode("latin1")


_KNOWN: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): _NdArray,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _encode,
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _KNOWN[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it uses {module}.{name}, which is refused") from None


def read_plain_pickle(file: IO[bytes], name: str) -> dict[str, Any]:
    """Read the dictionary in a pickle, with keys as text, arrays as uint8 and other bytes unchanged.

    ``name`` is the file in messages. Raises LsnError for a pickle that contains other objects than arrays of
    bytes, is no dictionary, or is damaged. No function that the file names is ever called.
    """
    try:
        content = _Reader(file, encoding="bytes").load()
        if not isinstance(content, dict):
            raise ValueError("it contains no dictionary")
        return {_text(key): _value(value) for key, value in content.items()}
    except Exception as error:  # a damaged or hostile pickle raises anything
        raise LsnError(
            f"{name} cannot be read as a pickle of CIFAR: {printable(str(error))}.",
            "Download the archive again, or use the binary version.",
        ) from error


def _text(key: Any) -> str:
    if isinstance(key, bytes):
        return key.decode("latin1")
    if isinstance(key, str):
        return key
    raise ValueError("a key of its dictionary is no text")


def _value(value: Any) -> Any:
    if not isinstance(value, _Array):
        return value
    if not isinstance(value.state, tuple) or len(value.state) != 5:
        raise ValueError("an array in an unknown form")
    _, shape, kind, by_column, data = value.state
    if not isinstance(kind, _Type) or kind.name not in (b"u1", "u1") or by_column:
        raise ValueError("an array that is not rows of bytes")
    if not isinstance(shape, tuple) or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise ValueError("an array without a shape")
    if isinstance(data, str):
        data = data.encode("latin1")
    count = int(np.prod(shape, dtype=object))
    if not isinstance(data, bytes) or count > MOST_ITEMS or len(data) != count:
        raise ValueError("an array whose shape and data differ")
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)


SIDE = 32
PIXELS = 3 * SIDE * SIDE
HEADER = b"P6 %d %d 255\n" % (SIDE, SIDE)
LARGEST = 1 << 28
"""Bytes that a file of an archive may have; CIFAR's largest are 155 MB."""


@dataclass(frozen=True)
class CifarKind:
    """One of the two data sets: its files by role, and the start of its records."""

    classes: int
    train: tuple[str, ...]
    test: tuple[str, ...]
    labels: str
    """The key of the labels in a pickle."""
    label_bytes: int
    """Bytes before the pixels of a binary record; the last is the (fine) label."""

    def files(self, role: str) -> tuple[str, ...]:
        """Return the names of the files of ``train`` or ``test``, without extension."""
        return self.train if role == "train" else self.test


KINDS = {
    10: CifarKind(10, tuple(f"data_batch_{n}" for n in range(1, 6)), ("test_batch",), "labels", 1),
    100: CifarKind(100, ("train",), ("test",), "fine_labels", 2),
}


class CifarImages:
    """The images of one file, as planar RGB. Thread-safe."""

    def __init__(self, pixels: Bytes) -> None:
        self._pixels = pixels.reshape(-1, 3, SIDE, SIDE)

    @property
    def size(self) -> int:
        """The bytes of all images."""
        return self._pixels.size

    def read(self, offset: int, size: int | None) -> bytes:
        """Return image number ``offset`` as PPM. Raises Undecodable if there is no such image."""
        if not 0 <= offset < len(self._pixels):
            raise Undecodable("no such image in its file")
        pixels: bytes = self._pixels[offset].transpose(1, 2, 0).tobytes()
        return HEADER + pixels


def is_cifar(path: Path, classes: int, role: str) -> bool:
    """Return whether a folder contains a file of this role. A file counts as an archive; nothing is read."""
    if path.is_file():
        return True
    names = KINDS[classes].files(role)
    return any((path / name).is_file() or (path / f"{name}.bin").is_file() for name in names)


def scan_cifar(path: Path, classes: int, role: str, names: Sequence[str]) -> list[ImageItem]:
    """List the images of ``train`` or ``test`` in a folder or archive; ``names`` are the classes by label.

    Raises LsnError for a file that is missing, damaged, or of another shape. No code in a pickle is run.
    """
    kind, images = KINDS[classes], []
    with _open_files(path) as open_file:
        for name in kind.files(role):
            labels, pixels = _read(open_file, path, name, kind)
            content = CifarImages(pixels)
            for number, label in enumerate(labels):
                key = f"{names[label]}/{name}-{number:05d}"
                size = len(HEADER) + PIXELS
                member, folder = f"{name}#{number}", names[label]
                images.append(ImageItem(key, str(path), number, size, content, member, folder=folder))
    return images


class _Opener:
    """Opens the files of a folder or of an archive by name."""

    def __init__(self, folder: Path | None, tar: tarfile.TarFile | None) -> None:
        self._folder, self._tar = folder, tar
        self._members = {} if tar is None else {member.name.rpartition("/")[2]: member for member in tar}

    def __call__(self, name: str) -> IO[bytes] | None:
        if self._folder is not None:
            path = self._folder / name
            if not path.is_file():
                return None
            _check_size(path.stat().st_size, name)
            return path.open("rb")
        member = self._members.get(name)
        if self._tar is None or member is None or not member.isreg():
            return None
        _check_size(member.size, name)
        file = self._tar.extractfile(member)
        return None if file is None else BytesIO(file.read())


@contextmanager
def _open_files(path: Path) -> Iterator[_Opener]:
    try:
        if path.is_dir():
            yield _Opener(path, None)
        else:
            with tarfile.open(path) as tar:
                yield _Opener(None, tar)
    except (OSError, EOFError, tarfile.TarError) as error:
        raise LsnError(
            f"{path} cannot be read: {printable(str(error))}.", "Download the archive again."
        ) from error


def _read(open_file: _Opener, path: Path, name: str, kind: CifarKind) -> tuple[list[int], Bytes]:
    """Return the labels and pixels of a file, in its binary form or as a pickle."""
    where = f"{path}, {name}"
    if file := open_file(f"{name}.bin"):
        with file:
            data = np.frombuffer(file.read(), dtype=np.uint8)
        length = kind.label_bytes + PIXELS
        if not data.size or data.size % length:
            raise LsnError(
                f"{where}.bin: expected records of {length} bytes, found {data.size} bytes in all."
            )
        records = data.reshape(-1, length)
        labels, pixels = records[:, kind.label_bytes - 1].tolist(), records[:, kind.label_bytes :]
    elif file := open_file(name):
        with file:
            content = read_plain_pickle(file, where)
        labels, pixels = content.get(kind.labels, ()), content.get("data", np.empty(0, np.uint8))
        if not isinstance(labels, list) or not isinstance(pixels, np.ndarray):
            names = printable(", ".join(content))
            raise LsnError(f"{where}: expected 'data' and '{kind.labels}', found {names}.")
        if pixels.ndim != 2 or pixels.shape != (len(labels), PIXELS):
            raise LsnError(f"{where}: expected {len(labels)} images of {PIXELS} bytes, found {pixels.shape}.")
    else:
        raise LsnError(f"{path} has no file '{name}' or '{name}.bin'.", "Download the archive again.")
    if not all(isinstance(label, int) and 0 <= label < kind.classes for label in labels):
        raise LsnError(f"{where}: expected labels from 0 to {kind.classes - 1}, found others.")
    return labels, np.ascontiguousarray(pixels)


def _check_size(size: int, name: str) -> None:
    if size > LARGEST:
        raise LsnError(f"{name} is {size / 1e6:,.0f} MB, more than any file of CIFAR has.")
