"""``lsn not``: test whether the model understands the word "not"."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lsncli.cli import options
from lsncli.cli.configured import ONLY_READ
from lsncli.cli.extract import model_for
from lsncli.cli.help_page import ADVANCED
from lsncli.cli.train_prompts import workspace_backbone
from lsncli.console import printable, progress_bar, remarks, say
from lsncli.errors import UsageError
from lsncli.methods.workspace import Workspace
from lsncli.report.formats import FORMATS, Column, render

if TYPE_CHECKING:
    from lsncli.backbones import Backbone
    from lsncli.evaluation.negation import ChoiceCounts, LabelledFeatures
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
    Column("path", "Path", wide=True, identifies=True),
    Column("class", "Class", identifies=True),
    Column("own", "Own class"),
    Column("cosine_yes", "Cosine yes", digits=4),
    Column("cosine_no", "Cosine no", digits=4),
    Column("choice", "Choice"),
]


@dataclass(frozen=True, kw_only=True)
class NegationOptions:
    """The options of `lsn not`."""

    sources: Annotated[
        list[Path] | None,
        typer.Argument(help="Images, folders, lists or tars; without any, the --split.", metavar="SOURCE"),
    ] = None
    split: Annotated[str, typer.Option(help="Stored split to test on.")] = "test"
    train: Annotated[str, typer.Option(help="Split whose classes are tested.", rich_help_panel=ADVANCED)] = (
        "train"
    )
    classes: Annotated[
        Path | None, ONLY_READ, typer.Option(help="Other class names: a text file, one a line.")
    ] = None
    yes: Annotated[str, typer.Option(help="The positive description; {} is the class.")] = "a photo of a {}"
    no: Annotated[str, typer.Option(help='The "not" description.')] = "not a photo of a {}"
    top: Annotated[int, typer.Option(min=1, help="Classes that the table shows.")] = 20
    each: Annotated[
        bool, typer.Option("--each", help="One row for each image and class instead, with both cosines.")
    ] = False
    plot: Annotated[
        Path | None, typer.Option(help="Also draw the counts: FILE.png or FILE.svg, numbers in FILE.csv.")
    ] = None
    model: Annotated[
        str | None,
        options.model_option("Model for SOURCE; see lsn models.", "the store's", envvar=None),
    ] = None
    pretrained: options.Pretrained = ""
    device: options.Device = "auto"
    path_column: options.PathColumn = ""
    label_column: options.LabelColumn = ""
    max_failure_rate: options.MaxFailureRate = 0.05
    batch_size: options.BatchSize = 0
    workers: options.Workers = 0
    timeout: options.Timeout = None
    image_timeout: options.ImageTimeout = None
    work: options.WorkFolder = options.DEFAULT_WORK
    format: options.Format = "table"
    output: options.Output = None
    quiet: options.Quiet = False


@options.command(NegationOptions)
def understands_not(arguments: NegationOptions) -> None:
    """Test whether the model understands "not a photo of a [class]".

    Examples:
        lsn not                                 # the split test
        lsn not ./photos --plot not.png

    Images choose between "a photo of a [class]" and "not a photo of a [class]", for every class.
    A model that understands "not" chooses the positive description for images of the class and "not" for
    all others (the paper's Figures 3, 4 and 8 to 12). "Fooled" is how often "not [own class]" scores above
    "not [other class]". Classes most often "not" come first; programs get all of them.
    """
    from lsncli.backbones import with_text
    from lsncli.evaluation import negation as use
    from lsncli.report import negation_plot
    from lsncli.report.plots import check_picture

    options.set_timeouts(arguments.timeout, arguments.image_timeout)
    if arguments.each and arguments.plot is not None:
        raise UsageError("--each and --plot: expected one of them, found both.")
    if arguments.plot is not None:
        check_picture(arguments.plot)
    if (arguments.path_column or arguments.label_column) and not arguments.sources:
        raise UsageError("--path-column and --label-column are for SOURCE, and none was named.")
    workspace = Workspace(arguments.work)
    quiet = arguments.quiet
    if arguments.model is not None and not arguments.sources:
        raise UsageError("--model is for SOURCE; a stored split is tested with the store's model.")
    with options.loading(quiet):
        if arguments.sources:
            backbone = model_for(workspace, arguments.model, arguments.pretrained, None, arguments.device)
        else:
            backbone = workspace_backbone(workspace, arguments.pretrained, arguments.device)
    failures: list[Failure] = []
    names, parts, total = _classes_and_images(workspace, backbone, arguments, failures)
    pair = use.encode_descriptions(with_text(backbone).text_tower(), names, arguments.yes, arguments.no)
    with progress_bar("images", total, quiet=quiet) as progress:

        def counted_parts() -> Iterator["LabelledFeatures"]:
            for part in use.blocks(parts, len(names)):
                yield part
                progress(len(part.labels))

        if arguments.each:
            render(use.choice_rows(pair, counted_parts()), EACH, arguments.format, arguments.output)
            _check_failures(failures, total, arguments.max_failure_rate, quiet)
            return
        counts = use.count_choices(pair, counted_parts())
    rows = class_rows(counts)
    people = FORMATS[arguments.format].people
    shown = list(islice(rows, arguments.top)) if people else rows
    title = "Images" if arguments.sources else f"Split {arguments.split}"
    title += f": {counts.images} images, {len(names)} classes"
    filled = [column for column in COLUMNS if not people or any(row[column.key] is not None for row in shown)]
    columns = filled if people else [*COLUMNS, *COUNTS, Column("margin", "")]
    render(shown, columns, arguments.format, arguments.output, title)
    say(summary(counts), quiet=quiet)
    if len(shown) < len(rows):
        say(f"{len(shown)} of {len(rows)} classes are shown (--top, or --format csv).", quiet=quiet)
    if arguments.plot is not None:
        for path in negation_plot.plot(arguments.plot, counts, arguments.yes, arguments.no):
            say(f"Wrote {path}", quiet=quiet)
    _check_failures(failures, total, arguments.max_failure_rate, quiet)


def _classes_and_images(
    workspace: Workspace, backbone: "Backbone", arguments: NegationOptions, failures: "list[Failure]"
) -> tuple[tuple[str, ...], "Iterator[LabelledFeatures]", int]:
    """Return the class names, the images in parts, and their number; failures are added to ``failures``."""
    from lsncli.backbones import text_ids_of
    from lsncli.evaluation import negation as use
    from lsncli.extraction.encoder import encode_stream
    from lsncli.images.class_names import check_distinct, classes_of
    from lsncli.images.columns import Columns
    from lsncli.images.listing import check_not_empty, named
    from lsncli.store.reader import read_split

    store, train, file = workspace.features, arguments.train, arguments.classes
    if not arguments.sources:
        split = read_split(store, arguments.split)
        names = use.choose_classes(store, train, file, split.classes)
        check_distinct(names, text_ids_of(backbone))
        return names, iter([use.labelled_features(split, names)]), len(split.labels)
    columns = Columns(arguments.path_column, arguments.label_column)
    listing = options.list_sources(arguments.sources, columns, quiet=arguments.quiet)
    check_not_empty(listing, named(arguments.sources))
    own = classes_of(listing, text_ids=text_ids_of(backbone), remark=remarks(arguments.quiet))
    names = use.choose_classes(store, train, file, own)
    check_distinct(names, text_ids_of(backbone))

    def encoded() -> "Iterator[LabelledFeatures]":
        failures.extend(listing.problems)
        stream = encode_stream(
            listing.items,
            backbone,
            batch_size=options.images_at_once(arguments.batch_size, arguments.device),
            workers=options.threads(arguments.workers),
        )
        for batch in stream:
            failures.extend(batch.failures)
            yield use.LabelledFeatures(batch.features, use.labels_among(batch.labels, own, names), batch.keys)

    return names, encoded(), len(listing.items) + len(listing.problems)


def _check_failures(failures: "list[Failure]", total: int, allowed: float, quiet: bool) -> None:
    """Print which images could not be used. Raises TooManyFailures (exit code 3) if they are too many."""
    from lsncli.extraction.extract import check_failures

    if not failures:
        return
    first = f"{printable(failures[0].key)}: {failures[0].reason}"
    say(f"{len(failures)} images could not be used, such as {first}.", quiet=quiet, style="yellow")
    check_failures(len(failures), total, allowed, hint="All others were tested.")


def class_rows(counts: "ChoiceCounts") -> list[dict[str, object]]:
    """Return a row for each class, most often "not" first; shares are fractions, None without images."""
    rows: list[dict[str, object]] = []
    for index in (-counts.no).argsort(kind="stable"):
        numbers = {
            key: int(getattr(counts, key)[index]) for key in ("yes", "no", *(column.key for column in COUNTS))
        }
        own = numbers["own_yes"] + numbers["own_no"]
        other = numbers["other_yes"] + numbers["other_no"]
        pairs = int(counts.pairs[index])
        rows.append(
            {
                "class": counts.classes[index],
                **numbers,
                "no_share": numbers["no"] / counts.images,
                "no_share_own": numbers["own_no"] / own if own else None,
                "no_share_other": numbers["other_no"] / other if other else None,
                "fooled": int(counts.fooled[index]) / pairs if pairs else None,
                "margin": float(counts.margin[index]),
            }
        )
    return rows


def summary(counts: "ChoiceCounts") -> str:
    """Return a sentence about all classes together, with the values of a model that understands "not"."""
    from lsncli.evaluation.negation import total_shares

    total = total_shares(counts)
    text = (
        f'All {len(counts.classes)} classes: "not" is chosen in {total.no:.1%} of '
        f"{counts.images * len(counts.classes)} choices"
    )
    if total.no_of_other == total.no_of_other:
        text += f'; images of other classes choose it in {total.no_of_other:.1%} (understanding "not": 100%)'
    if total.no_of_own == total.no_of_own:
        text += f", images of the class itself in {total.no_of_own:.1%} (0%)"
    if total.fooled == total.fooled:
        text += f'. "Not [own class]" scores above "not [other class]" in {total.fooled:.1%} of pairs (0%)'
    return text + "."
