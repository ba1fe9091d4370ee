"""Where ``lsn score`` takes its detector from, and what it scores: images, or a split of the store."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lsncli.cli import options
from lsncli.cli.extract import model_for
from lsncli.console import ProgressCallback
from lsncli.errors import UsageError
from lsncli.methods.workspace import Workspace

if TYPE_CHECKING:
    from lsncli.artefacts.detector import SavedDetector
    from lsncli.backbones import Backbone
    from lsncli.detection.detect import ItemVerdict, Verdict, VerdictCounts
    from lsncli.detection.drift import Drift
    from lsncli.images.columns import Columns
    from lsncli.images.item import ImageItem


@dataclass(frozen=True)
class ScoreInput:
    """What there is to score: batches as ``detection.detect`` gives them, and the images they are about."""

    total: int
    batches: "Iterator[tuple[int, Sequence[Verdict]]]"
    drift: "Drift"
    items: "Sequence[ImageItem]" = ()
    skipped: str = ""

    def verdicts(self, tally: "VerdictCounts", progress: ProgressCallback) -> "Iterator[ItemVerdict]":
        """Yield the verdict on every image in order, and count it."""
        start = 0
        for done, batch in self.batches:
            self.drift.count(batch)
            items: Sequence[ImageItem | None] = self.items[start : start + done] or [None] * len(batch)
            for verdict, item in zip(batch, items, strict=True):
                tally.count(verdict)
                yield verdict, item
            start += done
            progress(done)


@dataclass(frozen=True)
class ModelOptions:
    """The model options of a command."""

    name: str | None
    pretrained: str
    device: str


def detector_for(
    place: Workspace, classes: str | None, model: ModelOptions
) -> "tuple[SavedDetector, Backbone | None]":
    """The workspace's detector, or one of nothing but class names with the model that it took to make it."""
    from lsncli.artefacts.detector import load_detector
    from lsncli.detection.zero_shot import checked_names, zero_shot_detector

    if classes is None:
        return load_detector(place.detector), None
    names = checked_names(class_list(classes))  # before a model is fetched for them
    backbone = model_for(place, model.name, model.pretrained, None, model.device)
    return zero_shot_detector(names, backbone), backbone


def check_model(context: typer.Context, classes: str | None) -> None:
    """Raise UsageError for a --model that would be ignored (LSN_MODEL and lsn.toml are for others, too)."""
    source = context.get_parameter_source("model")
    if classes is None and source and source.name == "COMMANDLINE":
        raise UsageError("--model goes with --classes: a detector has its model.", "Leave --model out.")


def class_list(text: str) -> list[str]:
    """Names between commas, or one a line in a file that ends in .txt. Raises UsageError for the file, and
    for one that ends otherwise, whose path would be a name."""
    if not text.lower().endswith(".txt"):
        if "," not in text and "\0" not in text and os.path.splitext(text)[1] and os.path.isfile(text):
            raise UsageError(
                f"--classes {text} is a file, but does not end in .txt.",
                "Give names with commas between, or a .txt with one a line.",
            )
        return text.split(",")
    from lsncli.images.names_file import read_name_lines

    return read_name_lines(Path(text))


def images_to_score(
    paths: Sequence[Path],
    detector: "SavedDetector",
    backbone: "Backbone | None",
    model: ModelOptions,
    *,
    batch_size: int,
    workers: int,
    columns: "Columns",
    follow_links: bool = False,
    remember: bool = False,
    quiet: bool = False,
) -> ScoreInput:
    """The images under ``paths``, in the order they were named; ``remember`` what was read, to file them."""
    from lsncli.backbones import load_again
    from lsncli.detection.detect import detect
    from lsncli.detection.drift import Drift
    from lsncli.device import pick_device
    from lsncli.images.file_identity import with_digests
    from lsncli.images.listing import check_not_empty, named

    listing = options.list_sources(paths, columns, keep_order=True, follow_links=follow_links, quiet=quiet)
    check_not_empty(listing, named(paths))
    if backbone is None:
        backbone = load_again(
            detector.fingerprint, pretrained=model.pretrained, device=model.device, what="prompts"
        )
    listing = with_digests(listing) if remember else listing
    drift = Drift(detector)
    batches = detect(
        listing,
        detector,
        drift.watching(backbone),
        batch_size=options.images_at_once(batch_size, model.device),
        workers=options.threads(workers),
        device=str(pick_device(model.device)),
    )
    return ScoreInput(len(listing.items), batches, drift, listing.items, listing.skipped)


def split_to_score(place: Workspace, name: str, detector: "SavedDetector", model: ModelOptions) -> ScoreInput:
    """A split of the store; the model is loaded only for prompts that depend on the image."""
    from lsncli.backbones import load_again
    from lsncli.detection.detect import detect_split
    from lsncli.detection.drift import Drift
    from lsncli.device import pick_device
    from lsncli.store.reader import read_fingerprint, read_split

    split = read_split(place.features, name)
    load = partial(load_again, detector.fingerprint, pretrained=model.pretrained, device=model.device)
    device = str(pick_device(model.device))
    batches = detect_split(split, read_fingerprint(place.features), detector, load, device=device)
    return ScoreInput(len(split.keys) + len(split.failures), batches, Drift(detector))
