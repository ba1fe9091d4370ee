"""Checkpoints of interrupted trainings: when to write one after an epoch, and when to resume from it."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lsncli.artefacts.files import StoredCheckpoint, remove, save_checkpoint
from lsncli.prompts.loop import Checkpoint

SAVE_SECONDS = 1.0
"""Seconds between checkpoints: a kill loses a second or an epoch, whichever is longer."""


def resume_point(
    path: Path,
    stored: StoredCheckpoint | None,
    run: dict[str, Any],
    epochs: int,
    remark: Callable[[str], None],
) -> Checkpoint | None:
    """Return the checkpoint ``stored`` at ``path`` if it belongs to this ``run``; remove it otherwise."""
    if stored is None:
        return None
    if stored.run == run:
        remark(f"Resuming after epoch {len(stored.checkpoint.history)} of {epochs}, from {path}.")
        return stored.checkpoint
    remark(f"{path} is of a training with other settings, rows or model; this one starts anew.")
    remove(path)
    return None


def checkpoint_saver(path: Path, run: dict[str, Any], epochs: int) -> Callable[[Checkpoint], None]:
    """Return a callback for the end of an epoch that writes a checkpoint, every ``SAVE_SECONDS`` at most.

    The last epoch writes none.
    """
    last = time.monotonic()

    def save(checkpoint: Checkpoint) -> None:
        nonlocal last
        if len(checkpoint.history) < epochs and time.monotonic() - last >= SAVE_SECONDS:
            save_checkpoint(path, run, checkpoint)
            last = time.monotonic()

    return save
