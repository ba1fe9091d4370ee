"""``lsn train-pos`` and ``lsn train-neg``: learn positive (CoOp, CoCoOp) and negative prompts."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lsncli.cli import options
from lsncli.cli.describe_detector import describe_replacement, describe_threshold
from lsncli.cli.help_page import ADVANCED
from lsncli.cli.interrupts import interruptible
from lsncli.cli.options import MODEL_PANEL, FormatName
from lsncli.console import progress_bar, remarks, say
from lsncli.report.formats import Column, render
from lsncli.store import check_exists

if TYPE_CHECKING:
    from lsncli.artefacts.detector import SavedDetector
    from lsncli.backbones import Backbone
    from lsncli.methods.workspace import Workspace
    from lsncli.prompts.settings import Kind, PromptSettings
    from lsncli.training.prompts import Training, TrainingData

PROMPTS, LOSS, SCHEDULE = "Prompts", "Loss", "Schedule"

Resume = Annotated[
    bool,
    typer.Option("--resume/--restart", help="Resume an interrupted training.", rich_help_panel=SCHEDULE),
]
Seed = Annotated[int, typer.Option(help="Equal seeds give equal prompts.", rich_help_panel=ADVANCED)]


@dataclass(frozen=True, kw_only=True)
class PromptOptions:
    """The options of `lsn train-pos`; those of `lsn train-neg` are all but ``POSITIVE_ONLY``."""

    split: Annotated[str, typer.Option(help="Labelled split to learn from.")] = "train"
    mode: Annotated[
        Literal["best", "fast", "paper", "official"],
        typer.Option(
            help="Preset of what follows: what did best on validation rows, the paper's losses in large "
            "batches, the paper's settings, or what the authors' code does."
        ),
    ] = "best"
    learner: Annotated[
        Literal["coop", "cocoop"],
        typer.Option(help="CoOp, or CoCoOp: contexts that depend on the image.", rich_help_panel=ADVANCED),
    ] = "coop"
    shots: Annotated[
        int | None, typer.Option(help="Rows of each class to learn from.", show_default="all")
    ] = None
    val_fraction: Annotated[
        float,
        typer.Option(
            help="Fraction of each class that is held out to set the threshold.",
            rich_help_panel=ADVANCED,
        ),
    ] = 0.2
    sets: Annotated[
        int | None,
        typer.Option(
            help="Prompts of each class, K.", show_default="positive 1, negative 3", rich_help_panel=PROMPTS
        ),
    ] = None
    specific: Annotated[
        bool | None,
        typer.Option(
            "--specific/--shared",
            help="A context for every class, or one for all.",
            show_default="positive shared, negative specific",
            rich_help_panel=PROMPTS,
        ),
    ] = None
    names: Annotated[
        bool | None,
        typer.Option("--names/--no-names", help="Put class names into the prompts.", rich_help_panel=PROMPTS),
    ] = None
    position: Annotated[
        Literal["end", "middle", "front"] | None,
        typer.Option(help="Where the class name stands.", show_default="end", rich_help_panel=PROMPTS),
    ] = None
    context_length: Annotated[
        int | None,
        typer.Option(
            help="Learned vectors of a context.",
            show_default="16; CoCoOp positive 4",
            rich_help_panel=PROMPTS,
        ),
    ] = None
    init: Annotated[
        str | None,
        typer.Option(
            help="Words that contexts start from, such as 'a photo of a'.",
            show_default="random",
            rich_help_panel=PROMPTS,
        ),
    ] = None
    tau: Annotated[
        float | None,
        typer.Option(
            help="Training temperature.", show_default="positive 0.01, negative 0.05", rich_help_panel=LOSS
        ),
    ] = None
    weight: Annotated[
        float | None,
        typer.Option(
            help="Lambda of Eq. 8: weight of the orthogonality term.",
            show_default="negative: paper 0.1, official 1",
            rich_help_panel=LOSS,
        ),
    ] = None
    orthogonality: Annotated[
        Literal["sum", "mean", "signed"] | None,
        typer.Option(
            help="Eq. 7 as a sum or a mean of |cos|, or the authors' mean of cos.", rich_help_panel=LOSS
        ),
    ] = None
    epochs: Annotated[
        int | None,
        typer.Option(
            help="Passes over the rows.",
            show_default="positive 50, negative 100; CoCoOp 10",
            rich_help_panel=SCHEDULE,
        ),
    ] = None
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size",
            help="Rows a step.",
            show_default="128; paper, official 8; CoCoOp 1",
            rich_help_panel=SCHEDULE,
        ),
    ] = None
    rate: Annotated[
        float | None,
        typer.Option(
            help="Learning rate of the optimiser.", show_default="the preset's", rich_help_panel=SCHEDULE
        ),
    ] = None
    schedule: Annotated[
        Literal["cosine", "constant"] | None,
        typer.Option(
            help="How the rate falls over the epochs.", show_default="cosine", rich_help_panel=SCHEDULE
        ),
    ] = None
    warmup: Annotated[
        int | None,
        typer.Option(help="Epochs at the rate 1e-5 first.", show_default="0", rich_help_panel=SCHEDULE),
    ] = None
    resume: Resume = True
    seed: Seed = 0
    target_tpr: options.TargetTpr = 0.95
    work: options.WorkFolder = options.DEFAULT_WORK
    pretrained: options.Pretrained = ""
    device: options.Device = "auto"
    precision: Annotated[
        Literal["fp32", "bf16", "fp16"] | None,
        typer.Option(
            help="Precision of the text tower; fp32 is exact.",
            show_default="fp32",
            rich_help_panel=MODEL_PANEL,
        ),
    ] = None
    kernel: Annotated[
        Literal["auto", "torch", "onednn"],
        typer.Option(help="Linear layers of the text tower; auto measures.", rich_help_panel=MODEL_PANEL),
    ] = "auto"
    memory: Annotated[
        float,
        typer.Option(
            min=0,
            help="GiB for the text pass of a step; more is cut into exact chunks.",
            show_default="0 = 4, or half of a GPU's",
            rich_help_panel=MODEL_PANEL,
        ),
    ] = 0.0
    format: options.Format = "table"
    output: options.Output = None
    wide: options.Wide = False
    quiet: options.Quiet = False


POSITIVE_ONLY = ("split", "shots", "val_fraction")
"""Negative prompts learn from the rows that the positive ones learned from."""


def workspace_backbone(
    workspace: "Workspace", pretrained: str, device: str, *, quiet: bool = True
) -> "Backbone":
    """Load the model that made the workspace's features, and say so on a terminal unless ``quiet``."""
    with options.loading(quiet):
        from lsncli.backbones import load_again
        from lsncli.store.reader import read_fingerprint

        return load_again(read_fingerprint(workspace.features), pretrained=pretrained, device=device)


def learn(kind: "Kind", arguments: PromptOptions, *, following: str) -> None:
    """Learn prompts of a kind and print the result; ``following`` is the command to type next.

    Prompts that the workspace has with these settings and rows are kept, and so is its detector. Raises
    TypeError for an option that no part of the training takes.
    """
    from lsncli.methods.workspace import Workspace

    rest = dict(vars(arguments))
    workspace = Workspace(rest.pop("work"))
    check_exists(workspace.features)
    from lsncli.prompts.settings import PromptSettings, preset
    from lsncli.training.prompts import plan_negative, plan_positive

    rest["length"] = rest.pop("context_length")
    settings = preset(
        kind, **{field.name: rest.pop(field.name) for field in fields(PromptSettings) if field.name in rest}
    )
    split, fraction, shots = (rest.pop(name) for name in ("split", "val_fraction", "shots"))
    if kind == "positive":
        plan = plan_positive(workspace, split_name=split, fraction=fraction, shots=shots, seed=settings.seed)
    else:
        plan = plan_negative(workspace)
    _run(workspace, plan, settings, following=following, **rest)


def _run(
    workspace: "Workspace",
    plan: "TrainingData",
    settings: "PromptSettings",
    *,
    following: str,
    pretrained: str,
    device: str,
    kernel: str,
    memory: float,
    resume: bool,
    target_tpr: float,
    format: FormatName,
    output: Path | None,
    wide: bool,
    quiet: bool,
) -> None:
    """Train with a progress bar unless the prompts are there, and print one row."""
    from lsncli.artefacts.detector import find_detector
    from lsncli.prompts.learner import steps
    from lsncli.training import prompts as train
    from lsncli.training.duration import announcing_training

    before, remark = find_detector(workspace.detector), remarks(quiet)
    model = partial(workspace_backbone, workspace, pretrained, device)
    training = None
    if resume:
        training = train.find_learned(workspace, plan, settings, target_tpr=target_tpr, model=model)
    if training is None:
        with options.loading(quiet):
            backbone, rows = model(), len(plan.rows.train)
        with (
            interruptible(how_to_resume(workspace.checkpoint(settings.kind))),
            progress_bar(f"{settings.kind} prompts", steps(rows, settings), quiet=quiet) as progress,
        ):
            training = train.train_prompts(
                workspace,
                backbone,
                plan,
                settings,
                memory=int(memory * 2**30),
                kernel=kernel,
                resume=resume,
                target_tpr=target_tpr,
                progress=announcing_training(progress, settings, rows, remark),
                remark=remark,
            )
    render([_row(training)], COLUMNS, format, output, wide=wide)
    _describe(training, before, workspace, quiet, following=following)


def how_to_resume(checkpoint: Path) -> Callable[[], str]:
    """Return what to say of an interrupted training that keeps its epochs in ``checkpoint``."""

    def message() -> str:
        if checkpoint.is_file():
            return "The same command resumes after the last epoch."
        return "No epoch was kept yet; run the same command again."

    return message


COLUMNS = [
    Column("prompts", "Prompts"),
    Column("learner", "Learner"),
    Column("mode", "Mode"),
    Column("classes", "Classes", digits=0),
    Column("rows", "Rows", digits=0),
    Column("epochs", "Epochs", digits=0, detail=True),
    Column("first_loss", "Loss first", digits=3, detail=True),
    Column("last_loss", "last", digits=3, detail=True),
    Column("gamma", "Gamma", digits=6),
    Column("held_out", "Held out", digits=0),
]


def _row(training: "Training") -> dict[str, object]:
    """Return a row about the learned prompts; gamma is that of the workspace's detector."""
    prompts, threshold = training.prompts, training.detector.threshold
    return {
        "prompts": prompts.kind,
        "learner": {"coop": "CoOp", "cocoop": "CoCoOp"}[prompts.settings["learner"]],
        "mode": prompts.settings["mode"],
        "classes": len(prompts.classes),
        "rows": training.rows,
        "epochs": len(prompts.history),
        "first_loss": prompts.history[0],
        "last_loss": prompts.history[-1],
        "gamma": threshold.gamma,
        "held_out": threshold.n,
    }


def _describe(
    training: "Training",
    before: "SavedDetector | None",
    workspace: "Workspace",
    quiet: bool,
    *,
    following: str,
) -> None:
    """Print what was learned or kept, the threshold and the command to type next."""
    path, work = training.path, workspace.folder
    if not training.learned:
        say(
            f"Already learned with these settings and rows: {path} is unchanged. --restart learns again.",
            quiet=quiet,
        )
    if training.calibrated:
        describe_replacement(before, training.detector, workspace, quiet)
        describe_threshold(training.detector, quiet)
        files = f"{path} and the detector" if training.learned else f"{workspace.detector}"
        say(f"Wrote {files}. Next: {options.in_workspace(following, work)}", quiet=quiet)
        return
    kept = training.detector
    text = f"The detector is unchanged, too: {kept.label}, {kept.gamma_in_words}."
    if not training.has_own_detector:
        command = options.in_workspace(f"lsn calibrate --method {training.method}", work)
        text += f" `{command}` makes one of these prompts."
    say(text, quiet=quiet)


@options.command(PromptOptions)
def train_pos(arguments: PromptOptions) -> None:
    """Learn one context shared by all classes (Eq. 2-4), and a detector with it.

    Examples:
        lsn train-pos
        lsn train-pos --shots 16                # from 16 images of each class
        lsn train-pos --mode paper              # the paper's settings: slower

    The detector is CoOp + MaxLogit with --mode best, CoOp + MCM with the others. Reads the split's features
    from the workspace; writes positive.safetensors and detector.safetensors. An interrupted training resumes
    when the same command is run again; a finished one is kept.
    """
    learn("positive", arguments, following="lsn train-neg")


@options.command(PromptOptions, without=POSITIVE_ONLY)
def train_neg(arguments: PromptOptions) -> None:
    """Learn K negative contexts for each class (Eq. 5-8): an LSN detector.

    Examples:
        lsn train-neg
        lsn train-neg --target-tpr 0.99         # keep 99 % of ID images, not 95 %

    Uses the rows that `lsn train-pos` learned from; writes negative.safetensors and detector.safetensors.
    An interrupted training resumes when the same command is run again; a finished one is kept.
    """
    learn("negative", arguments, following="lsn score ./images")
