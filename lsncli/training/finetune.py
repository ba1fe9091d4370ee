"""Fine-tune a model's image tower and a linear head on labelled images."""

import json
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lsncli.artefacts.files import load_checkpoint, remove, write_artefact
from lsncli.artefacts.heads import LearnedHead, save_head
from lsncli.backbones import Backbone, load_backbone, text_ids_of, with_image_tower
from lsncli.backbones.trainable_image_tower import ImageTower
from lsncli.console import ProgressCallback, silent
from lsncli.detection.calibrate import HELD_OUT
from lsncli.errors import LsnError
from lsncli.extraction.encoder import Encoder, pixels_of
from lsncli.extraction.extract import check_failures
from lsncli.images.class_names import classes_of
from lsncli.images.item import ImageItem, Listing
from lsncli.images.listing import check_not_empty
from lsncli.methods.holdout import HoldoutRows, check_held_out, hold_out
from lsncli.methods.workspace import Workspace
from lsncli.store.format import Chunk, Split, check_split_name
from lsncli.store.reader import read_fingerprint
from lsncli.training.checkpoints import checkpoint_saver, resume_point
from lsncli.training.finetune_loop import TuneSettings, fine_tune
from lsncli.training.linear_probe import TrainedHead, choose_probe, fit_probes
from lsncli.types import Rows

KIND = "tower"
"""The kind of the artefact and of the checkpoint."""


@dataclass(frozen=True)
class TunePlan:
    """The images of a fine-tuning, all read once; a later extraction gives the same rows.

    ``split`` holds the features before fine-tuning, ``items`` the image of each row, ``rows`` the training
    and held-out rows.
    """

    backbone: Backbone
    split: Split
    items: tuple[ImageItem, ...]
    rows: HoldoutRows

    @property
    def training(self) -> list[ImageItem]:
        """The training images."""
        return [self.items[row] for row in self.rows.where]

    @property
    def held_out(self) -> list[ImageItem]:
        """The labelled images that are not trained on."""
        rest = np.setdiff1d(np.arange(len(self.items)), self.rows.where)
        return [self.items[row] for row in rest if self.items[row].label >= 0]


@dataclass(frozen=True)
class FineTunedModel:
    """The file of a fine-tuned model, its name for ``--model``, its head, and the number of failures."""

    tower: Path
    model: str
    trained: TrainedHead
    failures: int


def check_no_features(work: Workspace) -> None:
    """Raise LsnError if the workspace has features, since those of a fine-tuned tower are another model's."""
    if work.features.exists():
        raise LsnError(
            f"{work.features} holds features of {read_fingerprint(work.features)}; "
            "a tuned tower is another model.",
            "Give it a workspace of its own with --work, such as --work lsn-tuned.",
        )


def plan_tuning(
    listing: Listing,
    backbone: Backbone,
    *,
    source: str,
    split_name: str = "train",
    names_file: Path | None = None,
    batch_size: int = 16,
    workers: int = 1,
    max_failure_rate: float = 0.05,
    progress: ProgressCallback = silent,
    remark: Callable[[str], None] = lambda text: None,
) -> TunePlan:
    """Read and encode each image once, to find unreadable images and to initialise the head.

    A fifth of each class is held out: the images that `lsn calibrate` will hold out of the split
    ``split_name`` once it is extracted from the same images. ``progress`` counts images. Raises UsageError
    for class names as ``class_names.classes_of`` does; LsnError for images without classes, a class without
    images, or nothing to hold out; TooManyFailures before the training.
    """
    check_split_name(split_name)
    check_not_empty(listing, source)
    classes = classes_of(listing, names_file, text_ids=text_ids_of(backbone), remark=remark)
    if len(classes) < 2:
        raise LsnError(
            f"A classifier needs at least 2 classes; {source} has {len(classes)}.",
            "Give a folder with one folder per class.",
        )
    encoder = Encoder(backbone, batch_size, workers, progress)
    batches = encoder.stream(listing.items)
    with closing(batches):
        encoded: list[Chunk] = list(batches)
    failures = (*listing.problems, *(failure for batch in encoded for failure in batch.failures))
    total = len(listing.items) + len(listing.problems)
    hint = "Nothing was trained. Repair the images, or raise --max-failure-rate."
    check_failures(len(failures), total, max_failure_rate, examples=failures, hint=hint)
    split = Split(
        name=split_name,
        features=np.concatenate([batch.features for batch in encoded]),
        labels=np.concatenate([batch.labels for batch in encoded]),
        keys=tuple(key for batch in encoded for key in batch.keys),
        classes=classes,
        failures=failures,
        source=source,
        listing=listing.digest,
    )
    rows = hold_out(split, HELD_OUT, None, seed=0)
    check_held_out(split, rows)
    by_key = {item.key: item for item in listing.items}
    return TunePlan(backbone, split, tuple(by_key[key] for key in split.keys), rows)


def tune_tower(
    work: Workspace,
    plan: TunePlan,
    settings: TuneSettings,
    device: torch.device,
    *,
    c: float | None = None,
    batch_size: int = 16,
    workers: int = 1,
    resume: bool = True,
    progress: ProgressCallback = silent,
    remark: Callable[[str], None] = lambda text: None,
) -> FineTunedModel:
    """Fine-tune on the planned images; write ``tower.safetensors`` and ``linear.head.safetensors``.

    The head starts as a linear probe of strength ``c`` on the features before fine-tuning (Kumar et al., ICLR
    2022: with a random head, the first steps would distort the tower); None chooses C on the held-out rows,
    which decide nothing else. ``batch_size`` is for encoding the held-out images at the end. An interrupted
    training resumes after its last epoch. ``progress`` counts images. Raises LsnError as ``fine_tune`` does.
    """
    began = time.perf_counter()
    check_no_features(work)
    tower = with_image_tower(plan.backbone).image_tower(settings.tune)
    path = work.checkpoint(KIND)
    run = _run(plan, settings, c, device)
    checkpoint = resume_point(path, load_checkpoint(path) if resume else None, run, settings.epochs, remark)
    classes, rows = len(plan.split.classes), plan.rows
    if c is None:
        c, start = choose_probe(rows.train, rows.held_out, classes, device)
    else:
        (start,) = fit_probes(rows.train, classes, [c], device)
    probe, history = fine_tune(
        tower,
        start,
        plan.training,
        rows.train.labels,
        pixels_of(plan.backbone),
        settings,
        device,
        workers=workers,
        progress=progress,
        resume=checkpoint,
        on_epoch=checkpoint_saver(path, run, settings.epochs),
    )
    written = work.tower
    recorded = asdict(settings) | {"c": c, "tuned_from": plan.backbone.fingerprint.to_json()}
    _save_tower(written, tower, plan, recorded)
    decode = plan.backbone.fingerprint.decode
    tuned = load_backbone(tower.model, pretrained=str(written), device=str(device), decode=decode)
    head = LearnedHead(
        kind="linear",
        fingerprint=tuned.fingerprint,
        classes=plan.split.classes,
        scale=1.0,
        weights=probe.weights,
        bias=probe.bias,
        settings=recorded,
        held_out=rows.rule,
        history=history,
    )
    save_head(work.head("linear"), head)
    remove(path)
    held_out = _encode(tuned, plan.held_out, batch_size, workers)
    accuracy, _ = probe.accuracy_and_loss(held_out)
    seconds = time.perf_counter() - began
    trained = TrainedHead(work.head("linear"), head, len(rows.train), len(held_out), accuracy, seconds)
    return FineTunedModel(written, tower.model, trained, len(plan.split.failures))


def _encode(backbone: Backbone, items: list[ImageItem], batch_size: int, workers: int) -> Rows:
    batches = Encoder(backbone, batch_size, workers, silent).stream(items)
    with closing(batches):
        encoded = list(batches)
    features = np.concatenate([batch.features for batch in encoded])
    return Rows(features, np.concatenate([batch.labels for batch in encoded]))


def _save_tower(path: Path, tower: ImageTower, plan: TunePlan, settings: dict[str, Any]) -> None:
    """Write the model's whole state dict, as ``--pretrained FILE`` reads it, and its provenance."""
    fields = {
        "preprocessing": tower.preprocessing,
        "model": tower.model,
        "settings": settings,
        "classes": plan.split.classes,
        "held_out": asdict(plan.rows.rule),
        "failures": [asdict(failure) for failure in plan.split.failures],
    }
    write_artefact(path, KIND, {name: tensor.numpy() for name, tensor in tower.state().items()}, fields)


def _run(plan: TunePlan, settings: TuneSettings, c: float | None, device: torch.device) -> dict[str, Any]:
    """Return everything that decides the result of a training."""
    return {
        "settings": json.loads(json.dumps(asdict(settings))),
        "c": c,
        "fingerprint": plan.backbone.fingerprint.digest,
        "held_out": asdict(plan.rows.rule),
        "listing": plan.split.listing,
        "device": device.type,
        "threads": torch.get_num_threads(),
    }
