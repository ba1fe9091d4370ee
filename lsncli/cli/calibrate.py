"""``lsn calibrate``: a detector of any method, at any true-positive rate."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lsncli.cli import options
from lsncli.cli.score_inputs import ModelOptions, check_model, detector_for
from lsncli.cli.train_prompts import describe_threshold, workspace_backbone
from lsncli.console import printable, progress_bar, say
from lsncli.errors import UsageError
from lsncli.methods.workspace import Workspace
from lsncli.report.formats import Column, render

if TYPE_CHECKING:
    from lsncli.artefacts.detector import SavedDetector
    from lsncli.backbones import Backbone
    from lsncli.detection.calibrate import Recalibrated

COLUMNS = [
    Column("method", "Method"),
    Column("head", "Head"),
    Column("gamma", "Gamma", digits=6),
    Column("target_tpr", "Target TPR %", digits=1, percent=True),
    Column("held_out", "Held out", digits=0),
    Column("tpr_low", "TPR from %", digits=1, percent=True),
    Column("tpr_high", "to %", digits=1, percent=True),
]


def calibrate(
    context: typer.Context,
    images: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Your own ID images: folders, patterns, lists, tars, URLs. Labels are not needed.",
            metavar="PATH",
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(help="SCORE[:HEAD][,SETTING=VALUE...], such as mcm, mcm:positive or knn,k=10. (lsn)"),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Labelled ID split whose held-out rows set gamma. (train)")
    ] = None,
    target_tpr: options.TargetTpr = 0.95,
    classes: Annotated[
        str | None,
        typer.Option(help="With images: a zero-shot detector of these classes, such as 'cat,dog'."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            envvar="LSN_MODEL",
            help="The model of --classes, if not that of the features.",
            rich_help_panel=options.MODEL_PANEL,
        ),
    ] = None,
    batch_size: options.BatchSize = 0,
    workers: options.Workers = 0,
    max_failure_rate: options.MaxFailureRate = 0.05,
    path_column: options.PathColumn = "",
    follow_links: options.FollowLinks = False,
    timeout: options.Timeout = None,
    image_timeout: options.ImageTimeout = None,
    work: options.WorkFolder = options.DEFAULT_WORK,
    pretrained: options.Pretrained = "",
    device: options.Device = "auto",
    format: options.Format = "table",
    output: options.Output = None,
    quiet: options.Quiet = False,
) -> None:
    """Set the threshold gamma of a method on held-out ID rows; writes detector.safetensors.

    With hand-written prompts (mcm, knn, ...) nothing needs to be learned first. With PATHs the workspace's
    detector keeps its method, and only gamma is set anew, with those images: they must be of your classes,
    and none that the prompts learned from.
    """
    from lsncli.artefacts.detector import save_detector

    options.set_timeouts(timeout, image_timeout)
    place = Workspace(work)
    if images:
        if method is not None or split is not None:
            raise UsageError(
                "Images set the threshold of the detector that there is: --method and --split do not go with "
                "them.",
                "Run `lsn calibrate --method ...` first, then `lsn calibrate PATH`.",
            )
        check_model(context, classes)
        before, backbone = _detector(place, classes, model, pretrained, device)
        found = _with_images(
            images,
            path_column,
            follow_links,
            before,
            backbone,
            target_tpr,
            batch_size,
            workers,
            device,
            quiet,
        )
        _check_failures(found, max_failure_rate, quiet)
        save_detector(place.detector, found.detector)
        detector = found.detector
    elif path_column:
        raise UsageError("--path-column is for a list of images, and none were named.", "Name the list.")
    elif classes is not None:
        raise UsageError(
            "--classes sets a threshold with images, and none were named.",
            "Name ID images, or score without a threshold of your own: `lsn score PATH --classes ...`.",
        )
    else:
        detector = _with_rows(place, method or "lsn", split or "train", target_tpr, pretrained, device, quiet)
    threshold = detector.threshold
    row = {
        "method": detector.label,
        "head": detector.head_name,
        "gamma": threshold.gamma,
        "target_tpr": threshold.target_tpr,
        "held_out": threshold.n,
        "tpr_low": threshold.tpr_low,
        "tpr_high": threshold.tpr_high,
    }
    render([row], COLUMNS, format, output)
    describe_threshold(detector, quiet)
    if images:
        _describe_images(before, found, quiet)


def _with_rows(
    place: Workspace, method: str, split: str, target_tpr: float, pretrained: str, device: str, quiet: bool
) -> "SavedDetector":
    from lsncli.detection.calibrate import make_detector
    from lsncli.device import pick_device
    from lsncli.methods.spec import parse_method

    chosen = parse_method(method)
    with progress_bar("held-out images", None, quiet=quiet) as progress:
        return make_detector(
            place,
            chosen,
            split_name=split,
            target_tpr=target_tpr,
            device=str(pick_device(device)),
            model=partial(workspace_backbone, place, pretrained, device),
            progress=progress,
        )


def _detector(
    place: Workspace, classes: str | None, model: str | None, pretrained: str, device: str
) -> "tuple[SavedDetector, Backbone]":
    """The workspace's detector, or with class names a zero-shot one, and its model."""
    from lsncli.backbones import load_again

    detector, backbone = detector_for(place, classes, ModelOptions(model, pretrained, device))
    if backbone is None:
        backbone = load_again(detector.fingerprint, pretrained=pretrained, device=device, what="prompts")
    return detector, backbone


def _with_images(
    images: list[Path],
    path_column: str,
    follow_links: bool,
    detector: "SavedDetector",
    backbone: "Backbone",
    target_tpr: float,
    batch_size: int,
    workers: int,
    device: str,
    quiet: bool,
) -> "Recalibrated":
    from lsncli.detection.calibrate import recalibrate
    from lsncli.device import pick_device
    from lsncli.images.columns import Columns
    from lsncli.images.listing import check_not_empty, named

    columns = Columns(path_column, labelled=False)
    listing = options.list_sources(images, columns, follow_links=follow_links, quiet=quiet)
    check_not_empty(listing, named(images))
    with progress_bar("images", len(listing.items), quiet=quiet) as progress:
        return recalibrate(
            detector,
            listing,
            backbone,
            target_tpr,
            batch_size=options.images_at_once(batch_size, device),
            workers=options.threads(workers),
            device=str(pick_device(device)),
            progress=progress,
        )


def _check_failures(found: "Recalibrated", max_failure_rate: float, quiet: bool) -> None:
    """Name the images that could not be read; TooManyFailures before anything is written."""
    from lsncli.extraction.extract import check_failures

    for failure in found.failures[:10]:
        say(f"Not used: {printable(failure.key)}: {failure.reason}.", quiet=quiet)
    if len(found.failures) > 10:
        say(f"Not used: {len(found.failures) - 10} more.", quiet=quiet)
    total = found.detector.threshold.n + len(found.failures)
    hint = "The detector is as it was. Remove them, or raise --max-failure-rate."
    check_failures(len(found.failures), total, max_failure_rate, hint=hint)


def _describe_images(before: "SavedDetector", found: "Recalibrated", quiet: bool) -> None:
    """What the images say of the old gamma, and how far the new one can be trusted."""
    say(
        f"Before: gamma = {before.threshold.gamma:.6f} ({before.threshold.basis}), which keeps "
        f"{found.kept_before:.1%} of these images.",
        quiet=quiet,
    )
    for text in found.warnings:
        if text != found.detector.threshold.doubt:  # that has been said with the threshold
            say(f"Warning: {text}", quiet=quiet, style="yellow")
