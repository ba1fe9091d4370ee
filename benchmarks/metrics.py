"""FPR95, AUROC and AUPR of a million scores against scikit-learn: same values, how much sooner?

python -m benchmarks.metrics
"""

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from benchmarks.timing import interleaved, report
from lsncli.metrics import evaluate_scores


def main() -> None:
    """Check that the values agree, then time both."""
    random = np.random.default_rng(0)
    inside, outside = random.normal(1, 1, 500_000), random.normal(0, 1.2, 500_000)
    scores = np.concatenate([inside, outside])
    is_id = np.repeat([1, 0], 500_000)

    def scikit() -> tuple[float, float, float, float]:
        fpr, tpr, _ = roc_curve(is_id, scores, drop_intermediate=False)
        return (
            float(fpr[::-1][np.argmin(np.abs(tpr[::-1] - 0.95))]),
            float(roc_auc_score(is_id, scores)),
            float(average_precision_score(is_id, scores)),
            float(average_precision_score(1 - is_id, -scores)),
        )

    ours = evaluate_scores(inside, outside)
    found = (ours.fpr95, ours.auroc, ours.aupr_in, ours.aupr_out)
    print(f"largest difference: {max(abs(a - b) for a, b in zip(found, scikit(), strict=True)):.1e}")
    rows = interleaved({"scikit-learn": scikit, "lsn": lambda: evaluate_scores(inside, outside)}, 5)
    report("metrics", "FPR95, AUROC, AUPR-in, AUPR-out of a million scores", rows)


if __name__ == "__main__":
    main()
