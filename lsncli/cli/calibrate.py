"""``lsn calibrate``: a detector of any method, at any true-positive rate."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lsncli.artefacts import check_detector_exists
from lsncli.cli import options
from lsncli.cli.describe_detector import (
    CLASS_COLUMNS,
    class_rows,
    describe_replacement,
    describe_threshold,
)
from lsncli.cli.score_inputs import ModelOptions, check_model, detector_for
from lsncli.cli.select import compare, describe_failures, learned_choice
from lsncli.cli.train_prompts import workspace_backbone
from lsncli.console import brief, printable, progress_bar, remarks, say
from lsncli.errors import UsageError
from lsncli.methods.workspace import Workspace
from lsncli.report.formats import FORMATS, Column, render
from lsncli.store import check_exists

if TYPE_CHECKING:
    from lsncli.artefacts.detector import SavedDetector
    from lsncli.backbones import Backbone
    from lsncli.detection.calibrate import Recalibrated
    from lsncli.methods.spec import Method

AUTO = "auto"
"""The --method that `lsn select` chooses."""
COLUMNS = [
    Column("method", "Method"),
    Column("head", "Head"),
    Column("gamma", "Gamma", digits=6),
    Column("target_tpr", "Target TPR %", digits=1, percent=True),
    Column("held_out", "Held out", digits=0),
    Column("tpr_low", "TPR from %", digits=1, percent=True),
    Column("tpr_high", "to %", digits=1, percent=True),
]


@dataclass(frozen=True, kw_only=True)
class CalibrateOptions:
    """The options of `lsn calibrate`."""

    context: typer.Context
    images: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Your own ID images: folders, patterns, lists, tars, URLs. Labels are not needed.",
            metavar="PATH",
        ),
    ] = None
    method: Annotated[
        str | None,
        typer.Option(
            help="SCORE[:HEAD][,SETTING=VALUE...], such as mcm, mcm:positive or knn,k=10; 'auto' chooses as "
            "`lsn select` does.",
            show_default="lsn",
        ),
    ] = None
    split: Annotated[
        str | None,
        typer.Option(help="Labelled ID split whose held-out rows set gamma.", show_default="train"),
    ] = None
    target_tpr: options.TargetTpr = 0.95
    per_class: Annotated[
        bool,
        typer.Option("--per-class", help="A threshold for each predicted class that has enough images."),
    ] = False
    classes: Annotated[
        str | None,
        typer.Option(help="With images: a zero-shot detector of these classes, such as 'cat,dog'."),
    ] = None
    model: Annotated[
        str | None,
        options.model_option("The model of --classes.", "the store's, else ViT-B-16-quickgelu:openai"),
    ] = None
    words: options.WordList = "auto"
    batch_size: options.BatchSize = 0
    workers: options.Workers = 0
    max_failure_rate: options.MaxFailureRate = 0.05
    path_column: options.PathColumn = ""
    follow_links: options.FollowLinks = False
    timeout: options.Timeout = None
    image_timeout: options.ImageTimeout = None
    work: options.WorkFolder = options.DEFAULT_WORK
    pretrained: options.Pretrained = ""
    device: options.Device = "auto"
    format: options.Format = "table"
    output: options.Output = None
    quiet: options.Quiet = False


@options.command(CalibrateOptions)
def calibrate(arguments: CalibrateOptions) -> None:
    """Set the threshold of a method on ID images; writes the detector.

    Examples:
        lsn calibrate --method energy           # on held-out rows of the features
        lsn calibrate ./good-images             # a threshold for your own images
        lsn calibrate --method lsn --target-tpr 0.99

    With hand-written prompts (mcm, knn, ...) nothing needs to be learned first. With PATHs, the workspace's
    detector keeps its method and gamma is set on these images: they must be of your classes, and none that
    the prompts learned from. With --per-class the target holds for each predicted class that has 20 images or
    more, not only for all together.
    """
    options.set_timeouts(arguments.timeout, arguments.image_timeout)
    _check_options(arguments)
    workspace = Workspace(arguments.work)
    replaced = None
    if workspace.detector.is_file():
        from lsncli.artefacts.detector import find_detector

        replaced = find_detector(workspace.detector)
    if arguments.images:
        before, backbone = _detector(workspace, arguments)
        result = _recalibrate(arguments, before, backbone)
        _check_failures(result, arguments.max_failure_rate, arguments.quiet)
        from lsncli.artefacts.detector import save_detector

        save_detector(workspace.detector, result.detector)
        detector = result.detector
    else:
        detector = _calibrate_on_rows(workspace, arguments)
    threshold = detector.threshold
    row = {
        "method": brief(detector.label) if FORMATS[arguments.format].people else detector.label,
        "head": detector.head_name,
        "gamma": threshold.gamma,
        "target_tpr": threshold.target_tpr,
        "held_out": threshold.n,
        "tpr_low": threshold.tpr_low,
        "tpr_high": threshold.tpr_high,
    }
    rows, columns = [row], COLUMNS
    if detector.class_thresholds is not None:
        rows, columns = class_rows(detector, row, people=FORMATS[arguments.format].people), CLASS_COLUMNS
    render(rows, columns, arguments.format, arguments.output)
    describe_replacement(replaced, detector, workspace, arguments.quiet)
    describe_threshold(detector, arguments.quiet)
    if arguments.images:
        _describe_images(before, result, arguments.quiet)


def _check_options(arguments: CalibrateOptions) -> None:
    """Raise UsageError for options that do not go together."""
    if arguments.images:
        if arguments.method is not None or arguments.split is not None:
            raise UsageError(
                "Images set the threshold of the existing detector: --method and --split cannot be combined "
                "with them.",
                "Run `lsn calibrate --method ...` first, then `lsn calibrate PATH`.",
            )
        check_model(arguments.context, arguments.classes)
    elif arguments.path_column:
        raise UsageError("--path-column is for a list of images, and none were named.", "Name the list.")
    elif arguments.classes is not None:
        raise UsageError(
            "--classes sets a threshold with images, and none were named.",
            "Name ID images, or score without a threshold of your own: `lsn score PATH --classes ...`.",
        )


def _calibrate_on_rows(workspace: Workspace, arguments: CalibrateOptions) -> "SavedDetector":
    """Make the detector of --method from the held-out rows of --split."""
    check_exists(workspace.features)
    from lsncli.detection.calibrate import make_detector
    from lsncli.device import pick_device

    method = _method(workspace, arguments)
    with progress_bar("held-out images", None, quiet=arguments.quiet) as progress:
        return make_detector(
            workspace,
            method,
            split_name=arguments.split or "train",
            target_tpr=arguments.target_tpr,
            per_class=arguments.per_class,
            device=str(pick_device(arguments.device)),
            model=partial(
                workspace_backbone, workspace, arguments.pretrained, arguments.device, quiet=arguments.quiet
            ),
            progress=progress,
            remark=remarks(arguments.quiet),
        )


def _method(workspace: Workspace, arguments: CalibrateOptions) -> "Method":
    """Return the method to calibrate; with --method auto the one that a selection chooses."""
    from lsncli.methods.spec import parse_method

    if arguments.method != AUTO:
        return parse_method(arguments.method or "lsn")
    selection = compare(
        workspace,
        split=arguments.split or "train",
        pretrained=arguments.pretrained,
        device=arguments.device,
        quiet=arguments.quiet,
    )
    from lsncli.report.selection_table import conclusion

    describe_failures(selection)
    say(conclusion(selection.choice), quiet=arguments.quiet)
    return learned_choice(selection, arguments.quiet)


def _detector(workspace: Workspace, arguments: CalibrateOptions) -> "tuple[SavedDetector, Backbone]":
    """Return the workspace's detector, or with --classes a zero-shot one, and its model."""
    if arguments.classes is None:
        check_detector_exists(workspace.detector)
    from lsncli.backbones import load_again

    pretrained, device = arguments.pretrained, arguments.device
    model = ModelOptions(arguments.model, pretrained, device)
    detector, backbone = detector_for(workspace, arguments.classes, model, arguments.words, arguments.quiet)
    if backbone is None:
        with options.loading(arguments.quiet):
            backbone = load_again(detector.fingerprint, pretrained=pretrained, device=device, what="prompts")
    return detector, backbone


def _recalibrate(
    arguments: CalibrateOptions, detector: "SavedDetector", backbone: "Backbone"
) -> "Recalibrated":
    """Set gamma of ``detector`` with the named images."""
    from lsncli.detection.calibrate import recalibrate
    from lsncli.device import pick_device
    from lsncli.images.columns import Columns
    from lsncli.images.listing import check_not_empty, named

    paths, quiet = arguments.images or [], arguments.quiet
    columns = Columns(arguments.path_column, labelled=False)
    listing = options.list_sources(paths, columns, follow_links=arguments.follow_links, quiet=quiet)
    check_not_empty(listing, named(paths))
    with progress_bar("images", len(listing.items), quiet=quiet) as progress:
        return recalibrate(
            detector,
            listing,
            backbone,
            arguments.target_tpr,
            per_class=arguments.per_class,
            batch_size=options.images_at_once(arguments.batch_size, arguments.device),
            workers=options.threads(arguments.workers),
            device=str(pick_device(arguments.device)),
            progress=progress,
        )


def _check_failures(result: "Recalibrated", max_failure_rate: float, quiet: bool) -> None:
    """Print the images that could not be read; raise TooManyFailures before anything is written."""
    from lsncli.extraction.extract import check_failures

    for failure in result.failures[:10]:
        say(f"Not used: {printable(failure.key)}: {failure.reason}.", quiet=quiet)
    if len(result.failures) > 10:
        say(f"Not used: {len(result.failures) - 10} more.", quiet=quiet)
    total = result.detector.threshold.n + len(result.failures)
    hint = "The detector is as it was. Remove them, or raise --max-failure-rate."
    check_failures(len(result.failures), total, max_failure_rate, hint=hint)


def _describe_images(before: "SavedDetector", result: "Recalibrated", quiet: bool) -> None:
    """Print how the old gamma does on the images, and the warnings about the new one."""
    say(
        f"Before: {before.gamma_in_words} ({before.threshold.basis}), which keeps "
        f"{result.kept_before:.1%} of these images.",
        quiet=quiet,
    )
    for text in result.warnings:
        if text != result.detector.doubt:  # printed with the threshold
            say(f"Warning: {text}", quiet=quiet, style="yellow")
