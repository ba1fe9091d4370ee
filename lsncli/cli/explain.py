"""``lsn explain``: the verdict on one image, its reasons, and heat maps of positive and negative prompts."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lsncli.cli import options
from lsncli.cli.help_page import ADVANCED
from lsncli.cli.train_prompts import workspace_backbone
from lsncli.console import say
from lsncli.errors import LsnError, UsageError
from lsncli.methods.workspace import Workspace

if TYPE_CHECKING:
    from lsncli.artefacts.detector import SavedDetector
    from lsncli.backbones import Backbone
    from lsncli.store.format import Split
    from lsncli.types import Head

DETECTOR = "detector"


@dataclass(frozen=True, kw_only=True)
class ExplainOptions:
    """The options of `lsn explain`."""

    image: Annotated[Path, typer.Argument(help="The image to explain.", metavar="IMAGE")]
    classes: Annotated[
        list[str] | None,
        typer.Option("--class", help="Also explain this class, repeatable; the predicted one always is."),
    ] = None
    head: Annotated[
        str | None,
        typer.Option(
            help="Prompts: detector (its own), positive (learned), hand or ensemble.",
            show_default="the first available",
            rich_help_panel=ADVANCED,
        ),
    ] = None
    train: Annotated[
        str,
        typer.Option(
            help="Split of the training images, whose classes hand-written prompts name.",
            rich_help_panel=ADVANCED,
        ),
    ] = "train"
    top: Annotated[int, typer.Option(min=1, help="Number of likeliest classes to show.")] = 5
    nearest: Annotated[int, typer.Option(min=0, help="Number of nearest training images to show.")] = 5
    to: Annotated[
        Path | None, typer.Option(help="Folder to write heat maps and numbers into.", show_default="none")
    ] = None
    timeout: options.Timeout = None
    image_timeout: options.ImageTimeout = None
    work: options.WorkFolder = options.DEFAULT_WORK
    pretrained: options.Pretrained = ""
    device: options.Device = "auto"
    format: options.Format = "table"
    output: options.Output = None
    quiet: options.Quiet = False


@options.command(ExplainOptions)
def explain(arguments: ExplainOptions) -> None:
    """Explain why an image is ID or OOD: score, classes, nearest images, heat maps.

    Examples:
        lsn explain photo.jpg
        lsn explain photo.jpg --to ./why        # also pictures of the heat maps
        lsn explain photo.jpg --class cat --class dog

    --to DIR writes NAME.explain.png, a sheet of the numbers and all maps, one picture a map, and
    NAME.explain.json. Attention weighted by gradients for ViTs, Grad-CAM for convolutional models. Brighter =
    more of what speaks for the prompt against the other classes' prompts. Peaks are fractions from the top
    left of what the model sees; "shared" is the weight that a negative prompt's map has in common with the
    positive one's. Probabilities compare the classes, so they mean nothing for an image of none. In csv, json
    and jsonl the column "what" tells what a row is.
    """
    from lsncli.detection.scored_sets import Scorer
    from lsncli.device import pick_device
    from lsncli.explanation.evidence import explain_verdict, held_out_scores
    from lsncli.explanation.saliency import check_classes, read_image, try_explain
    from lsncli.images.listing import named
    from lsncli.images.remote import as_url
    from lsncli.report.explanation_images import write_heat_maps
    from lsncli.report.explanation_tables import print_explanation

    options.set_timeouts(arguments.timeout, arguments.image_timeout)
    image, to, quiet, classes = arguments.image, arguments.to, arguments.quiet, arguments.classes or ()
    workspace, device = Workspace(arguments.work), str(pick_device(arguments.device))
    picture, source = read_image(image), named([image])
    name = Path(source.partition("?")[0]).stem if as_url(image) else image.stem
    with options.loading(quiet):
        detector, backbone = _detector(workspace, arguments)
    prompts = _head(workspace, detector, backbone, arguments)
    check_classes(prompts, classes)
    split = _training_split(workspace, arguments.train, quiet)
    held_out = None
    if detector is not None and split is not None:
        held_out = held_out_scores(workspace, Scorer(detector, lambda: backbone, device), split)
    evidence = explain_verdict(
        source,
        picture,
        backbone,
        prompts,
        detector=detector,
        held_out=held_out,
        split=split,
        top=arguments.top,
        count=arguments.nearest,
        device=device,
    )
    explanation, problem = try_explain(backbone, prompts, picture, classes, evidence.likely[0].name)
    files = [] if to is None else write_heat_maps(to, name, explanation, evidence)
    print_explanation(explanation, evidence, files, arguments.format, arguments.output)
    if problem:
        say(problem, quiet=quiet, style="yellow")
    if detector is not None and detector.doubt:
        say(f"Warning: {detector.doubt}", quiet=quiet, style="yellow")
    if to is None:
        say(f"Predicted: {explanation.predicted}. Pictures of this: add --to DIR", quiet=quiet)
        return
    say(
        f"Predicted: {explanation.predicted}. The sheet with everything: {to / (name + '.explain.png')}"
        f"{'; beside it a picture of each map.' if files else ''}",
        quiet=quiet,
    )


def _detector(workspace: Workspace, arguments: ExplainOptions) -> "tuple[SavedDetector | None, Backbone]":
    """Return the detector of the workspace, or None if it is of another model than the store, and the model.

    Without a store, the model is that of the detector.
    """
    from lsncli.artefacts.detector import load_detector
    from lsncli.backbones import load_again

    pretrained, device, quiet = arguments.pretrained, arguments.device, arguments.quiet
    if not workspace.detector.is_file():
        say("No detector, so no verdict: make one with `lsn calibrate`.", quiet=quiet)
        return None, workspace_backbone(workspace, pretrained, device)
    detector = load_detector(workspace.detector)
    if not workspace.features.is_file():
        fingerprint = detector.fingerprint
        return detector, load_again(fingerprint, pretrained=pretrained, device=device, what="prompts")
    backbone = workspace_backbone(workspace, pretrained, device)
    if detector.fingerprint.digest != backbone.fingerprint.digest:
        say(
            "The detector is of another model than the store, so there is no verdict. `lsn calibrate` makes "
            "one anew.",
            quiet=quiet,
            style="yellow",
        )
        return None, backbone
    return detector, backbone


def _head(
    workspace: Workspace, detector: "SavedDetector | None", backbone: "Backbone", arguments: ExplainOptions
) -> "Head":
    """Return the prompts of --head, or else those of the detector, with any negative prompts."""
    from lsncli.methods.heads import MEANS, TEXT_HEADS, head_from, make_head
    from lsncli.methods.holdout import labelled_split

    has_prompts = detector is not None and detector.head_name in (*TEXT_HEADS, MEANS)
    available = DETECTOR if has_prompts else "positive" if workspace.positive.is_file() else "hand"
    name = arguments.head or available
    if name not in (DETECTOR, *TEXT_HEADS):
        raise UsageError(f"--head: expected one of {', '.join((DETECTOR, *TEXT_HEADS))}, found '{name}'.")
    learned = workspace.negative.is_file()
    if name == DETECTOR:
        if detector is None or not has_prompts:
            raise LsnError(
                f"--head {DETECTOR}: {workspace.folder} has no detector of this model whose head is prompts.",
                "Name other prompts, such as --head hand.",
            )
        head = head_from(detector.head, lambda: backbone)
    else:
        split = None if name == "positive" else labelled_split(workspace, arguments.train, option="--train")
        names = split.classes if split else ()
        head = make_head(workspace, name, names, negatives=learned, model=lambda: backbone)
    if head.negative is None:
        hint = "--head positive looks through the learned ones" if learned else "`lsn train-neg` learns them"
        say(f"These prompts have no negative ones: {hint}.", quiet=arguments.quiet)
    return head


def _training_split(workspace: Workspace, name: str, quiet: bool) -> "Split | None":
    """Return the training split; None if the workspace has none."""
    from lsncli.store.reader import find_split, read_split

    if workspace.features.is_file() and find_split(workspace.features, name) is not None:
        return read_split(workspace.features, name)
    say(f"{workspace.features} has no split '{name}', so there are no training images to show.", quiet=quiet)
    return None
