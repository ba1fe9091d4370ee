"""Read and write feature tables as NumPy files, and read safetensors."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsncli.console import printable
from lsncli.errors import LsnError, UsageError
from lsncli.files import open_atomic
from lsncli.images.columns import LABEL_OPTION, NO_LABEL, is_label_name
from lsncli.interchange.label_files import choose_label_column, label_texts
from lsncli.interchange.tables import FeatureTable, checked_read, load_array, to_floats
from lsncli.types import Failure

OURS = frozenset({"features", "keys", "classes", "failure_keys", "failure_reasons", "text", "text_classes"})
"""Arrays of a .npz that never hold labels."""


def read_npy(path: Path, label_column: str) -> FeatureTable:
    """Read features without labels or keys."""
    if label_column not in ("", NO_LABEL):
        raise UsageError(
            f"{path} holds features only, and no '{label_column}'.", f"Leave {LABEL_OPTION} out."
        )
    return FeatureTable(to_floats(path, checked_read(path, lambda: load_array(path))))


def write_npy(path: Path, table: FeatureTable) -> None:
    """Write the features only."""
    with open_atomic(path) as file:
        # NumPy writes to a real file by C functions, which ignore an error of the last bytes on a full disk.
        np.save(SimpleNamespace(write=file.write), table.features, allow_pickle=False)


def read_npz(path: Path, label_column: str) -> FeatureTable:
    """Read the arrays of an ``.npz`` file.

    ``features``, and optionally ``labels`` (or another usual name), ``keys``, ``classes``, ``failure_keys``,
    ``failure_reasons``, ``text`` and ``text_classes``.
    """
    arrays = checked_read(path, lambda: load_array(path))
    if not isinstance(arrays, dict):
        raise LsnError(f"{path} is not a file of named arrays, in spite of its name.")
    return _from_arrays(path, arrays, label_column)


def write_npz(path: Path, table: FeatureTable) -> None:
    """Write the whole table, under the names that ``read_npz`` reads."""
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
    with open_atomic(path) as file:
        np.savez(file, **arrays)


def read_safetensors(path: Path, label_column: str) -> FeatureTable:
    """Read the tensors ``features``, ``labels`` and ``text``; safetensors cannot hold keys or names.

    bfloat16 and 8-bit floats, which NumPy lacks, are converted to float32 without loss.
    """
    return _from_arrays(path, checked_read(path, lambda: _tensors(path)), label_column)


def _tensors(path: Path) -> dict[str, NDArray[Any]]:
    import torch
    from safetensors.torch import load_file

    known = (torch.float16, torch.float32, torch.float64)
    return {
        name: (tensor if tensor.dtype in known or not tensor.is_floating_point() else tensor.float()).numpy()
        for name, tensor in load_file(path).items()
    }


def _texts(values: Sequence[str] | None) -> NDArray[np.str_]:
    return np.array(values or (), dtype=np.str_)


def _from_arrays(path: Path, arrays: dict[str, Any], label_column: str) -> FeatureTable:
    if "features" not in arrays:
        raise LsnError(f"{path}: expected an array 'features', found {', '.join(arrays) or 'none'}.")

    def texts(name: str) -> tuple[str, ...] | None:
        if name not in arrays:
            return None
        if arrays[name].ndim != 1:
            raise LsnError(f"{path}: expected one dimension of '{name}', found {arrays[name].shape}.")
        return tuple(str(value) for value in arrays[name].tolist())

    per_row = [
        name
        for name, array in arrays.items()
        if name not in OURS and array.shape[:1] == arrays["features"].shape[:1] and array.dtype.kind != "f"
    ]
    plausible = [name for name in arrays if name not in OURS and (is_label_name(name) or name in per_row)]
    label = "labels" if "labels" in arrays and not label_column else None
    label = label or choose_label_column(path, plausible, label_column, lambda name: arrays[name].tolist())
    keys, reasons = texts("failure_keys") or (), texts("failure_reasons") or ()
    if len(keys) != len(reasons):
        raise LsnError(f"{path}: {len(keys)} failure_keys but {len(reasons)} failure_reasons.")
    return FeatureTable(
        features=to_floats(path, arrays["features"]),
        labels=None if label is None else _label_texts(path, label, arrays[label]),
        keys=texts("keys"),
        classes=texts("classes"),
        failures=tuple(Failure(key, reason) for key, reason in zip(keys, reasons, strict=True)),
        text=to_floats(path, arrays["text"]) if "text" in arrays else None,
        text_classes=texts("text_classes"),
        note=f"labels from the array '{printable(label)}'" if label not in (None, "labels") else "",
    )


def _label_texts(path: Path, name: str, array: NDArray[Any]) -> tuple[str, ...]:
    if array.ndim != 1 and array.shape[1:] != (1,):
        raise LsnError(f"{path}: expected one dimension of '{name}', found {array.shape}.")
    return label_texts(path, name, array.tolist())
