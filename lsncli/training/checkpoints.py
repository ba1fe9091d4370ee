"""Trainings that go on where they were interrupted: what is kept after an epoch, and when it is taken up."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lsncli.artefacts.files import StoredCheckpoint, remove, save_checkpoint
from lsncli.prompts.loop import Checkpoint

SAVE_SECONDS = 1.0
"""Epochs shorter than this do not all write a checkpoint: a kill loses a second or an epoch, whichever is
more."""


def resume_point(
    path: Path, kept: StoredCheckpoint | None, run: dict[str, Any], epochs: int, remark: Callable[[str], None]
) -> Checkpoint | None:
    """The checkpoint ``kept`` at ``path`` if it is of this ``run``; another one is removed."""
    if kept is None:
        return None
    if kept.run == run:
        remark(f"Going on after epoch {len(kept.checkpoint.history)} of {epochs}, found in {path}.")
        return kept.checkpoint
    remark(f"{path} was of a training with other settings, rows or model; this one starts anew.")
    remove(path)
    return None


def checkpoint_saver(path: Path, run: dict[str, Any], epochs: int) -> Callable[[Checkpoint], None]:
    """What to do after an epoch: keep it, unless it is the last one or the one before was kept just now."""
    last = time.monotonic()

    def save(checkpoint: Checkpoint) -> None:
        nonlocal last
        if len(checkpoint.history) < epochs and time.monotonic() - last >= SAVE_SECONDS:
            save_checkpoint(path, run, checkpoint)
            last = time.monotonic()

    return save
