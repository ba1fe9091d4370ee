"""How often a selection finds a better method where none is: by random signs, and by a plain bootstrap.

    python -m benchmarks.accuracy.selection_errors [--record]

Each simulation has 25 methods of equal quality, as alike as scores of the same features are, and an AUROC
for each class. An error is a best method that replaces the default. `lsn select` allows 5 %.
"""

import argparse
from collections.abc import Sequence

import numpy as np

from benchmarks.records import record
from lsncli.selection.choose import choose
from lsncli.types import Float64Array

NAME = "selection-errors"
CLASSES = (6, 10, 20, 100)
METHODS, SIMULATIONS, SAMPLES = 25, 1000, 1000
LEVEL = 0.95


def simulated(classes: int, random: np.random.Generator) -> Float64Array:
    """Return the AUROC (M + 1, C) of the default and of the methods, equal but for noise."""
    shared = random.standard_normal((4, classes))
    own = 0.5 * random.standard_normal((METHODS, classes))
    methods = 0.7 * random.standard_normal((METHODS, 4)) @ shared + own
    return 0.8 + 0.02 * np.concatenate([np.zeros((1, classes)), methods])


def bootstrap_errs(differences: Float64Array, random: np.random.Generator) -> bool:
    """Return whether the best of ``differences`` (M, C) is above zero by a bootstrap of all of them together.

    The quantile of the largest of M centred means over their standard errors takes the place of 1.64.
    """
    classes = differences.shape[1]
    errors = differences.std(axis=1, ddof=1) / np.sqrt(classes)
    means = differences.mean(axis=1)
    drawn = random.multinomial(classes, np.full(classes, 1 / classes), size=SAMPLES) / classes
    largest = ((drawn @ differences.T - means) / errors).max(axis=1)
    return bool((means / errors).max() > np.quantile(largest, LEVEL))


def error_rates(classes: int, simulations: int = SIMULATIONS) -> dict[str, float]:
    """Return the shares of simulations with an error, by rule."""
    random = np.random.default_rng(classes)
    errors = {"random signs": 0, "bootstrap": 0}
    for _ in range(simulations):
        values = simulated(classes, random)
        near = {str(number): row[None] for number, row in enumerate(values)}
        errors["random signs"] += choose(near, {}, ("random",), default="0").verdict == "chosen"
        errors["bootstrap"] += bootstrap_errs(values[1:] - values[0], random)
    return {rule: count / simulations for rule, count in errors.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate, print, and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--record", action="store_true", help="write benchmarks/results")
    options = parser.parse_args(arguments)
    found = {str(classes): error_rates(classes) for classes in CLASSES}
    for classes, rates in found.items():
        print(
            f"{classes:>4} classes  "
            + "  ".join(f"{rule} {100 * rate:.1f} %" for rule, rate in rates.items())
        )
    if options.record:
        what = "Errors of lsn select among equal methods, by python -m benchmarks.accuracy.selection_errors"
        record(NAME, what, for_all_machines=True, simulations=SIMULATIONS, errors=found)


if __name__ == "__main__":
    main()
