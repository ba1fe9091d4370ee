"""Figure 5: the toy example, learned, scored and checked against what the paper says of it."""

import numpy as np

from lsncli.bench.figures import toyexample as toy
from lsncli.bench.figures.request import FigureResult, Request, planned
from lsncli.errors import LsnError
from lsncli.report import toy as report


def draw(request: Request, number: int) -> FigureResult:
    """Learn both classifiers from six images and draw what they say of these and of an OOD image.

    No suite and no data are needed. Raises LsnError if the example does not do what the paper says.
    """
    title = f"Figure {number}: what a negative classifier sees"
    if request.dry:
        return planned(title, ())
    made = toy.run()
    claims = toy.claims(made)
    wrong = [claim for claim, holds in claims.items() if not holds]
    if wrong:
        raise LsnError(f"Figure {number}: not so in this run: {wrong[0]}")
    rows = toy.rows(made)
    png, svg, numbers = (request.to / f"figure{number}.{ending}" for ending in ("png", "svg", "csv"))
    positive, negative = np.asarray(made.head.weights), np.asarray(made.head.negative)[0]
    prompts = dict(zip(toy.CLASSES, positive, strict=True))
    prompts |= {f"not {name}": weights for name, weights in zip(toy.CLASSES, negative, strict=True)}
    images = [(str(row["image"]), str(row["figures"])) for row in rows]
    scores = {"MCM (positive alone)": made.mcm, "LSN (both)": made.lsn}
    report.draw((png, svg), images, toy.FIGURES, prompts, scores, title)
    report.write(numbers, rows)
    notes = [f"Checked: {claim}" for claim in claims]
    return FigureResult(title, rows, toy.COLUMNS, (png, svg, numbers), notes)
