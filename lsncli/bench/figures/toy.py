"""Figure 5: the toy example of the paper, computed: what only a negative classifier sees.

There are three classes of two ID images each; an image is a set of figures. For each class, one figure occurs
in that class only (it says what the class is) and one in every other class only (it says what the class is
not); every image also has one figure of its own. The OOD image has the figure of class 1 together with the
figure that no image of class 1 has.

Prompts are directions with no negative weights, because a text can name what an image shows but cannot
subtract from it. Without this constraint, a negative prompt could be the negated positive one, and would add
nothing. Prompts are learned with the losses of `lsn` (Eq. 3 to 6) and scored with its scores (MCM, Eq. 13 and
14).

The paper says that the positive classifier is wrong "with high confidence". Here it predicts class 1 for the
OOD image, but with less confidence than for ID images: it also learns a little from the figures that two
classes share.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize, softplus

from lsncli.bench.figures.request import FigureResult, Request, describe_costs
from lsncli.errors import LsnError
from lsncli.prompts.settings import Kind, classification, logits
from lsncli.report import plots
from lsncli.report.formats import Column
from lsncli.scores.common import predict
from lsncli.scores.lsn import Lsn
from lsncli.scores.mcm import Mcm
from lsncli.scores.mincm import MinCm
from lsncli.types import Float64Array, Head

CLASSES = ("class 1", "class 2", "class 3")
IS, IS_NOT = "●■▲", "◆★✚"
"""The figures that only one class has, and the figures that only one class lacks, by class."""
OWN, ANOMALY = "abcdef", "✖"
FIGURES = IS + IS_NOT + OWN + ANOMALY

ID_IMAGES = tuple(
    IS[label] + "".join(figure for other, figure in enumerate(IS_NOT) if other != label) + OWN[2 * label + at]
    for label in range(3)
    for at in range(2)
)
LABELS = tuple(label for label in range(3) for _ in range(2))
OOD_IMAGE = IS[0] + IS_NOT[0] + ANOMALY

TAU, STEPS, RATE = 0.1, 300, 0.05
"""Temperature, optimiser steps and learning rate. The scores use the same temperature, because cosines of so
few figures are far apart."""

COLUMNS = [
    Column("image", "Image"),
    Column("figures", "Figures"),
    Column("predicted", "Says"),
    Column("mcm", "MCM", digits=3),
    Column("negatives", "Not 1, 2, 3"),
    Column("min_cm", "MinCM", digits=3),
    Column("lsn", "LSN", digits=3),
]


@dataclass(frozen=True)
class Toy:
    """Learned prompts with the features and scores of all images (N = 7); the OOD image is the last row."""

    head: Head
    features: Float64Array
    predicted: tuple[int, ...]
    mcm: Float64Array
    min_cm: Float64Array
    lsn: Float64Array

    @property
    def negative_cosines(self) -> Float64Array:
        """The cosines (7, 3) of the images with the negative prompt of each class."""
        negative = np.asarray(self.head.negative)
        cosines: Float64Array = self.features @ negative[0].T
        return cosines


def image(figures: str) -> list[float]:
    """Return the unit feature of an image, in which all its figures have equal weight."""
    indicator = np.array([float(figure in figures) for figure in FIGURES])
    return list(indicator / np.linalg.norm(indicator))


def learn(kind: Kind, seed: int = 0) -> Tensor:
    """Learn unit directions (1, 3, D) without negative weights from the six ID images by Eq. 4 or 5."""
    images, labels = torch.tensor([image(figures) for figures in ID_IMAGES]).double(), torch.tensor(LABELS)
    generator = torch.Generator().manual_seed(seed)
    start = 0.1 * torch.randn(1, 3, len(FIGURES), generator=generator, dtype=torch.float64)
    raw = start.requires_grad_()
    optimiser = torch.optim.Adam([raw], lr=RATE)
    for _ in range(STEPS):
        class_logits = logits(images, normalize(softplus(raw), dim=-1), kind, TAU)
        optimiser.zero_grad()
        classification(class_logits, labels, double_softmax=False).backward()
        optimiser.step()
    return normalize(softplus(raw.detach()), dim=-1)


def run(seed: int = 0) -> Toy:
    """Learn both kinds of prompts and score the six ID images and the OOD image."""
    positive, negative = (learn(kind, seed).numpy() for kind in ("positive", "negative"))
    head = Head(CLASSES, positive[0], 1 / TAU, negative)
    features = np.array([image(figures) for figures in (*ID_IMAGES, OOD_IMAGE)])
    return Toy(
        head=head,
        features=features,
        predicted=tuple(int(label) for label in predict(head, features)),
        mcm=Mcm(tau=TAU).scorer(head, {})(features),
        min_cm=MinCm(tau_bar=TAU).scorer(head, {})(features),
        lsn=Lsn(tau=TAU, tau_bar=TAU).scorer(head, {})(features),
    )


def claims(toy: Toy) -> dict[str, bool]:
    """Return the claims of the paper about its example, each with whether it holds."""
    positive, negative = np.asarray(toy.head.weights), np.asarray(toy.head.negative)[0]
    lowest = toy.negative_cosines.argmin(axis=1)
    not_first = toy.negative_cosines[:, 0]
    return {
        "The positive classifier represents every class by the figure that it alone has.": all(
            FIGURES[positive[c].argmax()] == IS[c] for c in range(3)
        ),
        "The negative classifier represents every 'not' by the figure that the class alone lacks.": all(
            FIGURES[negative[c].argmax()] == IS_NOT[c] for c in range(3)
        ),
        "Both are right on every ID image.": toy.predicted[:6] == LABELS and tuple(lowest[:6]) == LABELS,
        "The positive classifier takes the OOD image for class 1.": toy.predicted[6] == 0,
        "The negative classifier says 'not class 1', more than of any image of class 1.": bool(
            not_first[6] > not_first[:2].max()
        ),
        "LSN scores the OOD image below every ID image.": bool(toy.lsn[6] < toy.lsn[:6].min()),
        "The negative prompts widen the gap that the positive ones leave.": bool(
            toy.lsn[:6].min() - toy.lsn[6] > toy.mcm[:6].min() - toy.mcm[6]
        ),
    }


def rows(toy: Toy) -> list[dict[str, object]]:
    """Return a row for each image."""
    names = [f"ID, {CLASSES[label]}" for label in LABELS] + ["OOD"]
    table: list[dict[str, object]] = []
    for at, (name, figures) in enumerate(zip(names, (*ID_IMAGES, OOD_IMAGE), strict=True)):
        cosines = toy.negative_cosines[at]
        table.append(
            {
                "image": name,
                "figures": figures,
                "predicted": CLASSES[toy.predicted[at]],
                "mcm": toy.mcm[at],
                "negatives": " ".join(f"{cosine:.2f}" for cosine in cosines),
                "min_cm": -toy.min_cm[at],
                "lsn": toy.lsn[at],
            }
        )
    return table


def draw(request: Request, number: int) -> FigureResult:
    """Learn both classifiers from six images and draw their scores of these and of an OOD image.

    No suite and no data are needed. Raises LsnError if a claim of the paper does not hold.
    """
    title = f"Figure {number}: what a negative classifier sees"
    if request.dry:
        return describe_costs(title, ())
    learned = run()
    holds = claims(learned)
    wrong = [claim for claim, true in holds.items() if not true]
    if wrong:
        raise LsnError(f"Figure {number}: not so in this run: {wrong[0]}")
    table = rows(learned)
    png, svg, numbers = (request.to / f"figure{number}.{ending}" for ending in ("png", "svg", "csv"))
    positive, negative = np.asarray(learned.head.weights), np.asarray(learned.head.negative)[0]
    prompts = dict(zip(CLASSES, positive, strict=True))
    prompts |= {f"not {name}": weights for name, weights in zip(CLASSES, negative, strict=True)}
    images = [(str(row["image"]), str(row["figures"])) for row in table]
    scores = {"MCM (positive alone)": learned.mcm, "LSN (both)": learned.lsn}
    plot((png, svg), images, FIGURES, prompts, scores, title)
    write_numbers(numbers, table)
    notes = [f"Checked: {claim}" for claim in holds]
    return FigureResult(title, table, COLUMNS, (png, svg, numbers), notes)


def plot(
    paths: Sequence[Path],
    images: Sequence[tuple[str, str]],
    figures: str,
    prompts: Mapping[str, Float64Array],
    scores: Mapping[str, Float64Array],
    title: str,
) -> None:
    """Draw ``images`` (name, figures; the last one is OOD), ``prompts`` (weight of each figure), ``scores``.

    Raises LsnError if a file cannot be written.
    """
    with plots.drawing():
        figure: Any = plots.figure(11.0, 4.0)
        figure.suptitle(plots.label(title, 110), x=0.01, ha="left", fontsize=10)
        left, middle, right = figure.subfigures(1, 3, width_ratios=(1.0, 1.5, 1.7))
        _plot_images(left.subplots(), images)
        _plot_prompts(middle.subplots(), figures, prompts)
        panels = right.subplots(1, len(scores), sharex=True, sharey=True)
        for axes, (name, values) in zip(panels, scores.items(), strict=True):
            _plot_scores(axes, name, values, [name for name, _ in images])
        plots.save(figure, *paths)


def write_numbers(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write the numbers as CSV, a line for each image."""
    plots.save_numbers(path, list(rows[0]), (list(row.values()) for row in rows))


def _plot_images(axes: Any, images: Sequence[tuple[str, str]]) -> None:
    axes.set_title("Images and their figures", loc="left", fontsize=9)
    axes.set(xlim=(0, 1), ylim=(len(images) - 0.4, -0.6))
    axes.set_axis_off()
    for at, (name, figures) in enumerate(images):
        colour = plots.ORANGE if at == len(images) - 1 else "black"
        axes.text(0.0, at, name, fontsize=9, va="center", color=colour)
        axes.text(0.5, at, "  ".join(figures), fontsize=13, va="center", color=colour)


def _plot_prompts(axes: Any, figures: str, prompts: Mapping[str, Float64Array]) -> None:
    weights = np.array(list(prompts.values()))
    axes.set_title("What each prompt looks for (darker: more)", loc="left", fontsize=9)
    axes.imshow(weights, cmap="Greys", vmin=0, aspect="auto")
    axes.set_xticks(range(len(figures)), list(figures), fontsize=11)
    axes.set_yticks(range(len(prompts)), list(prompts))
    axes.tick_params(length=0)
    for row, column in enumerate(weights.argmax(axis=1)):
        axes.plot(column, row, "o", markersize=4, color=plots.ORANGE)


def _plot_scores(axes: Any, name: str, values: Float64Array, images: Sequence[str]) -> None:
    """Plot ID images as circles and the OOD image as a cross; the dotted line is the lowest ID score."""
    positions = np.arange(len(values))
    axes.plot(values[:-1], positions[:-1], "o", color=plots.BLUE, label="ID")
    axes.plot(values[-1:], positions[-1:], "X", color=plots.ORANGE, markersize=8, label="OOD")
    axes.axvline(values[:-1].min(), color=plots.GREY, linewidth=0.8, linestyle=":")
    axes.set_title(name, loc="left", fontsize=9)
    axes.set_yticks(positions, images)
    axes.set_ylim(len(values) - 0.4, -0.6)
    axes.set_xlabel("Score (higher = more ID)")
    axes.margins(x=0.15)
    axes.locator_params(axis="x", nbins=4)
