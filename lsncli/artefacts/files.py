"""Artefact files: safetensors with JSON metadata, written atomically.

The format is ``format`` = "lsn-<kind>", its ``format_version``, and one metadata entry a field, each a JSON
text. A ``checksum`` over all of it makes damage a sentence instead of other numbers. safetensors holds no
code, so loading a stranger's file runs nothing.

The state of an unfinished training on disk, so that a killed one goes on where it was.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from lsncli import __version__
from lsncli.artefacts import check_exists
from lsncli.console import printable
from lsncli.errors import LsnError
from lsncli.files import write_atomic
from lsncli.prompts.loop import Checkpoint
from lsncli.types import content
from lsncli.validation import parse_json, validate

UNREADABLE = (SafetensorError, OSError, ValueError, TypeError, AttributeError)
"""Exceptions of safetensors; the last two for number types that numpy lacks."""


@dataclass(frozen=True)
class ArtefactFormat:
    """The format of a kind of artefact.

    A change of its fields or arrays counts ``version`` up and adds a golden file (tests/artefacts/golden).
    """

    version: int = 2
    """The version that is written. From 2 on a file without a checksum is damaged."""
    reads: tuple[int, ...] = (1,)
    """Older versions that can be read."""
    names: tuple[str, ...] = ()
    """Fields and arrays that distinguish these from older files with the same number."""


FORMS = {
    "positive-prompts": ArtefactFormat(names=("contexts",)),
    "negative-prompts": ArtefactFormat(names=("contexts",)),
    "detector": ArtefactFormat(version=5, reads=(2, 3, 4), names=("head",)),
}
"""Formats of the kinds that have changed; the others have ``ArtefactFormat()``."""

OURS = ("format", "format_version", "created_by", "checksum")
"""Metadata that is no field of the artefact."""

Arrays = dict[str, NDArray[Any]]


def write_artefact(
    path: Path, kind: str, arrays: Mapping[str, NDArray[Any]], fields: Mapping[str, Any]
) -> None:
    """Write ``arrays`` and JSON-able ``fields`` to ``path`` atomically.

    Equal content gives equal bytes. Raises LsnError if the file cannot be written; an old one then stays.
    """
    metadata = {name: json.dumps(value, sort_keys=True) for name, value in fields.items()}
    metadata |= {
        "format": f"lsn-{kind}",
        "format_version": str(form_of(kind).version),
        "created_by": f"lsn {__version__}",
    }
    whole = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    metadata["checksum"] = _checksum(whole, metadata)
    write_atomic(path, _canonical(save(whole, metadata)))


def remove(path: Path) -> None:
    """Remove a file if it exists. Raises LsnError."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise LsnError(f"{path} could not be removed: {error.strerror or error}.") from error


def read_artefact(path: Path, kind: str, hint: str, again: str = "") -> tuple[Arrays, dict[str, Any]]:
    """Read the arrays and fields of an artefact of this kind.

    Raises LsnError if the file is missing (with ``hint``: how to make one), broken, of another kind, written
    by a newer lsn or in a form that is no longer read (with ``again``: how to make it again).
    """
    check_exists(path, kind, hint)
    try:
        with safe_open(path, framework="numpy") as file:
            stated = dict(file.metadata() or {})
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except UNREADABLE as error:
        raise LsnError(f"{path} is not a readable safetensors file: {error}", hint) from error
    found = stated.get("format", "no format")
    if found != f"lsn-{kind}":
        raise LsnError(f"{path}: expected an artefact of format lsn-{kind}, found {found}.", hint)
    form, version = form_of(kind), stated.get("format_version", "0")
    if not re.fullmatch(r"\d{1,9}", version, re.ASCII) or int(version) > form.version:
        raise LsnError(
            f"{path}: expected format version {form.version}, found {printable(version)}.",
            "It was written by a newer lsn; update lsn (pip install -U lsncli) or make the file again.",
        )
    older = int(version) < form.version
    checksum = _checksum(arrays, {name: text for name, text in stated.items() if name != "checksum"})
    if stated.get("checksum", checksum if older else "") != checksum:
        raise LsnError(f"{path} is damaged: it was changed after it was written.", hint)
    if older and not (int(version) in form.reads and {*form.names} <= {*arrays, *stated}):
        raise LsnError(
            f"{path} was written by an older lsn, in a form that is no longer read "
            f"(format version {version}; this lsn writes {form.version}).",
            again or hint,
        )
    fields = {name: text for name, text in stated.items() if name not in OURS}
    with complete(path, hint):
        return arrays, {name: parse_json(value) for name, value in fields.items()}


@contextmanager
def complete(path: Path, hint: str) -> Iterator[None]:
    """Turn errors of missing or invalid fields and arrays into LsnErrors."""
    try:
        yield
    except (LookupError, TypeError, ValueError) as error:
        raise LsnError(f"{path} is damaged: {type(error).__name__} {error}.", hint) from error


def _checksum(arrays: Arrays, metadata: Mapping[str, str]) -> str:
    """Return the sha256 of the content of a file, in a fixed order."""
    parts = [
        json.dumps(metadata, sort_keys=True),
        *(f"{name} {content(arrays[name])}" for name in sorted(arrays)),
    ]
    return sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


def form_of(kind: str) -> ArtefactFormat:
    """Return the format of a kind of artefact."""
    return FORMS.get(kind, ArtefactFormat())


def _canonical(data: bytes) -> bytes:
    """Sort the header of a safetensors file: safetensors writes metadata in random order.

    A file is an 8-byte length, a JSON header padded with spaces to a multiple of 8, and the arrays.
    """
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[end:]


KIND = "checkpoint"
HINT = "Start again with --restart."


@dataclass(frozen=True)
class StoredCheckpoint:
    """A checkpoint and the (JSON-able) identity of its training."""

    run: dict[str, Any]
    checkpoint: Checkpoint


def save_checkpoint(path: Path, run: dict[str, Any], checkpoint: Checkpoint) -> None:
    """Write the checkpoint at ``path``; ``run`` (JSON-able) identifies its training. Raises LsnError."""
    arrays = {name: tensor.numpy() for name, tensor in checkpoint.tensors.items()}
    write_artefact(path, KIND, arrays, {"run": run, "history": checkpoint.history})


def load_checkpoint(path: Path) -> StoredCheckpoint | None:
    """Read a checkpoint; None if there is none. Raises LsnError for a damaged file."""
    if not path.is_file():
        return None
    arrays, fields = read_artefact(path, KIND, HINT)
    with complete(path, HINT):
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        history = validate(tuple[float, ...], fields["history"], "history")
        return StoredCheckpoint(validate(dict[str, Any], fields["run"], "run"), Checkpoint(tensors, history))
