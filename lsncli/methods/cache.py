"""Results kept by the content they were computed from, so that nothing is computed twice.

A key is the digest of everything that goes into a result, arrays to the byte and the source of the scores
included. So an entry is never wrong, only unused, and the folder can be deleted at any time.
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
    """A folder of results; with None nothing is kept and nothing found."""

    folder: Path | None

    def get(self, key: str) -> tuple[Arrays, dict[str, Any]] | None:
        """What was put under ``key``, or None; a damaged entry counts as none."""
        if self.folder is None:
            return None
        try:
            return read_artefact(self._path(key), "result", "")
        except LsnError:
            return None

    def put(self, key: str, arrays: Mapping[str, NDArray[Any]], fields: Mapping[str, Any]) -> None:
        """Keep a result. Raises LsnError if the folder cannot be written."""
        if self.folder is not None:
            write_artefact(self._path(key), "result", arrays, fields)

    def _path(self, key: str) -> Path:
        return Path(self.folder or "", f"{key}.safetensors")


NO_CACHE = Cache(None)


def digest(*parts: Any) -> str:
    """sha256 over parts: arrays (type, shape, bytes), mappings, and whatever JSON can say."""
    found = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            found.update(content(part).encode())
        elif isinstance(part, Mapping):
            for key in sorted(part):
                found.update(digest(key, part[key]).encode())
        else:
            found.update(json.dumps(part, sort_keys=True).encode())
        found.update(b"\0")
    return found.hexdigest()
