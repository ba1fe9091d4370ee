"""Learn CLIPN's "no" text encoder from image-caption pairs."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from lsncli.app.cache import digest
from lsncli.app.encode import Encoder
from lsncli.app.failing import check_failures
from lsncli.app.no_head import KIND
from lsncli.app.pairs import Pairs
from lsncli.app.resume import going_on, saver
from lsncli.app.workspace import Workspace
from lsncli.artefacts.checkpoint import load_checkpoint
from lsncli.artefacts.files import remove
from lsncli.artefacts.no_tower import NoTower, save_no_tower
from lsncli.backbones import Backbone, with_text
from lsncli.console import Tick, silent
from lsncli.errors import LsnError
from lsncli.prompts.clipn import NoSettings
from lsncli.prompts.no_encoder import CHUNK, learn_no, text_rows
from lsncli.types import Failure, Floats, unit


@dataclass(frozen=True)
class Encoded:
    """Image features (N, D), raw, of the pairs that could be read; their captions; and the other pairs."""

    features: Floats
    captions: tuple[str, ...]
    failures: tuple[Failure, ...]


def encode_pairs(pairs: Pairs, encoder: Encoder, max_failure_rate: float) -> Encoded:
    """Features by the frozen image encoder. What cannot be used is recorded, and is no error by itself.

    Raises TooManyFailures if it is a larger fraction of all than ``max_failure_rate``: before hours of
    learning from the rest; LsnError if fewer than 2 pairs are left.
    """
    features, rows, failures = [], [], list(pairs.problems)
    with closing(encoder.stream(pairs.items)) as batches:
        for batch in batches:
            features.append(batch.features)
            rows.extend(batch.labels.tolist())
            failures.extend(batch.failures)
    total = len(pairs.items) + len(pairs.problems)
    hint = "Nothing was learned. Repair them, or raise --max-failure-rate."
    check_failures(len(failures), total, max_failure_rate, things="pairs", examples=failures, hint=hint)
    if len(rows) < 2:
        raise LsnError(f"A 'no' encoder learns from at least 2 image-caption pairs, found {len(rows)}.")
    return Encoded(np.concatenate(features), tuple(pairs.captions[row] for row in rows), tuple(failures))


def train_tower(
    work: Workspace,
    backbone: Backbone,
    pairs: Encoded,
    yes: Tensor,
    settings: NoSettings = NoSettings(),  # noqa: B008 (frozen)
    *,
    chunk: int = CHUNK,
    resume: bool = True,
    tick: Tick = silent,
    remark: Callable[[str], None] = lambda text: None,
) -> NoTower:
    """Learn a "no" encoder and write it to the workspace; ``yes`` (N, D) is what ``read_captions`` gives.

    An interrupted training of the same settings, pairs and model goes on from its last epoch. Raises LsnError
    as ``learn_no`` does.
    """
    encoder, path = with_text(backbone).text_function(), work.checkpoint(KIND)
    images = torch.from_numpy(unit(pairs.features).astype(np.float32)).to(encoder.device)
    run = {
        "settings": asdict(settings),
        "fingerprint": backbone.fingerprint.digest,
        "pairs": digest(pairs.features, pairs.captions),
        "chunk": chunk,
        "device": encoder.device.type,
        "threads": torch.get_num_threads(),
    }
    kept = load_checkpoint(path) if resume else None
    weights, history = learn_no(
        encoder,
        images,
        yes,
        pairs.captions,
        backbone.fingerprint.logit_scale,
        settings,
        chunk=chunk,
        tick=tick,
        resume=going_on(path, kept, run, settings.epochs, remark),
        on_epoch=saver(path, run, settings.epochs),
    )
    tower = NoTower(
        fingerprint=backbone.fingerprint,
        weights={name: tensor.cpu().numpy() for name, tensor in weights.items()},
        settings=asdict(settings),
        pairs=len(pairs.captions),
        failures=pairs.failures,
        history=history,
    )
    save_no_tower(work.no_tower, tower)
    remove(path)
    return tower


def read_captions(backbone: Backbone, captions: Sequence[str], tick: Tick = silent) -> Tensor:
    """Unit features (N, D) of captions by the frozen "yes" encoder."""
    encoder = with_text(backbone).text_function()
    return text_rows(encoder, encoder.weights, captions, tick)
