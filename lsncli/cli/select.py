"""``lsn select``: choose a method for the workspace's images without OOD images, and calibrate it."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lsncli.cli import options
from lsncli.cli.describe_detector import describe_replacement, describe_threshold
from lsncli.cli.help_page import ADVANCED
from lsncli.cli.interrupts import interruptible
from lsncli.cli.train_prompts import workspace_backbone
from lsncli.console import progress_bar, remarks, say
from lsncli.methods.workspace import Workspace
from lsncli.report.formats import FORMATS, render
from lsncli.store import check_exists

if TYPE_CHECKING:
    from lsncli.methods.spec import Method
    from lsncli.selection.axes import Prompts
    from lsncli.selection.folds import Fold
    from lsncli.selection.select import Selection, SelectionPlan

BETTER = (
    "Images that belong to none of the classes make a better estimate: extract them as a split and name it "
    "with --foreign."
)
MEASURED = "How many ID images the detector keeps is measured on images that the choice did not read:"


def select(
    split: Annotated[str, typer.Option(help="Labelled ID split to choose for.")] = "train",
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="SCORE[:HEAD][,SETTING=VALUE...], repeatable, from the simplest; the first is kept without "
            "evidence for another.",
            show_default="mcm and 20 more",
        ),
    ] = None,
    foreign: Annotated[
        list[str] | None,
        typer.Option(
            help="Split of images that belong to none of the classes, repeatable: takes the place of names."
        ),
    ] = None,
    prompts: Annotated[
        bool | None,
        typer.Option(
            "--prompts/--no-prompts",
            help="Compare learned prompts, too: CoOp and LSN, learned again for each fold.",
            show_default="if the workspace has some",
        ),
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Minutes; methods that take longer are left out, prompts first.",
            show_default="no limit",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show the comparison; no detector is made.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the comparison to a .png or .svg, and its numbers to a .csv.")
    ] = None,
    target_tpr: options.TargetTpr = 0.95,
    seed: Annotated[
        int, typer.Option(min=0, help="Of the folds and the rows.", rich_help_panel=ADVANCED)
    ] = 0,
    work: options.WorkFolder = options.DEFAULT_WORK,
    pretrained: options.Pretrained = "",
    device: options.Device = "auto",
    format: options.Format = "table",
    output: options.Output = None,
    wide: options.Wide = False,
    quiet: options.Quiet = False,
) -> None:
    """Choose the method for your images without OOD images; writes the detector.

    Examples:
        lsn select
        lsn select --prompts --budget 10        # do negative prompts pay here?
        lsn select --foreign holidays --plot choice.png

    Each class is left out in turn: a good method then takes its images for OOD (near). Methods are also
    compared on the names of other things, encoded as text (far). The default, MCM, is kept unless another
    method is better beyond chance. Only the training images of one labelled split are read, of six classes or
    more; the images that set the threshold are not among them.
    """
    workspace = Workspace(work)
    check_exists(workspace.features)
    from lsncli.report.plots import check_picture

    if plot is not None:
        check_picture(plot)
    selection = compare(
        workspace,
        method or (),
        split=split,
        foreign=foreign or (),
        prompts=prompts,
        budget=budget,
        seed=seed,
        pretrained=pretrained,
        device=device,
        quiet=quiet,
    )
    choice = selection.choice
    from lsncli.report.selection_table import about_prompts, columns, conclusion, rows

    people = FORMATS[format].people
    classes = len(selection.plan.scope.split.classes)
    title = f"ID: {split} ({classes} classes). AUROC in percent."
    render(rows(choice, people), columns(choice, people), format, output, title, wide=wide)
    describe_failures(selection)
    if plot is not None:
        from lsncli.report import selection_plot

        for path in selection_plot.plot(plot, choice):
            say(f"Wrote {path}", quiet=quiet)
    for text in filter(None, (conclusion(choice), about_prompts(choice))):
        say(text, quiet=quiet)
    if dry_run:
        source = "" if split == "train" else f" --split {split}"
        command = options.in_workspace(f"lsn calibrate --method {choice.method}{source}", work)
        say(f"No detector was made. `{command}` makes it.", quiet=quiet)
        return
    make_chosen(selection, target_tpr, quiet)


def compare(
    workspace: Workspace,
    methods: Sequence[str] = (),
    *,
    split: str = "train",
    foreign: Sequence[str] = (),
    prompts: bool | None = None,
    budget: float | None = None,
    seed: int = 0,
    pretrained: str = "",
    device: str = "auto",
    quiet: bool = False,
) -> "Selection":
    """Compare methods with progress bars; ``budget`` in minutes."""
    from lsncli.console import announcing, duration
    from lsncli.device import pick_device
    from lsncli.selection import select as use

    remark = remarks(quiet)
    seconds = None if budget is None else 60 * budget
    plan = use.plan_selection(
        workspace,
        methods,
        split_name=split,
        foreign=foreign,
        prompts=prompts,
        model=partial(workspace_backbone, workspace, pretrained, device, quiet=quiet),
        device=str(pick_device(device)),
        seed=seed,
        remark=remark,
    )
    for text in plan.remarks:
        remark(text)
    learned: Mapping[Fold, Prompts] = {}
    if plan.passes:
        with (
            interruptible(lambda: "The same command goes on with the prompts that are learned."),
            progress_bar("learning prompts", plan.passes, quiet=quiet) as progress,
        ):
            plan, learned = use.learn_for(plan, budget=seconds, progress=progress, remark=remark)

    def announce(_left: int, expected: float) -> None:
        remark(f"Comparing {len(plan.methods)} methods takes about {duration(expected)}.")

    with progress_bar("scores", plan.rows, quiet=quiet) as progress:
        return use.select(plan, learned, budget=seconds, progress=announcing(progress, plan.rows, announce))


def make_chosen(selection: "Selection", target_tpr: float, quiet: bool) -> None:
    """Make the detector of the chosen method, and say what it replaces and promises."""
    from lsncli.artefacts.detector import find_detector
    from lsncli.detection.calibrate import make_detector

    scope = selection.plan.scope
    workspace = scope.heads.work
    before = find_detector(workspace.detector)
    method = learned_choice(selection, quiet)
    with progress_bar("held-out images", None, quiet=quiet) as progress:
        detector = make_detector(
            workspace,
            method,
            split_name=scope.split.name,
            target_tpr=target_tpr,
            model=lambda: scope.heads.backbone,
            device=scope.device,
            progress=progress,
            remark=remarks(quiet),
        )
    describe_replacement(before, detector, workspace, quiet)
    say(promise(selection.plan), quiet=quiet)
    say(MEASURED, quiet=quiet)
    describe_threshold(detector, quiet)


def promise(plan: "SelectionPlan") -> str:
    """Return what the estimates rest on, and how to make them better."""
    far = " and from --foreign images" if plan.foreign else " and from words" if plan.far else ""
    text = f"These AUROCs are estimates from classes that were left out{far}: good for OOD images like these."
    return text if plan.foreign else f"No OOD image was used. {text} {BETTER}"


def learned_choice(selection: "Selection", quiet: bool) -> "Method":
    """Return the chosen method; learn the prompts that it needs and the workspace lacks, as compared."""
    from lsncli.prompts.learner import steps
    from lsncli.selection.prompts import missing_prompts, other_prompts
    from lsncli.training.prompts import train_prompts

    scope, method = selection.plan.scope, selection.plan.methods[selection.choice.method]
    workspace = scope.heads.work
    if other := other_prompts(workspace, method):
        say(f"Warning: {other}", quiet=quiet, style="yellow")
    for plan, settings in missing_prompts(workspace, method, scope.split.name):
        count = steps(len(plan.rows.train), settings)
        with progress_bar(f"{settings.kind} prompts", count, quiet=quiet) as progress:
            train_prompts(
                workspace, scope.heads.backbone, plan, settings, progress=progress, remark=remarks(quiet)
            )
    return method


def describe_failures(selection: "Selection") -> None:
    """Print the methods that could not be compared, with the reason."""
    for name, reason in selection.failed.items():
        say(f"{name}: not compared. {reason}", style="yellow")
