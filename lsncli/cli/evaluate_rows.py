"""Rows and columns of the tables of ``lsn eval``: measures, and differences between methods."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Literal

from lsncli.console import brief, short_labels
from lsncli.report.formats import Column

if TYPE_CHECKING:
    from lsncli.evaluation.differences import Comparison, Differences
    from lsncli.evaluation.evaluate import Evaluation, MethodResult
    from lsncli.intervals import Interval
    from lsncli.methods.spec import Method

COLUMNS = [
    Column("method", "Method", identifies=True),
    Column("head", "Head", detail=True),
    Column("ood", "OOD set", identifies=True),
    Column("fpr95", "FPR95↓", digits=2, percent=True),
    Column("fpr95_ood", "OOD+↓", digits=2, percent=True, detail=True),
    Column("auroc", "AUROC↑", digits=2, percent=True),
    Column("aupr_in", "AUPR-in", digits=2, percent=True, detail=True),
    Column("aupr_out", "AUPR-out", digits=2, percent=True, detail=True),
    Column("id_accuracy", "ID acc", digits=2, percent=True, detail=True),
    Column("auoscr", "AUOSCR↑", digits=2, percent=True, detail=True),
    Column("aurc", "AURC↓", digits=2, percent=True, detail=True),
    Column("aurc_ood", "AURC+OOD↓", digits=2, percent=True, detail=True),
    Column("ece", "ECE↓", digits=2, percent=True, detail=True),
]
COUNTS = [
    Column("n_id", "ID images", digits=0),
    Column("n_ood", "OOD images", digits=0),
    Column("n_labelled", "Labelled", digits=0),
]
COSTS = [Column("seconds", "Seconds", digits=2), Column("peak_mib", "MiB", digits=0)]
ERROR = [Column("error", "Not evaluated because", wide=True)]
DEFINITIONS = (
    "OOD+: FPR95 with OOD as the positive class, over all thresholds (OpenOOD drops some; its number can be "
    "higher where scores tie). AUPR: average precision (OpenOOD's is the trapezoid rule). AUOSCR: area under "
    "the rate of ID images kept and classified right against FPR. AURC: mean error rate among the k highest "
    "scores of ID images; AURC+OOD: of all images, OOD ones being errors. ECE: of the predicted class."
)

IntervalName = Literal["delong", "bootstrap"]
BOUNDED: dict[str, tuple[str, ...]] = {"delong": ("auroc",), "bootstrap": ("fpr95", "auroc")}
"""The metrics of each kind of interval."""

MEASURES = {"fpr95": "FPR95", "auroc": "AUROC"}
"""The measures by which methods are compared, with their titles."""
PARTS = ("difference", "difference_low", "difference_high", "p", "p_holm")
"""What programs get of a difference."""
DIFFERENCES = [
    Column("measure", "Measure", identifies=True),
    Column("method", "Method", identifies=True),
    Column("head", "Head", detail=True),
    Column("ood", "OOD set", identifies=True),
    Column("value", "Value", digits=2, percent=True),
    Column("value_interval", "Value 95 %", optional=True),
    Column("difference", "Diff.", digits=2, percent=True),
    Column("difference_low", "95 % low", digits=1, percent=True),
    Column("difference_high", "95 % high", digits=1, percent=True),
    Column("p_holm", "p"),
    Column("p", "p, one test", detail=True),
]
"""What people see of differences: a row for each measure."""


def columns(
    people: bool,
    *,
    costs: bool = False,
    intervals: IntervalName | None = None,
    failures: bool = False,
    differences: bool = False,
) -> list[Column]:
    """Return the columns of the output; programs get the ends of intervals as numbers, and counts.

    With ``differences``, people see the rows of ``difference_rows``.
    """
    extra = COSTS if costs else []
    bounded = BOUNDED.get(intervals or "", ())
    if not people:
        ends = [Column(f"{metric}_{end}", "") for metric in bounded for end in ("low", "high")]
        compared = [Column(f"{measure}_{part}", "") for measure in MEASURES for part in PARTS if differences]
        return [*COLUMNS, *extra, *ends, *compared, *COUNTS, *(ERROR if failures else [])]
    if differences:
        return [*DIFFERENCES, *extra]
    shown = []
    for column in COLUMNS:
        shown.append(column)
        if column.key in bounded:
            shown.append(Column(f"{column.key}_interval", f"{column.key.upper()} 95 %"))
    return [*shown, *extra]


def with_short_labels(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """Return rows with methods without settings where these do not tell two methods apart (--verbose)."""
    labels = short_labels([str(row["method"]) for row in rows])
    return [row | {"method": labels[str(row["method"])]} for row in rows]


def told_apart(columns: Sequence[Column], rows: Sequence[Mapping[str, object]]) -> list[Column]:
    """Return the columns with the head always shown if two methods on one OOD set differ in it alone."""
    names = [(row["method"], row["ood"], row.get("measure")) for row in rows]
    needed = len(set(names)) < len(names)
    return [
        replace(column, detail=False, identifies=True) if needed and column.key == "head" else column
        for column in columns
    ]


def result_row(result: "MethodResult", intervals: Mapping[str, "Interval"]) -> dict[str, object]:
    """Return a row of the evaluation table, in fractions; ``*_interval`` is text in percent, for people."""
    metrics = result.metrics
    bounds: dict[str, object] = {}
    for key, interval in intervals.items():
        bounds |= {f"{key}_low": interval.low, f"{key}_high": interval.high}
        bounds[f"{key}_interval"] = f"{100 * interval.low:.1f} to {100 * interval.high:.1f}"
    return bounds | {
        "method": result.label,
        "head": result.method.head,
        "ood": result.ood,
        "fpr95": metrics.fpr95,
        "fpr95_ood": metrics.fpr95_ood,
        "auroc": metrics.auroc,
        "aupr_in": metrics.aupr_in,
        "aupr_out": metrics.aupr_out,
        "id_accuracy": result.id_accuracy,
        **asdict(result.open_set),
        "n_id": metrics.n_id,
        "n_ood": metrics.n_ood,
        "seconds": result.cost.seconds,
        "peak_mib": result.cost.peak_mib,
    }


def difference_cells(differences: "Differences", method: "Method", ood: str) -> dict[str, object]:
    """Return the differences of a method from the baseline, in fractions; nothing for the baseline."""
    cells: dict[str, object] = {}
    for measure in MEASURES:
        found = differences.get((str(method), ood, measure))
        if found is not None:
            value, interval = found.difference, found.difference.interval
            numbers = (value.value, interval.low, interval.high, value.p_value, found.p_holm)
            cells |= {f"{measure}_{part}": number for part, number in zip(PARTS, numbers, strict=True)}
    return cells


def difference_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, object]]:
    """Return a row for each measure of rows with ``difference_cells``, for people; none of the baseline."""
    return [
        {
            **row,
            "measure": title,
            "value": row[measure],
            "value_interval": row.get(f"{measure}_interval"),
            **{part: row[f"{measure}_{part}"] for part in PARTS[:3]},
            **{part: _p_value(row[f"{measure}_{part}"]) for part in PARTS[3:]},
        }
        for measure, title in MEASURES.items()
        for row in rows
        if f"{measure}_difference" in row
    ]


def about_differences(comparison: "Comparison") -> str:
    """Return what the differences in the table are, for people."""
    from lsncli.comparison import REPEATS

    name, methods = brief(comparison.baseline.resolved.label), comparison.methods
    adjusted = f"adjusted by Holm's method for {methods} methods, but not" if methods > 1 else "not adjusted"
    return (
        f"Better than {name}: FPR95 below 0, AUROC above 0. The sample is images: AUROC on one OOD set by "
        f"DeLong's test, FPR95 and means by a paired bootstrap of {REPEATS:,} samples, whose least p-value "
        f"is {2 / (REPEATS + 1):.3f}. The p-values are {adjusted} for the number of OOD sets and measures."
    )


def labelled_remark(evaluation: "Evaluation") -> str:
    """Return how many ID images the measures of predicted classes are of, unless all are labelled."""
    if not evaluation.results:
        return ""
    labelled, images = evaluation.results[0].open_set.n_labelled, evaluation.results[0].metrics.n_id
    if labelled == images:
        return ""
    return f" The last five are of the {labelled} labelled ones among {images} ID images."


def _p_value(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def failed_row(method: "Method", reason: str) -> dict[str, object]:
    """Return the row of a method that failed, with the reason, which people see below the table."""
    return {"method": str(method), "head": method.head, "ood": "not evaluated", "error": reason}
