"""FPR95, AUROC and AUPR of a million scores: values and time against scikit-learn.

    python -m benchmarks.speed.metrics

Once with distinct scores, and once rounded to half precision, with many ties.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from benchmarks.records import record
from benchmarks.speed.timing import Rows, interleaved, table
from lsncli.metrics import evaluate_scores

Values = tuple[float, float, float, float]


def scikit(inside: NDArray[np.float64], outside: NDArray[np.float64]) -> Callable[[], Values]:
    """Return a function that computes FPR95, AUROC, AUPR-in and AUPR-out by scikit-learn."""
    scores = np.concatenate([inside, outside])
    is_id = np.repeat([1, 0], [len(inside), len(outside)])

    def values() -> Values:
        fpr, tpr, _ = roc_curve(is_id, scores, drop_intermediate=False)
        return (
            float(fpr[::-1][np.argmin(np.abs(tpr[::-1] - 0.95))]),
            float(roc_auc_score(is_id, scores)),
            float(average_precision_score(is_id, scores)),
            float(average_precision_score(1 - is_id, -scores)),
        )

    return values


def measure(rounds: int, count: int = 1_000_000) -> dict[str, tuple[float, Rows]]:
    """Return the largest difference of a value and the times of both, for distinct and for tied scores."""
    random = np.random.default_rng(0)
    distinct = random.normal(1, 1, count // 2), random.normal(0, 1.2, count // 2)
    tied = tuple(side.astype(np.float16).astype(np.float64) for side in distinct)
    parts = {}
    for name, (inside, outside) in {"distinct": distinct, "tied": tied}.items():
        theirs, ours = scikit(inside, outside), evaluate_scores(inside, outside)
        found = (ours.fpr95, ours.auroc, ours.aupr_in, ours.aupr_out)
        apart = max(abs(a - b) for a, b in zip(found, theirs(), strict=True))
        variants: dict[str, Callable[[], object]] = {
            "scikit-learn": theirs,
            "lsn": partial(evaluate_scores, inside, outside),
        }
        parts[name] = apart, interleaved(variants, rounds, clock="cpu")
    return parts


def main() -> None:
    """Compare the values, time both and write the record."""
    parts = {}
    for name, (apart, rows) in measure(9).items():
        table(f"a million {name} scores; largest difference {apart:.1e}", rows)
        parts[name] = {"largest_difference": apart, "rows": rows}
    record("metrics", "FPR95, AUROC, AUPR-in, AUPR-out of a million scores; ratios of CPU time", scores=parts)


if __name__ == "__main__":
    main()
