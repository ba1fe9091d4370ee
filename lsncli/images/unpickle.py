"""Read the pickles of CIFAR without running anything they name.

A pickle is a program: loading one by ``pickle.load`` may call any function. This reader knows four names and
gives each a stand-in of its own, so that not even numpy's code sees what the file says. Everything else is
refused.
"""

import pickle
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from lsncli.console import printable
from lsncli.errors import LsnError

Bytes = NDArray[np.uint8]

MOST_ITEMS = 1 << 28
"""Elements of an array: CIFAR's largest has 153,600,000."""


class _Type:
    """Stands for ``numpy.dtype``: the name of a type, and nothing that it could do."""

    def __init__(self, name: Any = "", *_: Any) -> None:
        self.name = name

    def __setstate__(self, state: Any) -> None:
        """Byte order and fields: an array of bytes has neither."""


class _Array:
    """Stands for ``numpy.ndarray`` while it is read."""

    def __init__(self) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _NdArray:
    """Stands for the class ``numpy.ndarray``, which pickles name as an argument."""


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _encode(text: Any, encoding: Any = "latin1", *_: Any) -> bytes:
    """How Python 3 writes bytes into a pickle of protocol 2."""
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
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is refused") from None


def read_plain_pickle(file: IO[bytes], name: str) -> dict[str, Any]:
    """The dictionary in a pickle, with text keys; arrays are uint8, bytes in values stay bytes.

    ``name`` is the file in messages. Raises LsnError for a pickle that names anything but arrays of bytes,
    holds no dictionary, or is damaged; nothing that the file names is ever called.
    """
    try:
        content = _Reader(file, encoding="bytes").load()
        if not isinstance(content, dict):
            raise ValueError("it holds no dictionary")
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
        raise ValueError("an array in a form that is not known")
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
