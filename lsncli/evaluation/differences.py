"""Compare the methods of an evaluation with one of them, image by image: differences with p-values."""

from collections.abc import Sequence
from dataclasses import dataclass

from lsncli.comparison import MEASURES, REPEATS, bootstrap_difference, holm, paired_bootstrap
from lsncli.console import ProgressCallback, silent
from lsncli.errors import LsnError
from lsncli.evaluation.evaluate import Evaluation, EvaluationPlan, Groups, group_title
from lsncli.intervals import Difference, delong_difference
from lsncli.methods.prepared import PreparedMethod
from lsncli.methods.spec import Method, adapted
from lsncli.types import Float64Array


@dataclass(frozen=True)
class AdjustedDifference:
    """A method minus the baseline, and the p-value adjusted for the number of methods."""

    difference: Difference
    p_holm: float
    """Holm's, over the methods compared with the baseline on one OOD set by one measure."""


Differences = dict[tuple[str, str, str], AdjustedDifference]
"""By method, OOD set (as in the results) and measure, one of ``comparison.MEASURES``."""


@dataclass(frozen=True)
class Comparison:
    """The differences of all other methods from ``baseline``."""

    baseline: PreparedMethod
    methods: int
    """How many others there are."""
    values: Differences


def baseline_of(evaluation: Evaluation | EvaluationPlan, method: Method) -> PreparedMethod:
    """Return ``method`` among those that did not fail. Raises LsnError with the reason if it did."""
    for each in evaluation.methods:
        if each.method == adapted(method, each.heads):
            return each
    reasons = [reason for failed, reason in evaluation.failed if failed == method]
    raise LsnError(f"--against {method}: it could not be evaluated. {' '.join(reasons)}".rstrip())


def compare(
    evaluation: Evaluation,
    baseline: PreparedMethod,
    ood_splits: Sequence[str],
    groups: Groups,
    repeats: int = REPEATS,
    progress: ProgressCallback = silent,
) -> Comparison:
    """Return the difference in FPR95 and AUROC of every other method from ``baseline``, for each result.

    AUROC on one OOD split is compared by DeLong's test. FPR95, for which there is none, and means over splits
    are compared by a paired bootstrap over images. ``progress`` counts its repeats. Raises LsnError if there
    is no other method.
    """
    others = [each for each in evaluation.methods if each is not baseline]
    if not others:
        raise LsnError(
            f"--against {baseline.method}: no other method was evaluated.", "Name others with --method."
        )
    compared = [baseline, *others]
    scores = [
        (each.scores[evaluation.id_split], [each.scores[split] for split in ood_splits]) for each in compared
    ]
    samples = paired_bootstrap(scores, repeats, progress=progress)
    metrics = {(str(result.method), result.ood): result.metrics for result in evaluation.results}
    members = {split: [at] for at, split in enumerate(ood_splits)}
    members |= {
        group_title(group): [ood_splits.index(split) for split in splits] for group, splits in groups.items()
    }

    def difference(number: int, ood: str, measure: str) -> Difference:
        sets = members.get(ood, list(range(len(ood_splits))))
        if measure == "auroc" and len(sets) == 1:
            (own_id, own), (base_id, base) = scores[number], scores[0]
            return delong_difference(own_id, own[sets[0]], base_id, base[sets[0]])
        own_value, base_value = (
            getattr(metrics[str(compared[at].method), ood], measure) for at in (number, 0)
        )
        means: Float64Array = samples[:, :, sets, MEASURES.index(measure)].mean(axis=2)
        return bootstrap_difference(own_value - base_value, means[:, number] - means[:, 0])

    found: Differences = {}
    for ood in dict.fromkeys(result.ood for result in evaluation.results):
        for measure in MEASURES:
            tested = [difference(number, ood, measure) for number in range(1, len(compared))]
            adjusted = holm([each.p_value for each in tested])
            for other, one, p in zip(others, tested, adjusted, strict=True):
                found[str(other.method), ood, measure] = AdjustedDifference(one, p)
    return Comparison(baseline, len(others), found)
