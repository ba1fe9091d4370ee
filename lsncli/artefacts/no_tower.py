"""A learned "no" text encoder on disk: ``no-tower.safetensors``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsncli.artefacts.files import complete, read_artefact, write_artefact
from lsncli.types import Failure, Fingerprint
from lsncli.validation import typed

HINT = "Run `lsn train-no PAIRS` first."


@dataclass(frozen=True)
class NoTower:
    """All weights of the encoder, its "no" prompts among them, and what is needed to trust or repeat them."""

    fingerprint: Fingerprint
    """Of the model whose text encoder it was."""
    weights: dict[str, NDArray[np.float32]]
    settings: dict[str, Any]
    pairs: int
    """Image-caption pairs that it learned from."""
    failures: tuple[Failure, ...]
    """Pairs that could not be used."""
    history: tuple[float, ...]
    """Mean training loss of each epoch."""


def save_no_tower(path: Path, tower: NoTower) -> None:
    """Write an encoder, to the bit; raises LsnError as ``write_artefact`` does."""
    fields = {
        "fingerprint": tower.fingerprint.to_json(),
        "settings": tower.settings,
        "pairs": tower.pairs,
        "failures": [[failure.key, failure.reason] for failure in tower.failures],
        "history": tower.history,
    }
    write_artefact(path, "no-tower", tower.weights, fields)


def load_no_tower(path: Path) -> NoTower:
    """Read an encoder; raises LsnError as ``read_artefact`` does."""
    arrays, fields = read_artefact(path, "no-tower", HINT)
    with complete(path, HINT):
        return NoTower(
            fingerprint=Fingerprint.from_json(fields["fingerprint"]),
            weights=arrays,
            settings=typed(dict[str, Any], fields["settings"], "settings"),
            pairs=typed(int, fields["pairs"], "pairs"),
            failures=tuple(
                Failure(*pair) for pair in typed(tuple[tuple[str, str], ...], fields["failures"], "failures")
            ),
            history=typed(tuple[float, ...], fields["history"], "history"),
        )
