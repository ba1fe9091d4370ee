"""``lsn score``: which of these images does not belong?"""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lsncli.artefacts import check_detector_exists
from lsncli.cli import options, sorting
from lsncli.cli.describe_detector import briefly
from lsncli.cli.score_inputs import ModelOptions, check_model, check_rate, detector_for
from lsncli.console import ProgressCallback, progress_bar, say
from lsncli.errors import OodFound, UsageError
from lsncli.methods.workspace import Workspace
from lsncli.report.formats import FORMATS, Column, render
from lsncli.report.text_table import show_aside

if TYPE_CHECKING:
    from lsncli.artefacts.detector import SavedDetector
    from lsncli.backbones import Backbone
    from lsncli.detection.detect import ItemVerdict, Verdict, VerdictCounts
    from lsncli.detection.drift import Drift
    from lsncli.detection.rates import FalseAlarms
    from lsncli.images.item import ImageItem, Listing

COLUMNS = [
    Column("path", "Path", wide=True),
    Column("predicted", "Predicted", wide=True),
    Column("score", "Score", digits=6),
    Column("p_value", "Percentile", digits=1, percent=True, optional=True),
    Column("positive", "Positive", digits=6, detail=True),
    Column("negative", "Negative", digits=6, detail=True),
    Column("threshold", "Threshold", digits=6, detail=True),
    Column(
        "is_ood",
        "Verdict",
        flag=True,
        words={True: "OOD", False: "ID"},
        styles={True: "bold red", False: "green"},
    ),
    Column("error", "Unreadable because", wide=True, optional=True),
]
TARGET = Column("target", "Goes to", wide=True)
RULE = Column("rule", "Rule", detail=True)
"""The option that decided, where the detector's own threshold did not."""
BY_CLASS = [
    Column("class", "Predicted", wide=True),
    Column("id", "ID", digits=0),
    Column("ood", "OOD", digits=0),
]
KINDS = ("ood", "id", "failed")


def check_kinds(given: list[str] | None) -> list[str] | None:
    """``--only``. Raises UsageError for what is no kind."""
    for kind in given or ():
        if kind not in KINDS:
            raise UsageError(f"--only: expected {', '.join(KINDS[:-1])} or {KINDS[-1]}, found '{kind}'.")
    return given


SUMMARY_FROM = 20
"""Images from which on the classes are counted, too; fewer are seen at a glance."""
SHOWN = 20
"""Most rows of a table for the terminal, unless asked for more."""


def score(
    context: typer.Context,
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Images, folders, patterns, lists, tars, .parquet, URLs; - is a list on stdin.",
            metavar="PATH",
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Score a split of the store instead; no image is read.", metavar="NAME")
    ] = None,
    classes: options.ClassNames = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="Show only these; repeatable.",
            metavar="ood|id|failed",
            callback=check_kinds,
            autocompletion=lambda: list(KINDS),
        ),
    ] = None,
    sort: Annotated[
        Literal["score", "path"] | None,
        typer.Option(help="Lowest score first, or by path.", show_default="tables: score, else as named"),
    ] = None,
    top: Annotated[
        int | None, typer.Option(min=1, help="Show the first N rows, by score without --sort.")
    ] = None,
    all: Annotated[
        bool, typer.Option("--all", help=f"Also in a table, which has the {SHOWN} lowest scores without.")
    ] = False,
    false_alarms: options.FalseAlarms = None,
    target_tpr: options.OtherTpr = None,
    fail_on_ood: Annotated[
        bool, typer.Option("--fail-on-ood", help="Exit with 6 if any image is OOD, shown or not.")
    ] = False,
    move: sorting.Move = None,
    copy: sorting.Copy = None,
    link: sorting.Link = None,
    yes: sorting.Yes = False,
    batch_size: options.BatchSize = 0,
    workers: options.Workers = 0,
    max_failure_rate: options.MaxFailureRate = 0.05,
    path_column: options.PathColumn = "",
    follow_links: options.FollowLinks = False,
    timeout: options.Timeout = None,
    image_timeout: options.ImageTimeout = None,
    work: options.WorkFolder = options.DEFAULT_WORK,
    model: options.ClassNamesModel = None,
    words: options.WordList = "auto",
    pretrained: options.Pretrained = "",
    device: options.Device = "auto",
    format: options.Format = "table",
    output: options.Output = None,
    wide: options.Wide = False,
    quiet: options.Quiet = False,
) -> None:
    """Find the images that do not belong: verdict, class and score of each.

    Examples:
        lsn score ./new
        lsn score ./new --only ood --format csv > ood.csv
        lsn score ./new --classes "cat,dog,truck"  # no training, only names
        lsn score ./new --only ood --move ./sorted # a dry run; --yes does it

    An image is OOD if its score is below the threshold. Its percentile says where the score stands among
    those of held-out ID images. A table shows the lowest scores; csv and json hold every image. The images
    that --only and --top choose can be sorted into folders, after a dry run; `lsn undo` takes that back.
    With --false-alarms the verdict on an image depends on all others, so that no row is written before the
    last image is scored.
    """
    options.set_timeouts(timeout, image_timeout)
    if (split is None) == (not paths):
        raise UsageError(
            "lsn score wants images, or --split NAME: one of the two.", "Such as lsn score ./images"
        )
    if split is not None and path_column:
        raise UsageError("--path-column is for a list of images, and --split reads none.", "Leave one out.")
    asked = sorting.chosen(move, copy, link, yes)
    if asked and split is not None:
        raise UsageError(
            f"--{asked[0]} needs image files, and a split has none.", "Score the images themselves."
        )
    if all and top:
        raise UsageError("--all and --top: expected one of them, found both.")
    check_model(context, classes)
    check_rate(target_tpr, false_alarms, classes)
    place, settings = Workspace(work), ModelOptions(model, pretrained, device)
    if classes is None:
        check_detector_exists(place.detector)
    listing = None
    if split is None:  # an empty folder is said before a model is loaded
        listing = list_to_score(paths or [], path_column, follow_links, quiet)
    with options.loading(quiet):
        from lsncli.detection.detect import VerdictCounts, select
        from lsncli.detection.rates import FalseAlarms, retargeted
        from lsncli.detection.sorting import Filing
        from lsncli.extraction.extract import check_failures
    detector, backbone = detector_for(place, classes, settings, words, quiet)
    columns, rule = list(COLUMNS), ""
    if target_tpr is not None:
        detector, rule = retargeted(detector, target_tpr), f"target-tpr {target_tpr:g}"
    alarms = None
    if false_alarms is not None:
        alarms, rule = FalseAlarms(detector, false_alarms), f"false-alarms {false_alarms:g}"
    if rule:
        columns.append(RULE)
    todo = (
        split_to_score(place, split or "", detector, settings)
        if listing is None
        else images_to_score(
            listing,
            detector,
            backbone,
            settings,
            batch_size=batch_size,
            workers=workers,
            remember=asked is not None,
            quiet=quiet,
        )
    )
    plan = Filing(*asked, detector.head.classes) if asked else None
    if plan:
        columns.append(TARGET)
    tally = VerdictCounts()
    selected = 0

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal selected
        with progress_bar("images", todo.total, quiet=quiet) as progress:
            verdicts = todo.verdicts(progress)
            if alarms:
                verdicts = alarms.flag(verdicts)
            counted = tally.counting(verdicts)
            for verdict, item in select(counted, only or KINDS, sort or ("score" if top else None), top):
                selected += 1
                row = vars(verdict) | ({"rule": rule} if verdict.error is None else {})
                if plan and item and verdict.error is None:
                    row["target"] = plan.place(item, row["predicted"], row["is_ood"])
                yield row

    shortened = FORMATS[format].narrow and not (all or top)
    shown = lowest_rows(rows(), by_path=sort == "path") if shortened else rows()
    render(shown, columns, format, output, wide=wide)
    remarks = []
    if detector.held_out is not None and FORMATS[format].people:
        remarks.append(percentile_in_words(detector))
    if shortened and selected > SHOWN:
        remarks.append(f"Shown: the {SHOWN} lowest scores of {selected}. --all shows every row.")
    _summarise(tally, detector, alarms, remarks, quiet)
    for text in todo.drift.warnings(rate=bool(rule)):
        say(f"Warning: {text}", quiet=quiet, style="yellow")
    if todo.skipped:
        say(todo.skipped, quiet=quiet)
    failed, total = tally.kinds["failed"], tally.total
    hint = "All others were scored." + (" None was touched." if plan else "")
    check_failures(failed, total, max_failure_rate, hint=hint)
    if plan:
        sorting.file_images(plan, yes, quiet)
    if fail_on_ood and tally.kinds["ood"]:
        raise OodFound(f"{tally.kinds['ood']} of {sorting.images(total)} are OOD (--fail-on-ood).")


def lowest_rows(rows: Iterable[dict[str, Any]], *, by_path: bool) -> Iterator[dict[str, Any]]:
    """Yield the rows of the ``SHOWN`` lowest scores, lowest first or ``by_path``; those without come last."""
    lowest = heapq.nsmallest(SHOWN, rows, key=lambda row: (row["score"] is None, row["score"] or 0.0))
    yield from sorted(lowest, key=lambda row: row["path"]) if by_path else lowest


def percentile_in_words(detector: "SavedDetector") -> str:
    """Say what the column means."""
    which = f"{detector.threshold.n} held-out ID images"
    if detector.class_thresholds is not None:
        which = "held-out ID images of the predicted class"
    return (
        f"Percentile: place of the score among those of {which}; of new ID images, 5 % are expected below 5."
    )


@dataclass(frozen=True)
class ScoreInput:
    """What there is to score: batches as ``detection.detect`` gives them, and the images they are about."""

    total: int
    batches: "Iterator[tuple[int, Sequence[Verdict]]]"
    drift: "Drift"
    items: "Sequence[ImageItem]" = ()
    skipped: str = ""

    def verdicts(self, progress: ProgressCallback) -> "Iterator[ItemVerdict]":
        """Yield the verdict on every image in order, by the threshold of the detector."""
        start = 0
        for done, batch in self.batches:
            self.drift.count(batch)
            items: Sequence[ImageItem | None] = self.items[start : start + done] or [None] * len(batch)
            yield from zip(batch, items, strict=True)
            start += done
            progress(done)


def list_to_score(paths: Sequence[Path], path_column: str, follow_links: bool, quiet: bool) -> "Listing":
    """List images in the order they were named. Raises as ``list_images``, and LsnError if there are none."""
    from lsncli.images.columns import Columns
    from lsncli.images.listing import check_not_empty, named

    columns = Columns(path_column, labelled=False)
    listing = options.list_sources(paths, columns, keep_order=True, follow_links=follow_links, quiet=quiet)
    check_not_empty(listing, named(paths))
    return listing


def images_to_score(
    listing: "Listing",
    detector: "SavedDetector",
    backbone: "Backbone | None",
    model: ModelOptions,
    *,
    batch_size: int,
    workers: int,
    remember: bool = False,
    quiet: bool = False,
) -> ScoreInput:
    """The listed images; ``remember`` what was read, to file them."""
    from lsncli.backbones import load_again
    from lsncli.detection.detect import detect
    from lsncli.detection.drift import Drift
    from lsncli.device import pick_device
    from lsncli.images.file_identity import with_digests

    if backbone is None:
        with options.loading(quiet):
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


def _summarise(
    tally: "VerdictCounts",
    detector: "SavedDetector",
    alarms: "FalseAlarms | None",
    remarks: Sequence[str],
    quiet: bool,
) -> None:
    """Counts, what the verdicts rest on, and remarks on the table, on stderr."""
    kinds, detector = tally.kinds, briefly(detector)
    if not quiet and tally.total >= SUMMARY_FROM:
        show_aside(tally.by_class(), BY_CLASS)
    basis = f"{detector.scoring}; {alarms.rule}" if alarms else detector.basis
    say(
        f"{sorting.images(tally.total)}: {kinds['id']} ID, {kinds['ood']} OOD, {kinds['failed']} unreadable "
        f"({basis}).",
        quiet=quiet,
    )
    for remark in remarks:
        say(remark, quiet=quiet)
    doubt = alarms.doubt if alarms else detector.doubt
    if doubt:
        what = "Calibrate on" if alarms else "Set it on"
        more = "more " if detector.threshold.calibrated else ""
        say(
            f"Warning: {doubt} {what} {more}ID images of your own: lsn calibrate ./good-images",
            quiet=quiet,
            style="yellow",
        )
