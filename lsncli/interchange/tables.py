"""Read and write feature tables in the formats of other tools. Pickles, which can run code, are refused."""

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from lsncli import validation
from lsncli.errors import LsnError, UsageError
from lsncli.registry import load
from lsncli.types import Failure, FloatArray, Labels

READERS: dict[str, str] = {
    ".npz": "lsncli.interchange.array_files:read_npz",
    ".npy": "lsncli.interchange.array_files:read_npy",
    ".safetensors": "lsncli.interchange.array_files:read_safetensors",
    ".parquet": "lsncli.interchange.table_files:read_parquet",
    ".csv": "lsncli.interchange.table_files:read_csv",
    ".tsv": "lsncli.interchange.table_files:read_csv",
}

WRITERS: dict[str, str] = {
    ".npz": "lsncli.interchange.array_files:write_npz",
    ".npy": "lsncli.interchange.array_files:write_npy",
    ".parquet": "lsncli.interchange.table_files:write_parquet",
    ".csv": "lsncli.interchange.table_files:write_csv",
}

MOST_CELLS, CELLS_A_BYTE = 1 << 27, 8
"""Numbers that a table may have, or for each byte of its file if that is more."""
MOST_ARRAYS = 1000
MOST_UNPACKED, UNPACKED_A_BYTE = 1 << 28, 50
"""Bytes that the arrays of a .npz may have, or for each byte of the file if that is more."""

PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".joblib")


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """The content of a file of features.

    Features (N, D), and optionally labels (numbers or class names; "" = no class), keys, class names,
    failures and text features (C, D) of ``text_classes``; None = not in the file.

    ``note`` names the columns that were used, for users."""

    features: FloatArray
    labels: Labels | tuple[str, ...] | None = None
    keys: tuple[str, ...] | None = None
    classes: tuple[str, ...] | None = None
    failures: tuple[Failure, ...] = ()
    text: FloatArray | None = None
    text_classes: tuple[str, ...] | None = None
    note: str = ""


def read_table(path: Path, label_column: str = "") -> FeatureTable:
    """Read a table in the format of the file's extension (a key of READERS).

    ``label_column`` names the column or array of labels; "none" leaves them out. Raises
    LsnError for a file that is missing or damaged, UsageError for another extension and for a column that is
    missing or ambiguous, Unavailable for .parquet without pyarrow.
    """
    if path.suffix.lower() in PICKLES:
        raise UsageError(
            f"{path}: a pickle can run code when it is opened, so it never is.",
            "Convert it with the program that wrote it: "
            "numpy.savez('features.npz', features=x.float().numpy(), labels=..., keys=...).",
        )
    table: FeatureTable = _by_extension(path, READERS)(path, label_column)
    return table


def write_table(path: Path, table: FeatureTable) -> None:
    """Write a table in the format of the file's extension (a key of WRITERS).

    Raises LsnError if it cannot be written, UsageError and Unavailable as ``read_table`` does.
    """
    write = _by_extension(path, WRITERS)
    try:
        write(path, table)
    except OSError as error:
        raise LsnError(f"{path} could not be written: {error.strerror or error}.") from error


def read_lines(path: Path) -> tuple[str, ...]:
    """Read texts or numbers from a file: .npy (1-dimensional), .json (a list), or text with one per line."""
    suffix = path.suffix.lower()
    if suffix == ".npy":
        values = checked_read(path, lambda: load_array(path))
        if values.ndim != 1:
            raise LsnError(f"{path}: expected one dimension, found the shape {values.shape}.")
        return tuple(str(value) for value in values.tolist())
    text = checked_read(path, lambda: path.read_text(encoding="utf-8-sig", errors="surrogateescape"))
    if suffix == ".json":
        values = checked_read(path, lambda: validation.parse_json(text))
        if not isinstance(values, list) or not all(isinstance(value, str | int) for value in values):
            raise LsnError(f"{path}: expected a JSON list of names or numbers.")
        return tuple(str(value) for value in values)
    return tuple(line.strip() for line in text.split("\n") if line.strip())


def checked_read(path: Path, read: Callable[[], Any]) -> Any:
    """Return the result of ``read``, and raise LsnError for any error of a damaged file."""
    try:
        return read()
    except FileNotFoundError as error:
        raise LsnError(f"There is no file {path}.") from error
    except LsnError:
        raise
    except Exception as error:  # zipfile, struct, json, pandas and arrow have errors of their own
        text = " ".join(str(error).split()) or type(error).__name__
        hint = "Object arrays are pickles, which are refused: save plain numbers." if "pickle" in text else ""
        raise LsnError(f"{path} cannot be read: {text}.", hint) from error


def load_array(path: Path) -> Any:
    """Read the array of a .npy file, or the arrays of a .npz by name; pickles are refused."""
    with open(path, "rb") as file:  # NumPy would leave a damaged file open
        if zipfile.is_zipfile(file):
            _check_members(file, path.stat().st_size)
        file.seek(0)
        loaded = np.load(file, allow_pickle=False)
        return loaded if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}


def _check_members(file: IO[bytes], size: int) -> None:
    """Raise ValueError for a .npz of too many arrays, or of arrays that unpack to too much."""
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
    unpacked = sum(member.file_size for member in members)
    if len(members) > MOST_ARRAYS:
        raise ValueError(f"it holds {len(members):,} arrays, and {MOST_ARRAYS:,} are allowed")
    if unpacked > max(MOST_UNPACKED, UNPACKED_A_BYTE * size):
        raise ValueError(f"its {size:,} bytes would unpack to {unpacked:,} bytes")


def check_cells(cells: int, size: int) -> None:
    """Raise ValueError for more numbers than a file of ``size`` bytes may hold."""
    if cells > max(MOST_CELLS, CELLS_A_BYTE * size):
        raise ValueError(f"it claims {cells:,} numbers in {size:,} bytes")


def to_floats(path: Path, value: Any) -> FloatArray:
    """Convert numbers to an array of floats without loss of precision. Raises LsnError for other values."""
    array = np.asarray(value)
    if array.dtype.kind == "V" and array.dtype.itemsize == 2 and array.size:
        raise LsnError(
            f"{path}: expected numbers, found 2-byte values of a type that NumPy lacks, such as bfloat16.",
            "Convert them to float32 before saving (PyTorch: x.float()), or save them as safetensors.",
        )
    if array.dtype.kind not in "fiu" and array.size:
        raise LsnError(f"{path}: expected numbers, found {array.dtype}.")
    return array if array.dtype.kind == "f" else array.astype(np.float64)


def _by_extension(path: Path, table: dict[str, str]) -> Callable[..., Any]:
    reference = table.get(path.suffix.lower())
    if reference is None:
        raise UsageError(f"{path}: expected a file ending in {', '.join(table)}, found '{path.suffix}'.")
    function: Callable[..., Any] = load(reference)
    return function
