"""Tables as NumPy and safetensors files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsncli.app.tables import Table, load_array, numbers, parsed
from lsncli.errors import LsnError
from lsncli.types import Failure


def read_npy(path: Path) -> Table:
    """Features alone."""
    return Table(numbers(path, parsed(path, lambda: load_array(path))))


def write_npy(path: Path, table: Table) -> None:
    """Features alone."""
    with open(path, "wb") as file:
        np.save(file, table.features, allow_pickle=False)


def read_npz(path: Path) -> Table:
    """Arrays ``features`` and any of ``labels``, ``keys``, ``classes``, ``failure_keys``,
    ``failure_reasons``, ``text`` and ``text_classes``."""
    arrays = parsed(path, lambda: load_array(path))
    if not isinstance(arrays, dict):
        raise LsnError(f"{path} is not a file of named arrays, whatever its name says.")
    return _from_arrays(path, arrays)


def write_npz(path: Path, table: Table) -> None:
    """Everything, under the names that ``read_npz`` reads."""
    arrays: dict[str, Any] = {
        "features": table.features,
        "labels": table.labels,
        "keys": _texts(table.keys),
        "classes": _texts(table.classes),
        "failure_keys": _texts([failure.key for failure in table.failures]),
        "failure_reasons": _texts([failure.reason for failure in table.failures]),
    }
    if table.text is not None:
        arrays |= {"text": table.text, "text_classes": _texts(table.text_classes)}
    with open(path, "wb") as file:
        np.savez(file, **arrays)


def read_safetensors(path: Path) -> Table:
    """Tensors ``features``, ``labels`` and ``text``; safetensors cannot hold keys or names."""
    from safetensors.numpy import load_file

    return _from_arrays(path, parsed(path, lambda: load_file(path)))


def _texts(values: Sequence[str] | None) -> NDArray[np.str_]:
    return np.array(values or (), dtype=np.str_)


def _from_arrays(path: Path, arrays: dict[str, Any]) -> Table:
    if "features" not in arrays:
        raise LsnError(f"{path}: expected an array 'features', found {', '.join(arrays) or 'none'}.")

    def texts(name: str) -> tuple[str, ...] | None:
        if name not in arrays:
            return None
        if arrays[name].ndim != 1:
            raise LsnError(f"{path}: expected one dimension of '{name}', found {arrays[name].shape}.")
        return tuple(str(value) for value in arrays[name].tolist())

    keys, reasons = texts("failure_keys") or (), texts("failure_reasons") or ()
    if len(keys) != len(reasons):
        raise LsnError(f"{path}: {len(keys)} failure_keys but {len(reasons)} failure_reasons.")
    return Table(
        features=numbers(path, arrays["features"]),
        labels=texts("labels"),
        keys=texts("keys"),
        classes=texts("classes"),
        failures=tuple(Failure(key, reason) for key, reason in zip(keys, reasons, strict=True)),
        text=numbers(path, arrays["text"]) if "text" in arrays else None,
        text_classes=texts("text_classes"),
    )
