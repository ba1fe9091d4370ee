"""``lsn demo``: the whole program on bundled data, offline, in about a minute."""

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsncli.cli import options
from lsncli.cli.describe_detector import describe_threshold
from lsncli.cli.score import columns_for
from lsncli.console import progress_bar, say
from lsncli.report.formats import Column, render

if TYPE_CHECKING:
    from lsncli.evaluation.evaluate import Evaluation
    from lsncli.metrics import OodMetrics

NEXT = """\
Now with your own images (one folder per class) and any CLIP model:
  lsn extract ./photos --model mini      # or --model ViT-B-16-quickgelu:openai
  lsn train-pos && lsn train-neg
  lsn score ./images --only ood"""


def demo(quiet: options.Quiet = False) -> None:
    """Learn prompts, compare methods and score real photos, offline.

    Examples:
        lsn demo
    """
    from lsncli.evaluation import demo as use
    from lsncli.training.prompts import plan_positive

    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lsn-demo-") as folder:
        say(
            "1. Features of real images, made with the bundled mini model (see MODEL_CARD.md)",
            quiet=quiet,
        )
        demo = use.prepare_demo(Path(folder))
        render(use.split_rows(demo), CONTENTS, "table")
        say("2. Learn what each class is (CoOp), then what it is not (LSN)", quiet=quiet)
        say(f"   {use.REDUCED}", quiet=quiet)
        plan = plan_positive(demo.work)
        positive_steps, negative_steps = use.steps(plan)
        with progress_bar("positive prompts", positive_steps, quiet=quiet) as progress:
            use.train_positive(demo, plan, progress)
        with progress_bar("negative prompts", negative_steps, quiet=quiet) as progress:
            detector = use.train_negative(demo, plan, progress)
        describe_threshold(detector, quiet)
        say("3. Which method tells ID from OOD best? (percent; deltas against MCM)", quiet=quiet)
        evaluation = use.compare(demo)
        render(comparison(evaluation), comparison_columns(evaluation), "table")
        say("4. Real photos through the whole path: decode, encode, score", quiet=quiet)
        with progress_bar("photos", None, quiet=quiet) as progress:
            verdicts = use.score_photos(demo, detector, progress)
        render((vars(verdict) for verdict in verdicts), columns_for("table", "error"), "table")
        for package in use.missing_packages():
            say(f"(more photos with: pip install {package})", quiet=quiet)
    say(f"Done in {time.monotonic() - began:.0f} s. {NEXT}", quiet=quiet)


CONTENTS = [
    Column("split", "Split"),
    Column("rows", "Rows", digits=0),
    Column("classes", "Classes", digits=0),
    Column("source", "What it is", wide=True),
]


def comparison_columns(evaluation: "Evaluation") -> list[Column]:
    """Return the columns of ``comparison``: FPR95 and AUROC of each method, with deltas after the first."""
    columns = [Column("ood", "OOD set")]
    for index, label in enumerate(dict.fromkeys(r.label for r in evaluation.results)):
        columns.append(Column(f"fpr95 {label}", f"{label} FPR95↓", digits=1, percent=True, wide=True))
        columns += [Column(f"dfpr95 {label}", "Δ", digits=1, percent=True)] if index else []
        columns.append(Column(f"auroc {label}", "AUROC↑", digits=1, percent=True))
        columns += [Column(f"dauroc {label}", "Δ", digits=1, percent=True)] if index else []
    return columns


def comparison(evaluation: "Evaluation") -> list[dict[str, Any]]:
    """Return one row for each OOD set; see ``comparison_columns``."""
    first: dict[str, OodMetrics] = {}
    rows: dict[str, dict[str, Any]] = {}
    for result in evaluation.results:
        base = first.setdefault(result.ood, result.metrics)
        row, label = rows.setdefault(result.ood, {"ood": result.ood}), result.label
        for field in ("fpr95", "auroc"):
            value = getattr(result.metrics, field)
            row[f"{field} {label}"] = value
            row[f"d{field} {label}"] = value - getattr(base, field)
    return list(rows.values())
