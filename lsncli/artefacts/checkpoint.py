"""The state of an unfinished training on disk, so that a killed one goes on where it was."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lsncli.artefacts.files import complete, read_artefact, write_artefact
from lsncli.prompts.loop import Checkpoint
from lsncli.validation import typed

KIND = "checkpoint"
HINT = "Start again with --restart."


@dataclass(frozen=True)
class Kept:
    """A checkpoint, and (JSON-able) which training it belongs to."""

    run: dict[str, Any]
    checkpoint: Checkpoint


def save_checkpoint(path: Path, run: dict[str, Any], checkpoint: Checkpoint) -> None:
    """Replace the checkpoint at ``path``; ``run`` (JSON-able) tells which training it belongs to."""
    arrays = {name: tensor.numpy() for name, tensor in checkpoint.tensors.items()}
    write_artefact(path, KIND, arrays, {"run": run, "history": checkpoint.history})


def load_checkpoint(path: Path) -> Kept | None:
    """What ``save_checkpoint`` wrote, None if there is nothing. Raises LsnError for a damaged file."""
    if not path.is_file():
        return None
    arrays, fields = read_artefact(path, KIND, HINT)
    with complete(path, HINT):
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        history = typed(tuple[float, ...], fields["history"], "history")
        return Kept(typed(dict[str, Any], fields["run"], "run"), Checkpoint(tensors, history))
