"""What tests of whole stores begin with."""

from pathlib import Path

import numpy as np
import pytest
from store_samples import fingerprint, split

from lsncli.store.writer import write_split, write_text


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store of two splits and text features."""
    path = tmp_path / "f.h5"
    write_split(path, split(), fingerprint())
    write_split(path, split("other"), fingerprint())
    write_text(path, ("x", "y"), np.ones((2, 4), np.float32))
    return path
