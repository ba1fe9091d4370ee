"""``lsn not``: can the model understand the word "not"?"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lsncli.cli import options
from lsncli.cli.configured import ONLY_READ
from lsncli.cli.extract import model_for
from lsncli.cli.train_prompts import workspace_backbone
from lsncli.console import printable, progress_bar, remarks, say
from lsncli.errors import UsageError
from lsncli.methods.workspace import Workspace
from lsncli.report.formats import FORMATS, Column, render

if TYPE_CHECKING:
    from lsncli.backbones import Backbone
    from lsncli.evaluation.negation import ChoiceCounts, LabelledFeatures
    from lsncli.images.columns import Columns
    from lsncli.types import Failure

COLUMNS = [
    Column("class", "Class", wide=True),
    Column("yes", '"a photo"', digits=0),
    Column("no", '"not"', digits=0),
    Column("no_share", '"not" %', digits=1, percent=True),
    Column("no_share_own", "of own %↓", digits=1, percent=True),
    Column("no_share_other", "of other %↑", digits=1, percent=True),
    Column("fooled", "fooled %↓", digits=1, percent=True),
]
COUNTS = [Column(key, key) for key in ("own_yes", "own_no", "other_yes", "other_no")]
EACH = [
    Column("path", "Path", wide=True),
    Column("class", "Class"),
    Column("own", "Own class"),
    Column("cosine_yes", "Cosine yes", digits=4),
    Column("cosine_no", "Cosine no", digits=4),
    Column("choice", "Choice"),
]


def understands_not(
    sources: Annotated[
        list[Path] | None,
        typer.Argument(help="Images, folders, lists or tars; the --split if left out.", metavar="SOURCE"),
    ] = None,
    split: Annotated[str, typer.Option(help="Stored split to ask about.")] = "test",
    train: Annotated[str, typer.Option(help="Split whose classes are asked about.")] = "train",
    classes: Annotated[
        Path | None, ONLY_READ, typer.Option(help="Other class names: a text file, one a line.")
    ] = None,
    yes: Annotated[str, typer.Option(help="The positive description; {} is the class.")] = "a photo of a {}",
    no: Annotated[str, typer.Option(help='The "not" description.')] = "not a photo of a {}",
    top: Annotated[int, typer.Option(min=1, help="Classes that the table shows.")] = 20,
    each: Annotated[
        bool, typer.Option("--each", help="One row an image and class instead: both cosines.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Also draw the counts: FILE.png or FILE.svg, numbers in FILE.csv.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Model for SOURCE; see `lsn models`. The store's if left out.",
            rich_help_panel=options.MODEL_PANEL,
        ),
    ] = None,
    pretrained: options.Pretrained = "",
    device: options.Device = "auto",
    path_column: options.PathColumn = "",
    label_column: options.LabelColumn = "",
    max_failure_rate: options.MaxFailureRate = 0.05,
    batch_size: options.BatchSize = 0,
    workers: options.Workers = 0,
    timeout: options.Timeout = None,
    image_timeout: options.ImageTimeout = None,
    work: options.WorkFolder = options.DEFAULT_WORK,
    format: options.Format = "table",
    output: options.Output = None,
    quiet: options.Quiet = False,
) -> None:
    """Let images choose between "a photo of a [class]" and "not a photo of a [class]", for every class.

    A model that understands "not" chooses the positive description for images of the class and "not" for
    all others (the paper's Figures 3, 4 and 8 to 12). "Fooled" is how often "not [own class]" scores above
    "not [other class]". Classes most often "not" come first; programs get all of them.
    """
    from lsncli.backbones import with_text
    from lsncli.evaluation import negation as use
    from lsncli.images.columns import Columns
    from lsncli.report import negation_plot

    options.set_timeouts(timeout, image_timeout)
    if each and plot is not None:
        raise UsageError("--each and --plot: expected one of them, found both.")
    if plot is not None:
        negation_plot.check_target(plot)
    if (path_column or label_column) and not sources:
        raise UsageError("--path-column and --label-column are for SOURCE, and none was named.")
    place = Workspace(work)
    if sources:
        backbone = model_for(place, model, pretrained, None, device)
    elif model is not None:
        raise UsageError("--model is for SOURCE; a stored split is asked about with the store's model.")
    else:
        backbone = workspace_backbone(place, pretrained, device)
    failed: list[Failure] = []
    columns = Columns(path_column, label_column)
    names, parts, total = _asked(
        place,
        backbone,
        sources or [],
        columns,
        split,
        train,
        classes,
        batch_size,
        workers,
        device,
        failed,
        quiet,
    )
    pair = use.encode_descriptions(with_text(backbone).text_tower(), names, yes, no)
    with progress_bar("images", total, quiet=quiet) as progress:

        def ticking() -> Iterator["LabelledFeatures"]:
            for part in use.blocks(parts, len(names)):
                yield part
                progress(len(part.labels))

        if each:
            render(use.choice_rows(pair, ticking()), EACH, format, output)
            _tell(failed, total, max_failure_rate, quiet)
            return
        found = use.count_choices(pair, ticking())
    rows = class_rows(found)
    people = FORMATS[format].people
    shown = list(islice(rows, top)) if people else rows
    title = f"{'Images' if sources else f'Split {split}'}: {found.images} images, {len(names)} classes"
    filled = [one for one in COLUMNS if not people or any(row[one.key] is not None for row in shown)]
    render(shown, filled if people else [*COLUMNS, *COUNTS, Column("margin", "")], format, output, title)
    say(summary(found), quiet=quiet)
    if len(shown) < len(rows):
        say(f"{len(shown)} of {len(rows)} classes are shown (--top, or --format csv).", quiet=quiet)
    if plot is not None:
        for path in negation_plot.plot(plot, found, yes, no):
            say(f"Wrote {path}", quiet=quiet)
    _tell(failed, total, max_failure_rate, quiet)


def _asked(
    place: Workspace,
    backbone: "Backbone",
    sources: list[Path],
    columns: "Columns",
    split: str,
    train: str,
    file: Path | None,
    batch_size: int,
    workers: int,
    device: str,
    failed: "list[Failure]",
    quiet: bool,
) -> tuple[tuple[str, ...], "Iterator[LabelledFeatures]", int]:
    """Class names, the images in parts, and how many there are; those that fail are added to ``failed``."""
    from lsncli.backbones import text_ids_of
    from lsncli.evaluation import negation as use
    from lsncli.extraction.encoder import encode_stream
    from lsncli.images.class_names import check_distinct, classes_of
    from lsncli.images.listing import check_not_empty, named
    from lsncli.store.reader import read_split

    if not sources:
        stored = read_split(place.features, split)
        names = use.choose_classes(place.features, train, file, stored.classes)
        check_distinct(names, text_ids_of(backbone))
        return names, iter([use.labelled_features(stored, names)]), len(stored.labels)
    listing = options.list_sources(sources, columns, quiet=quiet)
    check_not_empty(listing, named(sources))
    own = classes_of(listing, text_ids=text_ids_of(backbone), remark=remarks(quiet))
    names = use.choose_classes(place.features, train, file, own)
    check_distinct(names, text_ids_of(backbone))

    def encoded() -> "Iterator[LabelledFeatures]":
        failed.extend(listing.problems)
        stream = encode_stream(
            listing.items,
            backbone,
            batch_size=options.images_at_once(batch_size, device),
            workers=options.threads(workers),
        )
        for batch in stream:
            failed.extend(batch.failures)
            yield use.LabelledFeatures(batch.features, use.labels_among(batch.labels, own, names), batch.keys)

    return names, encoded(), len(listing.items) + len(listing.problems)


def _tell(failed: "list[Failure]", total: int, allowed: float, quiet: bool) -> None:
    """Say which images could not be used. Raises TooManyFailures (exit code 3) if they are too many."""
    from lsncli.extraction.extract import check_failures

    if not failed:
        return
    first = f"{printable(failed[0].key)}: {failed[0].reason}"
    say(f"{len(failed)} images could not be used, such as {first}.", quiet=quiet, style="yellow")
    check_failures(len(failed), total, allowed, hint="All others were asked.")


def class_rows(found: "ChoiceCounts") -> list[dict[str, object]]:
    """A row a class, those whose "not" is chosen most often first; fractions, None if of no image."""
    rows: list[dict[str, object]] = []
    for at in (-found.no).argsort(kind="stable"):
        counts = {key: int(getattr(found, key)[at]) for key in ("yes", "no", *(one.key for one in COUNTS))}
        own, other = counts["own_yes"] + counts["own_no"], counts["other_yes"] + counts["other_no"]
        pairs = int(found.pairs[at])
        rows.append(
            {
                "class": found.classes[at],
                **counts,
                "no_share": counts["no"] / found.images,
                "no_share_own": counts["own_no"] / own if own else None,
                "no_share_other": counts["other_no"] / other if other else None,
                "fooled": int(found.fooled[at]) / pairs if pairs else None,
                "margin": float(found.margin[at]),
            }
        )
    return rows


def summary(found: "ChoiceCounts") -> str:
    """All classes together, in one line, with what understanding would be."""
    from lsncli.evaluation.negation import total_shares

    total = total_shares(found)
    text = (
        f'All {len(found.classes)} classes: "not" is chosen in {total.no:.1%} of '
        f"{found.images * len(found.classes)} choices"
    )
    if total.no_of_other == total.no_of_other:
        text += f'; images of other classes choose it in {total.no_of_other:.1%} (understanding "not": 100%)'
    if total.no_of_own == total.no_of_own:
        text += f", images of the class itself in {total.no_of_own:.1%} (0%)"
    if total.fooled == total.fooled:
        text += f'. "Not [own class]" scores above "not [other class]" in {total.fooled:.1%} of pairs (0%)'
    return text + "."
