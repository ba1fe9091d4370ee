"""What tests of commands share."""

from pathlib import Path

import pytest
from training_samples import features_of


@pytest.fixture
def work(tmp_path: Path, tiny_backbone) -> Path:
    """The default workspace, ``lsn-work`` in the test's folder: a split ``train`` of the tiny model."""
    return features_of(tiny_backbone.fingerprint, tmp_path / "lsn-work")
