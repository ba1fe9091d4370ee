"""``lsn report``: one HTML page with the verdicts of a detector on many images."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lsncli.cli import options
from lsncli.cli.evaluate import folders_of
from lsncli.cli.help_page import ADVANCED
from lsncli.cli.score_inputs import ModelOptions, check_model, check_rate, detector_for
from lsncli.console import progress_bar, say
from lsncli.errors import LsnError, UsageError
from lsncli.files import check_writable, open_atomic
from lsncli.methods.workspace import Workspace

if TYPE_CHECKING:
    from lsncli.backbones import Backbone
    from lsncli.detection.scored_sets import Kind
    from lsncli.images.columns import Columns
    from lsncli.report.contents import Report, SetRequest

PAGE = Path("lsn-report.html")


def report(
    context: typer.Context,
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Images, folders, lists or tars; without any, the store's splits.", metavar="PATH"
        ),
    ] = None,
    id: Annotated[
        str | None,
        typer.Option(
            "--id",
            help="Images known to be ID: a split, or NAME=PATH.",
            show_default="test; with PATH none",
        ),
    ] = None,
    ood: Annotated[
        list[str] | None,
        typer.Option(
            "--ood",
            help="Images known to be OOD, repeatable: a split, or NAME=PATH.",
            show_default="every other split; with PATH none",
        ),
    ] = None,
    images: Annotated[
        list[str] | None,
        typer.Option(
            help="SPLIT=FOLDER, repeatable: where a split's images are, if they have moved.",
            rich_help_panel=ADVANCED,
        ),
    ] = None,
    classes: options.ClassNames = None,
    false_alarms: options.FalseAlarms = None,
    target_tpr: options.OtherTpr = None,
    train: Annotated[
        str | None,
        typer.Option(
            help="Split whose held-out rows set the threshold.",
            show_default="train, if there is one",
            rich_help_panel=ADVANCED,
        ),
    ] = None,
    pictures: Annotated[int, typer.Option(min=0, help="At most so many pictures are put in.")] = 480,
    explain: Annotated[
        int, typer.Option(min=0, help="Add heat maps of where prompts look to so many of the pictures.")
    ] = 0,
    output: Annotated[
        Path, typer.Option("--output", help="The page.", rich_help_panel=options.OUTPUT_PANEL)
    ] = PAGE,
    batch_size: options.BatchSize = 0,
    workers: options.Workers = 0,
    path_column: options.PathColumn = "",
    label_column: options.LabelColumn = "",
    max_failure_rate: options.MaxFailureRate = 0.05,
    timeout: options.Timeout = None,
    image_timeout: options.ImageTimeout = None,
    work: options.WorkFolder = options.DEFAULT_WORK,
    model: options.ClassNamesModel = None,
    words: options.WordList = "auto",
    pretrained: options.Pretrained = "",
    device: options.Device = "auto",
    quiet: options.Quiet = False,
) -> None:
    """Write an HTML page: which images do not belong, and what a threshold does.

    Examples:
        lsn report                              # the splits of the workspace
        lsn report ./new --output new.html
        lsn report ./new --ood known=./foreign --explain 12

    The page needs no network and no other file; pictures of the lowest, the borderline and the highest scores
    and of every class are in it. With images known to be ID or OOD it shows ROC curves.
    """
    from lsncli.backbones import load_again
    from lsncli.detection.rates import FalseAlarms, retargeted
    from lsncli.detection.scored_sets import Scorer
    from lsncli.device import pick_device
    from lsncli.evaluation.evaluate import TRAIN
    from lsncli.extraction.extract import check_failures
    from lsncli.images.columns import Columns
    from lsncli.images.item import Listing
    from lsncli.report.contents import make_report
    from lsncli.store.reader import read_split

    options.set_timeouts(timeout, image_timeout)
    check_rate(target_tpr, false_alarms, classes)
    if false_alarms is not None and not paths:
        raise UsageError(
            "--false-alarms is about images of unknown truth, and none were named.",
            "Name them: lsn report ./new --false-alarms 0.05",
        )
    with page_errors(output, "--output"):
        check_writable(output)
    workspace = Workspace(work)
    if train is not None:
        read_split(workspace.features, train)  # a named split must exist
    check_model(context, classes)
    settings = ModelOptions(model, pretrained, device)
    detector, backbone = detector_for(workspace, classes, settings, words, quiet)
    if target_tpr is not None:
        detector = retargeted(detector, target_tpr)
    alarms = None if false_alarms is None else FalseAlarms(detector, false_alarms)
    columns = Columns(path_column, label_column)
    requests = _set_requests(workspace, paths or [], id, ood or [], images or [], train, columns)
    for request in requests:
        if isinstance(request.images, Listing):
            options.say_notes(request.images, quiet)

    @cache
    def load() -> "Backbone":
        made_by = detector.fingerprint
        with options.loading(quiet):
            return backbone or load_again(made_by, pretrained=pretrained, device=device, what="prompts")

    scorer = Scorer(
        detector,
        load,
        str(pick_device(device)),
        options.images_at_once(batch_size, device),
        options.threads(workers),
    )
    with progress_bar("images", sum(map(len, requests)), quiet=quiet) as progress:
        result = make_report(
            requests,
            workspace,
            scorer,
            train=train or TRAIN,
            pictures=pictures,
            explained=explain,
            alarms=alarms,
            rate=target_tpr is not None or alarms is not None,
            progress=progress,
        )
    size = write_page(output, result)
    scored = sum(len(scored_set.judged) for scored_set in result.sets)
    shown = sum(map(len, result.pictures))
    say(
        f"Wrote {output}: {scored} image{'' if scored == 1 else 's'} scored, {result.failed} unreadable, "
        f"{shown} with a picture ({size / 1e6:.1f} MB). Open it in a browser.",
        quiet=quiet,
    )
    check_failures(
        result.failed,
        scored + result.failed,
        max_failure_rate,
        hint="The page lists them, and shows all others.",
    )


def _set_requests(
    workspace: Workspace,
    paths: list[Path],
    id: str | None,
    ood: Sequence[str],
    images: Sequence[str],
    train: str | None,
    columns: "Columns",
) -> list["SetRequest"]:
    """Return the requested sets, images of unknown truth first. Raises as listing and reading do."""
    from lsncli.evaluation.evaluate import choose_splits
    from lsncli.report.contents import want_images, want_split

    folders = folders_of(images)
    sets = [want_images("images", "input", paths, columns)] if paths else []
    names: list[tuple[Kind, str]] = [("id", id)] if id else []
    names += [("ood", text) for text in ood]
    if not paths and not ood and "=" not in (id or ""):
        inside, outside = choose_splits(workspace, id or "test", (), train)
        names = [("id", inside.name), *(("ood", split.name) for split in outside)]
    for kind, text in names:
        name, equals, folder = text.partition("=")
        if equals and not (name and folder):
            raise UsageError(f"--{kind}: expected a split or NAME=PATH, found '{text}'.")
        if equals:
            sets.append(want_images(name, kind, [Path(folder)], columns))
        else:
            sets.append(want_split(workspace, name, kind, folders.pop(name, None)))
    if folders:
        raise UsageError(f"--images names '{next(iter(folders))}', which is no split of this report.")
    return sets


def write_page(path: Path, report: "Report") -> int:
    """Write a report as a page, atomically, and return its size in bytes. Raises LsnError."""
    from lsncli.report.page.build import build_page
    from lsncli.report.page.data import page_data

    data = build_page(page_data(report)).encode("utf-8")
    with page_errors(path, "--output"), open_atomic(path) as file:
        file.write(data)
    return len(data)


@contextmanager
def page_errors(path: Path, option: str) -> Iterator[None]:
    """Raise an OSError of writing a page as an LsnError that names the ``option``."""
    try:
        yield
    except OSError as error:
        raise LsnError(
            f"{option} {path} cannot be written: {error.strerror}.", "Name another file."
        ) from error
