"""A cache of results, keyed by everything that they were computed from.

A key is a digest of the inputs of a result: arrays to the byte, and the source code. So an entry is never
stale, only unused, and the folder can be deleted at any time.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsncli.artefacts.files import Arrays, read_artefact, write_artefact
from lsncli.errors import LsnError
from lsncli.types import content


@dataclass(frozen=True)
class Cache:
    """A folder of results; None disables the cache."""

    folder: Path | None

    def get(self, key: str) -> tuple[Arrays, dict[str, Any]] | None:
        """Return the arrays and fields stored under ``key``, or None; a damaged entry counts as missing."""
        if self.folder is None:
            return None
        try:
            return read_artefact(self._path(key), "result", "")
        except LsnError:
            return None

    def put(self, key: str, arrays: Mapping[str, NDArray[Any]], fields: Mapping[str, Any]) -> None:
        """Store a result. Raises LsnError if the folder cannot be written."""
        if self.folder is not None:
            write_artefact(self._path(key), "result", arrays, fields)

    def _path(self, key: str) -> Path:
        return Path(self.folder or "", f"{key}.safetensors")


NO_CACHE = Cache(None)


def digest(*parts: Any) -> str:
    """Return the sha256 of ``parts``: arrays (type, shape, bytes), mappings, and JSON values."""
    result = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            result.update(content(part).encode())
        elif isinstance(part, Mapping):
            for key in sorted(part):
                result.update(digest(key, part[key]).encode())
        else:
            result.update(json.dumps(part, sort_keys=True).encode())
        result.update(b"\0")
    return result.hexdigest()
