"""The options that several commands share, and what turns options into a command."""

import os
import shlex
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import MISSING, fields
from functools import wraps
from inspect import Parameter, Signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_type_hints

import typer

from lsncli.cli.configured import REACHES_OUT
from lsncli.cli.help_page import ADVANCED
from lsncli.cli.help_page import OUTPUT_PANEL as OUTPUT_PANEL
from lsncli.console import say, status
from lsncli.device import check_sizes
from lsncli.device import images_at_once as images_at_once
from lsncli.device import threads as threads
from lsncli.images.budget import (
    IMAGE_SECONDS,
    MOST_SECONDS,
    SECONDS,
    SLOWEST,
    USUAL_IMAGE_SECONDS,
    USUAL_SECONDS,
)
from lsncli.report.formats import FORMATS, check

if TYPE_CHECKING:
    from lsncli.images.columns import Columns
    from lsncli.images.item import Listing

Options = TypeVar("Options")


def command(
    options: type[Options], *, without: Collection[str] = ()
) -> Callable[[Callable[[Options], None]], Callable[..., None]]:
    """Make a command of a function that takes the dataclass ``options``: each field is an option.

    So an option is declared once, whatever number of commands and functions use it. Fields in ``without`` are
    no options of this command and keep their defaults.
    """
    hints = get_type_hints(options, include_extras=True)
    parameters = [
        Parameter(
            field.name,
            Parameter.KEYWORD_ONLY,
            default=Parameter.empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(options)  # type: ignore[arg-type]
        if field.name not in without
    ]

    def decorate(function: Callable[[Options], None]) -> Callable[..., None]:
        @wraps(function)
        def run(**values: Any) -> None:
            function(options(**values))

        run.__annotations__ = {each.name: each.annotation for each in parameters}
        run.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
        return run

    return decorate


MODEL_PANEL = "Model"

WorkFolder = Annotated[
    Path, typer.Option("--work", envvar="LSN_WORK", help="Workspace folder: features, prompts, detector.")
]
DEFAULT_WORK = Path("lsn-work")


def in_workspace(command: str, work: Path) -> str:
    """Return a command to type next, with --work unless it is the default."""
    return command if work == DEFAULT_WORK else f"{command} --work {shlex.quote(str(work))}"


def model_option(
    help: str, default: str, *, envvar: str | None = "LSN_MODEL", panel: str | None = MODEL_PANEL
) -> Any:
    """Return the option --model of a command; ``help`` says its purpose, ``default`` which it is."""
    return typer.Option("--model", envvar=envvar, help=help, show_default=default, rich_help_panel=panel)


Pretrained = Annotated[
    str,
    typer.Option(
        envvar="LSN_PRETRAINED", help="Weights: a tag or a checkpoint file.", rich_help_panel=MODEL_PANEL
    ),
]
Device = Annotated[
    str,
    typer.Option(envvar="LSN_DEVICE", help="auto, cpu, cuda, cuda:N or mps.", rich_help_panel=MODEL_PANEL),
]


def _check_batch_size(value: int) -> int:
    check_sizes(batch_size=value, least=0)
    return value


def _check_workers(value: int) -> int:
    check_sizes(workers=value, least=0)
    return value


Runtime = Annotated[
    str,
    typer.Option(
        envvar="LSN_RUNTIME",
        help="How the image tower is computed: auto (the fastest here, measured if there are many images), "
        "torch, fused or openvino (an extra, never chosen by auto). All agree up to rounding.",
        rich_help_panel=MODEL_PANEL,
    ),
]
BatchSize = Annotated[
    int,
    typer.Option(
        help="Images encoded at a time.",
        show_default="0 = 16 on a CPU, else 128",
        callback=_check_batch_size,
        rich_help_panel=MODEL_PANEL,
    ),
]
Workers = Annotated[
    int,
    typer.Option(
        help="Decoding threads.",
        show_default="0 = one per core",
        callback=_check_workers,
        rich_help_panel=MODEL_PANEL,
    ),
]
FollowLinks = Annotated[
    bool,
    REACHES_OUT,
    typer.Option(
        "--follow-links",
        help="Also follow symbolic links that lead out of a folder.",
        rich_help_panel=ADVANCED,
    ),
]
MaxFailureRate = Annotated[
    float,
    typer.Option(
        min=0,
        max=1,
        help="Exit with 3 if a larger fraction of images is unreadable.",
        rich_help_panel=ADVANCED,
    ),
]


Timeout = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        min=0.1,
        max=MOST_SECONDS,
        envvar=SECONDS,
        help="Seconds that an image behind a URL may take, tries included, and one more for each "
        f"{SLOWEST >> 10} KiB.",
        show_default=f"{USUAL_SECONDS:.0f}",
        metavar="SECONDS",
        rich_help_panel=ADVANCED,
    ),
]


ImageTimeout = Annotated[
    float | None,
    typer.Option(
        "--image-timeout",
        min=0.1,
        max=MOST_SECONDS,
        envvar=IMAGE_SECONDS,
        help="Seconds that an image may be decoded; more is a failure.",
        show_default=f"{USUAL_IMAGE_SECONDS:.0f}",
        metavar="SECONDS",
        rich_help_panel=ADVANCED,
    ),
]


def set_timeouts(timeout: float | None, image_timeout: float | None) -> None:
    """Set --timeout and --image-timeout for this process and those that it starts."""
    for variable, seconds in ((SECONDS, timeout), (IMAGE_SECONDS, image_timeout)):
        if seconds is not None:
            os.environ[variable] = str(seconds)


def _check_target_tpr(value: float) -> float:
    """Check --target-tpr at once: the threshold is set after the training, which may take hours."""
    from lsncli.threshold import check_target_tpr  # numpy and scipy, which help does not need

    check_target_tpr(value)
    return value


TargetTpr = Annotated[
    float,
    typer.Option(
        help="Fraction of ID images that the threshold keeps (TPR), such as 0.95.", callback=_check_target_tpr
    ),
]

OtherTpr = Annotated[
    float | None,
    typer.Option(
        "--target-tpr",
        help="Judge by the threshold that keeps this fraction of the detector's held-out ID images.",
        show_default="the detector's",
        rich_help_panel=ADVANCED,
    ),
]

FalseAlarms = Annotated[
    float | None,
    typer.Option(
        help="Flag images so that at most this fraction of them is expected to be ID; judges all at the end.",
        metavar="FRACTION",
    ),
]

ClassNames = Annotated[
    str | None,
    typer.Option(
        help="No detector, only class names: 'cat,dog,truck', or a .txt of one a line. Not calibrated.",
        metavar="NAMES",
    ),
]
ClassNamesModel = Annotated[
    str | None,
    model_option("Of --classes: as for lsn extract.", "the store's, else ViT-B-16-quickgelu:openai"),
]
WordList = Annotated[
    str,
    typer.Option(
        "--words",
        envvar="LSN_WORDS",
        help="Of --classes: words that are no class, to compare with: wordnet, csp, openood, a class list "
        "such as imagenet1k, or a file with one a line; auto is wordnet, for the mini model imagenet1k.",
        metavar="LIST",
        rich_help_panel=MODEL_PANEL,
    ),
]
if TYPE_CHECKING:
    FormatName = str
else:
    FormatName = Literal[tuple(FORMATS)]
BINARY = " or ".join(name for name, form in FORMATS.items() if form.binary)


def _check_output(context: typer.Context, parameter: typer.CallbackParam, value: Any) -> Any:
    """Check --format and --output together, before work that may take hours."""
    values = context.params | {parameter.name: value}
    if "format" in values and "output" in values:
        check(values["format"], values["output"])
    return value


Format = Annotated[
    FormatName,
    typer.Option(
        "--format",
        envvar="LSN_FORMAT",
        help=f"How rows are printed; {BINARY} needs --output.",
        callback=_check_output,
        rich_help_panel=OUTPUT_PANEL,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", help="Write rows here.", callback=_check_output, rich_help_panel=OUTPUT_PANEL),
]
Wide = Annotated[
    bool,
    typer.Option(
        "--wide",
        envvar="LSN_WIDE",
        help="Every column, also in formats for people.",
        rich_help_panel=OUTPUT_PANEL,
    ),
]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        envvar="LSN_QUIET",
        help="No progress and no remarks, only rows and errors.",
        rich_help_panel=OUTPUT_PANEL,
    ),
]

COLUMN_PANEL = "Lists and tables"
PathColumn = Annotated[
    str,
    typer.Option(
        "--path-column",
        help="Column of image files in a list, or of images in a .parquet: its name, or its number from 1.",
        show_default="by content",
        metavar="COLUMN",
        rich_help_panel=COLUMN_PANEL,
    ),
]
LabelColumn = Annotated[
    str,
    typer.Option(
        "--label-column",
        help="Column of classes in a list or .parquet, or field of the .json files in a tar; 'none' leaves "
        "classes out.",
        show_default="the only one that may be it",
        metavar="COLUMN",
        rich_help_panel=COLUMN_PANEL,
    ),
]


def loading(quiet: bool) -> AbstractContextManager[None]:
    """Show on a terminal that a model is being loaded, for a block that imports or loads one."""
    return status("Loading the model ...", quiet=quiet)


def list_sources(
    paths: Sequence[Path],
    columns: "Columns",
    *,
    keep_order: bool = False,
    follow_links: bool = False,
    quiet: bool,
) -> "Listing":
    """List images, and print the columns that were used on stderr. Raises as ``list_images`` does."""
    from lsncli.images.listing import list_images

    listing = list_images(paths, keep_order=keep_order, follow_links=follow_links, columns=columns)
    say_notes(listing, quiet)
    return listing


def say_notes(listing: "Listing", quiet: bool) -> None:
    """Print the columns that a listing used on stderr."""
    for note in listing.notes:
        say(note, quiet=quiet)
