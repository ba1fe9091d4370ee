"""Train CLIPN's "no" text encoder on image-caption pairs, and write the head ``clipn``.

The head holds "yes" and "no" text features of a workspace's classes, from CLIPN's encoders or imported.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from lsncli.artefacts.files import load_checkpoint, remove
from lsncli.artefacts.heads import HINT, LearnedHead, NoTower, save_head, save_no_tower
from lsncli.backbones import Backbone, text_ids_of, with_text
from lsncli.backbones.text import openai_templates
from lsncli.console import ProgressCallback, printable, silent
from lsncli.errors import FingerprintMismatch, LsnError
from lsncli.extraction.encoder import Encoder
from lsncli.extraction.extract import check_failures
from lsncli.images.class_names import check_distinct
from lsncli.interchange.tables import FeatureTable
from lsncli.methods.cache import digest
from lsncli.methods.heads import Heads
from lsncli.methods.text_recipes import TEMPLATE
from lsncli.methods.workspace import Workspace
from lsncli.prompts.clipn import CHUNK, PROMPTS, NoSettings, TextFunction, learn_no, text_rows
from lsncli.store.reader import read_fingerprint
from lsncli.training.checkpoints import checkpoint_saver, resume_point
from lsncli.training.image_captions import Pairs
from lsncli.types import Failure, Float64Array, FloatArray, unit

KIND = "clipn"
TEMPLATES: dict[str, Callable[[], Sequence[Callable[[str], str]]]] = {
    "ensemble": openai_templates,
    "hand": lambda: (TEMPLATE.format,),
}
"""The prompts that both encoders read for a class, by the name of the head with the same "yes" features."""


def write_tower_head(
    work: Workspace,
    backbone: Backbone,
    tower: NoTower,
    classes: tuple[str, ...],
    *,
    templates: str = "ensemble",
    progress: ProgressCallback = silent,
) -> LearnedHead:
    """Encode the ``TEMPLATES`` of ``classes`` with the "yes" and the "no" encoder, and write the head.

    ``progress`` counts texts that the "no" encoder reads, ``count_texts`` in all. Raises FingerprintMismatch
    if it was trained for another model than the store's.
    """
    if tower.fingerprint.digest != backbone.fingerprint.digest:
        raise FingerprintMismatch(
            f"The 'no' encoder was made from another model: expected {backbone.fingerprint}, "
            f"found {tower.fingerprint}.",
            HINT,
        )
    check_distinct(classes, text_ids_of(backbone))
    yes = Heads(work, classes, lambda: backbone).source(templates, negatives=False).weights
    encoder = with_text(backbone).text_function()
    weights = _to_device(tower, encoder)
    no = [
        text_rows(encoder, weights, [template(name) for name in classes], progress).cpu().numpy()
        for template in TEMPLATES[templates]()
    ]
    settings = {"templates": templates, **tower.settings}
    return _write(
        work, classes, np.asarray(yes), unit(unit(np.stack(no)).sum(axis=0)), settings, tower.history
    )


def count_texts(templates: str, classes: tuple[str, ...]) -> int:
    """Return the number of texts that ``write_tower_head`` encodes."""
    return len(TEMPLATES[templates]()) * len(classes)


def import_head(
    work: Workspace, yes: FeatureTable, no: FeatureTable, classes: tuple[str, ...]
) -> LearnedHead:
    """Write the head of imported text features: ``yes`` (C, D), ``no`` (C, D) or (K, C, D).

    Rows are in the order of ``classes`` and are normalised to unit length. Raises LsnError for other shapes,
    values that are not finite, zero rows, and files with other class names.
    """
    shape = (len(classes), read_fingerprint(work.features).dim)
    for name, table, dimensions in (("yes", yes, (2,)), ("no", no, (2, 3))):
        text = table.features
        if text.ndim not in dimensions or text.shape[-2:] != shape or not text.size:
            raise LsnError(
                f"The '{name}' text features: expected {shape[0]} classes x {shape[1]} dimensions, "
                f"found the shape {text.shape}.",
                "One row a class, in the order of the store's classes.",
            )
        if not np.isfinite(text).all() or not text.any(axis=-1).all():
            raise LsnError(f"The '{name}' text features hold NaN, infinity or a row of zeros.")
        if table.classes not in (None, classes):
            raise LsnError(
                f"The '{name}' text features name other classes, or in another order, than the store.",
                f"The store's are {', '.join(map(printable, classes[:3]))} ...",
            )
    return _write(work, classes, unit(yes.features), unit(no.features), {"templates": "imported"}, ())


def _to_device(tower: NoTower, encoder: TextFunction) -> dict[str, Tensor]:
    """Return the weights on the encoder's device; LsnError if names or shapes are not the encoder's."""
    expected = {name: tuple(tensor.shape) for name, tensor in encoder.weights.items()}
    shapes = {name: array.shape for name, array in tower.weights.items() if name != PROMPTS}
    if shapes != expected or tower.weights[PROMPTS].shape[1:] != (encoder.longest, encoder.width):
        raise LsnError("The 'no' encoder's weights are not those of such a text encoder.", HINT)
    return {name: torch.from_numpy(array).to(encoder.device) for name, array in tower.weights.items()}


def _write(
    work: Workspace,
    classes: tuple[str, ...],
    yes: Float64Array,
    no: Float64Array,
    settings: dict[str, object],
    history: tuple[float, ...],
) -> LearnedHead:
    fingerprint = read_fingerprint(work.features)
    head = LearnedHead(
        kind=KIND,
        fingerprint=fingerprint,
        classes=classes,
        scale=fingerprint.logit_scale,
        weights=yes,
        negative=no if no.ndim == 3 else no[None],
        settings=settings,
        history=history,
    )
    save_head(work.head(KIND), head)
    return head


@dataclass(frozen=True)
class Encoded:
    """Raw image features (N, D) and captions of the readable pairs, and the failures."""

    features: FloatArray
    captions: tuple[str, ...]
    failures: tuple[Failure, ...]


def encode_pairs(pairs: Pairs, encoder: Encoder, max_failure_rate: float) -> Encoded:
    """Encode the images of ``pairs`` with the frozen image encoder; unusable pairs become failures.

    Raises TooManyFailures if they are a larger fraction than ``max_failure_rate``, before hours of training
    on the rest; LsnError if fewer than 2 pairs are left.
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


def train_no_encoder(
    work: Workspace,
    backbone: Backbone,
    pairs: Encoded,
    yes: Tensor,
    settings: NoSettings = NoSettings(),  # noqa: B008 (frozen)
    *,
    chunk: int = CHUNK,
    resume: bool = True,
    progress: ProgressCallback = silent,
    remark: Callable[[str], None] = lambda text: None,
) -> NoTower:
    """Train a "no" encoder and write it to the workspace; ``yes`` (N, D) is from ``encode_captions``.

    An interrupted training with the same settings, pairs and model resumes after its last epoch. ``progress``
    counts steps. Raises LsnError as ``learn_no`` does.
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
    stored = load_checkpoint(path) if resume else None
    weights, history = learn_no(
        encoder,
        images,
        yes,
        pairs.captions,
        backbone.fingerprint.logit_scale,
        settings,
        chunk=chunk,
        progress=progress,
        resume=resume_point(path, stored, run, settings.epochs, remark),
        on_epoch=checkpoint_saver(path, run, settings.epochs),
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


def encode_captions(
    backbone: Backbone, captions: Sequence[str], progress: ProgressCallback = silent
) -> Tensor:
    """Return unit features (N, D) of captions from the frozen "yes" encoder; ``progress`` counts captions."""
    encoder = with_text(backbone).text_function()
    return text_rows(encoder, encoder.weights, captions, progress)
