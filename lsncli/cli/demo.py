"""``lsn demo``: the whole program on bundled data, offline, in about half a minute."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lsncli.cli import options
from lsncli.cli.describe_detector import describe_threshold
from lsncli.cli.evaluate import conclusion
from lsncli.cli.report import write_page
from lsncli.cli.score import COLUMNS
from lsncli.cli.select import compare as choose
from lsncli.console import progress_bar, remarks, say
from lsncli.report.formats import Column, render

if TYPE_CHECKING:
    from lsncli.artefacts.detector import SavedDetector
    from lsncli.evaluation.demo import Demo
    from lsncli.evaluation.evaluate import Evaluation

WORK = Path("lsn-demo")
INTRODUCTION = (
    "This shows lsn's whole path on real photos. It does not show the numbers of CLIP or of the paper: the "
    "bundled model is far smaller, and the ten classes below are easy to tell apart."
)
NEXT = """\
Now with your own images and any CLIP model (lsn models):
  lsn score ./images --classes "cat,dog,truck"
or, with one folder of known images for each class:
  lsn extract ./photos; lsn train-pos; lsn train-neg; lsn score ./images"""


def demo(
    work: Annotated[
        Path, typer.Option("--work", help="Folder of the demo; the page gets its name and .html.")
    ] = WORK,
    quiet: options.Quiet = False,
) -> None:
    """Show the whole path in half a minute, offline, and write a report page.

    Examples:
        lsn demo
        lsn eval --work lsn-demo --method all   # afterwards, every method
    """
    from lsncli.evaluation import demo as use

    began = time.monotonic()
    say(INTRODUCTION, quiet=quiet)
    demo = use.prepare_demo(work)
    say(
        f"\n1. Nothing but class names: {', '.join(use.NAMES)}. Which of these photos do not belong?",
        quiet=quiet,
    )
    with progress_bar("photos", len(use.sample_photos()), quiet=quiet) as progress:
        by_names, verdicts = use.score_photos(demo, progress)
    render((vars(verdict) for verdict in verdicts), COLUMNS, "table")
    for package in use.missing_packages():
        say(f"(more photos with: pip install {package})", quiet=quiet)
    say(
        "2. Labelled images: learn what each class is (CoOp), then what it is not (LSN). The bundled "
        "features stand for the images.",
        quiet=quiet,
    )
    render(use.split_rows(demo), CONTENTS, "table")
    for kind in ("positive", "negative"):
        with progress_bar(f"{kind} prompts", use.learning_steps(demo, kind), quiet=quiet) as progress:
            detector = use.learn(demo, kind, progress, remarks(quiet))
    describe_threshold(detector, quiet)
    say(
        "\n3. Which method tells ID from OOD best? FPR95 on each OOD split, then both averages, in percent",
        quiet=quiet,
    )
    chosen = choose(demo.work, prompts=False, device="cpu", quiet=quiet).choice.method
    titles = use.METHODS | {chosen: f"{chosen}, chosen by lsn select"}
    evaluation = use.compare(demo, tuple(titles))
    render(comparison(evaluation, titles), comparison_columns(evaluation), "table")
    say(f"`lsn select` chose {chosen} from the training images alone, without these OOD images.", quiet=quiet)
    say(conclusion(evaluation, detector, work), quiet=quiet)
    page = work.with_name(f"{work.name}.html")
    _write_page(demo, by_names, page)
    say(
        f"\n4. The photos of part 1 as a page with pictures: open {page} in a browser. The workspace is "
        f"{work}: lsn eval --work {work} compares more methods.",
        quiet=quiet,
    )
    say(f"\nDone in {time.monotonic() - began:.0f} s. {NEXT}", quiet=quiet)


CONTENTS = [
    Column("split", "Split"),
    Column("rows", "Rows", digits=0),
    Column("source", "What it is", wide=True),
]


def comparison_columns(evaluation: "Evaluation") -> list[Column]:
    """Return the columns of ``comparison``: FPR95 on each OOD split, and both averages."""
    from lsncli.evaluation.evaluate import AVERAGE

    splits = dict.fromkeys(result.ood for result in evaluation.results if result.ood != AVERAGE)
    return [
        Column("method", "Method"),
        *(Column(name, name, digits=1, percent=True) for name in splits),
        Column(AVERAGE, "FPR95↓", digits=1, percent=True),
        Column("auroc", "AUROC↑", digits=1, percent=True),
    ]


def comparison(evaluation: "Evaluation", titles: dict[str, str]) -> list[dict[str, Any]]:
    """Return one row for each method, in fractions; see ``comparison_columns``."""
    from lsncli.evaluation.evaluate import AVERAGE

    rows: dict[str, dict[str, Any]] = {name: {"method": title} for name, title in titles.items()}
    for result in evaluation.results:
        row = rows[str(result.method)]
        row[result.ood] = result.metrics.fpr95
        if result.ood == AVERAGE:
            row["auroc"] = result.metrics.auroc
    return list(rows.values())


def _write_page(demo: "Demo", detector: "SavedDetector", page: Path) -> None:
    """Write the report page of the sample photos with a detector."""
    from lsncli.detection.scored_sets import Scorer
    from lsncli.evaluation.demo import sample_photos
    from lsncli.report.contents import make_report, want_images

    scorer = Scorer(detector, lambda: demo.backbone, workers=2)
    write_page(page, make_report([want_images("photos", "input", sample_photos())], demo.work, scorer))
