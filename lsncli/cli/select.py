"""``lsn select``: choose a method for the workspace's images without OOD images, and calibrate it."""

from collections.abc import Sequence
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
from lsncli.report.formats import FORMATS, Column, render
from lsncli.store import check_exists

if TYPE_CHECKING:
    from lsncli.backbones import Backbone
    from lsncli.methods.spec import Method
    from lsncli.selection.choose import Choice, Compared, Margin
    from lsncli.selection.select import Selection

PROMISE = (
    "No OOD image was used: what the detector finds is an estimate from classes that were left out and from "
    "words, good for OOD images like them."
)
BETTER = (
    "Images that are surely of no class make it surer: extract them as a split and name it with --foreign."
)
MEASURED = "How many ID images it keeps is measured on images that the choice did not read:"
RESULTS = {"chosen": "chosen", "runner-up": "second best", "default": "default"}


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
        typer.Option(help="Split of images that are surely of no class, repeatable: a far axis of images."),
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

    Each class is left out in turn, and a method is good if it takes its images for OOD (near). A second axis
    are names of other things as text features (far). The default, MCM, is kept unless another method is
    better beyond chance. Reads the training images of one labelled split of six classes or more; those that
    set the threshold are not looked at.
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
    people = FORMATS[format].people
    classes = len(selection.plan.scope.split.classes)
    title = f"ID: {split} ({classes} classes). AUROC in percent, without OOD images."
    render(rows(choice, people), columns(choice, people), format, output, title, wide=wide)
    describe_failures(selection)
    if plot is not None:
        from lsncli.report import selection_plot

        for path in selection_plot.plot(plot, choice):
            say(f"Wrote {path}", quiet=quiet)
    for text in filter(None, (conclusion(choice), about_prompts(choice))):
        say(text, quiet=quiet)
    if dry_run:
        command = options.in_workspace(f"lsn calibrate --method {choice.method}", work)
        say(f"No detector was made. `{command}` makes it.", quiet=quiet)
        return
    make_chosen(workspace, selection, target_tpr, pretrained, device, quiet)


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
        model=_model(workspace, pretrained, device, quiet),
        device=str(pick_device(device)),
        seed=seed,
        remark=remark,
    )
    for text in plan.remarks:
        remark(text)
    with (
        interruptible(lambda: "The same command goes on with the prompts that are learned."),
        progress_bar("training steps", plan.steps, quiet=quiet) as progress,
    ):
        plan, learned = use.learn_for(plan, budget=seconds, progress=progress, remark=remark)

    def announce(_left: int, expected: float) -> None:
        remark(f"Comparing {len(plan.methods)} methods takes about {duration(expected)}.")

    with progress_bar("scores", plan.rows, quiet=quiet) as progress:
        return use.select(plan, learned, budget=seconds, progress=announcing(progress, plan.rows, announce))


def make_chosen(
    workspace: Workspace,
    selection: "Selection",
    target_tpr: float,
    pretrained: str,
    device: str,
    quiet: bool,
) -> None:
    """Make the detector of the chosen method, and say what it replaces and promises."""
    from lsncli.artefacts.detector import find_detector
    from lsncli.detection.calibrate import make_detector
    from lsncli.device import pick_device

    split = selection.plan.scope.split.name
    before = find_detector(workspace.detector)
    method = learned_choice(workspace, selection, pretrained, device, quiet)
    with progress_bar("held-out images", None, quiet=quiet) as progress:
        detector = make_detector(
            workspace,
            method,
            split_name=split,
            target_tpr=target_tpr,
            model=_model(workspace, pretrained, device, quiet),
            device=str(pick_device(device)),
            progress=progress,
            remark=remarks(quiet),
        )
    describe_replacement(before, detector, workspace, quiet)
    say(f"{PROMISE} {'' if selection.plan.foreign else BETTER}".rstrip(), quiet=quiet)
    say(MEASURED, quiet=quiet)
    describe_threshold(detector, quiet)


def learned_choice(
    workspace: Workspace, selection: "Selection", pretrained: str, device: str, quiet: bool
) -> "Method":
    """Return the chosen method; learn the prompts that it needs and the workspace lacks, as compared."""
    from lsncli.prompts.learner import steps
    from lsncli.selection.prompts import SETTINGS
    from lsncli.training.prompts import plan_negative, plan_positive, train_prompts

    method, split = selection.plan.methods[selection.choice.method], selection.plan.scope.split.name
    needed = {"positive": method.head == "positive", "negative": "negative" in method.needs}
    for kind, settings in SETTINGS.items():
        if not needed[kind] or workspace.prompts(kind).is_file():
            continue
        plan = plan_positive(workspace, split_name=split) if kind == "positive" else plan_negative(workspace)
        backbone = _model(workspace, pretrained, device, quiet)()
        with progress_bar(f"{kind} prompts", steps(len(plan.rows.train), settings), quiet=quiet) as progress:
            train_prompts(workspace, backbone, plan, settings, progress=progress, remark=remarks(quiet))
    return method


def _model(workspace: Workspace, pretrained: str, device: str, quiet: bool) -> "partial[Backbone]":
    return partial(workspace_backbone, workspace, pretrained, device, quiet=quiet)


def columns(choice: "Choice", people: bool) -> list[Column]:
    """Return the columns of the comparison: for people means and margins, for programs every axis."""
    first = choice.compared[0]
    kinds = [
        Column(f"near_{kind}", f"Near, {kind}", digits=2, percent=True, detail=True) for kind in first.near
    ]
    far = [Column(key_of(name), f"Far, {name}", digits=2, percent=True, detail=True) for name in first.far]
    far_mean = [Column("far", "Far", digits=2, percent=True)] if first.far else []
    over = f"Over {choice.default}"
    margin = (
        [Column("margin", over), Column("interval", "95 %")]
        if people
        else [Column("over_default", ""), Column("low", ""), Column("high", "")]
    )
    return [
        Column("method", "Method", identifies=True),
        Column("near", "Near", digits=2, percent=True),
        *kinds,
        *far_mean,
        *far,
        Column("mean", "Mean", digits=2, percent=True),
        *margin,
        Column("result", "", words=RESULTS),
        Column("why_not", "Not considered", wide=True, detail=True),
    ]


def key_of(far: str) -> str:
    """Return the key of the column of words or of a foreign split."""
    from lsncli.selection.choose import WORDS

    return "far_words" if far == WORDS else f"foreign_{far}"


def rows(choice: "Choice", people: bool) -> list[dict[str, object]]:
    """Return a row per method, from the best; ``margin`` and ``interval`` are text in percent, for people."""
    return [_row(each, choice, people) for each in choice.compared]


def _row(each: "Compared", choice: "Choice", people: bool) -> dict[str, object]:
    over = each.over_default
    results = {choice.default: "default", choice.runner_up: "runner-up", choice.method: "chosen"}
    row: dict[str, object] = {
        "method": each.method,
        "near": sum(each.near.values()) / len(each.near),
        "far": each.far_mean,
        "mean": each.mean,
        "result": results.get(each.method),
        "why_not": each.why_not or None,
        **{f"near_{kind}": value for kind, value in each.near.items()},
        **{key_of(name): value for name, value in each.far.items()},
    }
    if not people:
        return row | {"over_default": over.value, "low": over.low, "high": over.high}
    if each.method == choice.default:
        return row
    return row | {
        "margin": f"{100 * over.value:+.2f}",
        "interval": f"{100 * over.low:+.1f} to {100 * over.high:+.1f}",
    }


def describe_failures(selection: "Selection") -> None:
    """Print the methods that could not be compared, with the reason."""
    for name, reason in selection.failed.items():
        say(f"{name}: not compared. {reason}", style="yellow")


def conclusion(choice: "Choice") -> str:
    """Return what was chosen, and the evidence, in sentences."""
    if choice.verdict == "chance":
        return (
            "No method tells the images of classes that are left out from the others better than chance: do "
            f"the labels fit the images? Keeping {choice.default}."
        )
    if choice.verdict == "no better":
        return f"No method is better than {choice.default} on classes that are left out. Keeping it."
    if choice.verdict == "no difference":
        best = next(each for each in choice.compared if not each.why_not)
        if best.method == choice.default:
            return f"No evidence that it matters: none is better than {choice.default}. Keeping it."
        gain = _points(best.over_default)
        return (
            f"No evidence that it matters: the best, {best.method}, is {gain} of AUROC above "
            f"{choice.default} (95% interval for {len(choice.compared)} methods together). "
            f"Keeping {choice.default}."
        )
    gain = _points(choice.row(choice.method).over_default)
    return (
        f"Chosen: {choice.method}, {gain} of AUROC above {choice.default} (95% interval for "
        f"{len(choice.compared)} methods together). Second best: {choice.runner_up}, "
        f"{_points(choice.margin)} behind."
    )


def about_prompts(choice: "Choice") -> str:
    """Return whether learned prompts pay: positive ones against none, and negative ones against those."""
    from lsncli.selection.choose import margin_between
    from lsncli.selection.methods import PROMPTS

    negative = choice.best_of(["lsn"])
    positive = choice.best_of([name for name in PROMPTS if name != "lsn"])
    none = choice.best_of([each.method for each in choice.compared if each.method not in PROMPTS])
    pairs = [("Learned prompts", positive, none), ("Negative prompts", negative, positive)]
    texts = []
    for title, first, second in pairs:
        if first is not None and second is not None:
            below = first.mean < second.mean
            above, under = (second, first) if below else (first, second)
            points = _points(margin_between(above.by_class, under.by_class))
            texts.append(
                f"{title}: {first.method} is {points} {'below' if below else 'above'} {second.method}."
            )
    return " ".join(texts)


def _points(margin: "Margin") -> str:
    low, high = 100 * margin.low, 100 * margin.high
    return f"{100 * margin.value:.2f} points ({low:.2f} to {high:.2f})"
