"""Figures 3, 4 and 8: which of two texts the model chooses for an image, with and without "not"."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from lsncli.backbones import with_text
from lsncli.bench.figures.request import (
    FigureResult,
    Record,
    Request,
    describe_costs,
    extract_sets,
    figure_paths,
    load_pictures,
    spread_rows,
)
from lsncli.bench.suite_workspace import SuiteWorkspace, same_backbone
from lsncli.errors import LsnError
from lsncli.evaluation import negation as use
from lsncli.report import plots
from lsncli.report.formats import Column
from lsncli.scores.common import cosines
from lsncli.store.format import Split
from lsncli.store.reader import read_fingerprint, read_split
from lsncli.types import Float64Array, Labels

if TYPE_CHECKING:
    from PIL.Image import Image

SHOWN = 4
"""Images in the picture; shares are of all images of the set."""

COLUMNS = [
    Column("question", "Question", wide=True),
    Column("expected", "The paper: CLIP chooses", wide=True),
    Column("chosen", "chosen %", digits=1, percent=True),
    Column("right", "A right choice is", wide=True),
    Column("images", "Images", digits=0),
]

THUMBNAIL = 224
"""The longer side of a picture in pixels, at most."""
LIGHT = "#c8c8c8"
KEYS = (
    "path",
    "class",
    "question",
    "text_1",
    "text_2",
    "cosine_1",
    "cosine_2",
    "probability_1",
    "probability_2",
)


@dataclass(frozen=True)
class Option:
    """A text for every image, with or without "not", about the classes ``of`` (N,).

    ``template`` names these classes: the "own" of the image, an "other" or a "third".
    """

    template: str
    negated: bool
    of: Labels


@dataclass(frozen=True)
class Question:
    """Two texts, of which CLIP chooses ``expected`` (0 or 1) by the paper; ``right`` is None if none is."""

    name: str
    options: tuple[Option, Option]
    expected: int
    right: int | None


@dataclass(frozen=True)
class Pair:
    """A question, its two texts and their probabilities for one image."""

    question: str
    texts: tuple[str, str]
    likely: tuple[float, float]


@dataclass(frozen=True)
class Panel:
    """An image with its class and its questions; ``picture`` is None if it is missing."""

    name: str
    picture: "Image | None"
    pairs: tuple[Pair, ...]


def draw(request: Request, number: int) -> FigureResult:
    """Compare two texts for every ID test image of Table 1 (or ``request.spec``); draw a few images.

    Other classes are drawn at random, from one seed. Raises LsnError for fewer than three classes.
    """
    spec = request.table("1")
    _, plan = request.measure(spec, dry=True)
    if not plan.scores:
        raise LsnError(f"Table {spec.key} has no row that this suite can measure.")
    part = plan.scores[0].split.test
    suite_work, plan = extract_sets(request, spec, [part.set])
    title = f"Figure {number} on the suite '{request.suite.name}': {request.suite.sets[part.image_set].title}"
    if request.dry:
        return describe_costs(title, [plan])
    store = suite_work.workspace("").features
    stored = read_split(store, part.set)
    split = part.of(stored, part.set)
    if len(split.classes) < 3:
        raise LsnError(f"Figure {number} needs three classes, found {len(split.classes)}.")
    tower = with_text(same_backbone(store, suite_work.weights(""), suite_work.device)).text_tower()
    pair = use.encode_descriptions(tower, split.classes)
    yes, no = cosines(split.features, pair.yes), cosines(split.features, pair.no)
    answers = [_answer(question, yes, no) for question in QUESTIONS[number](split.labels, yes)]
    scale = read_fingerprint(store).logit_scale
    png, svg, numbers = figure_paths(request, f"figure{number}")
    plot((png, svg), _panels(suite_work, split, part.image_set, answers, scale), title)
    write_numbers(numbers, _rows(split, answers, scale))
    return FigureResult(
        title, [_summary(*answer) for answer in answers], COLUMNS, (png, svg, numbers), _notes(request)
    )


Answer = tuple[Question, Float64Array]
"""A question and the cosines (N, 2) of all images with its two texts."""


def _answer(question: Question, yes: Float64Array, no: Float64Array) -> Answer:
    rows = np.arange(len(yes))
    columns = [(no if option.negated else yes)[rows, option.of] for option in question.options]
    return question, np.stack(columns, axis=1)


def _others(labels: Labels, count: int) -> tuple[Labels, Labels]:
    """Two different classes for each image, neither its own."""
    random = np.random.default_rng(0)
    first = random.integers(1, count, size=len(labels))
    second = random.integers(1, count - 1, size=len(labels))
    second += second >= first
    return (labels + first) % count, (labels + second) % count


def _figure3(labels: Labels, yes: Float64Array) -> list[Question]:
    other, _ = _others(labels, yes.shape[1])
    options = Option("own", True, labels), Option("other", True, other)
    return [Question('Both with "not": the right class; another', options, 0, 1)]


def _figure4(labels: Labels, yes: Float64Array) -> list[Question]:
    other, third = _others(labels, yes.shape[1])
    rows = np.arange(len(labels))
    higher = yes[rows, other] >= yes[rows, third]
    high, low = np.where(higher, other, third), np.where(higher, third, other)
    before = Option("other", False, high), Option("third", False, low)
    after = Option("other", False, high), Option("third", True, low)
    return [
        Question("Before: two classes that are wrong", before, 0, None),
        Question('After: "not" for the one that scored lower', after, 1, 1),
    ]


def _figure8(labels: Labels, yes: Float64Array) -> list[Question]:
    other, third = _others(labels, yes.shape[1])
    own = Option("own", False, labels)
    return [
        Question('The right class; another with "not"', (own, Option("other", True, other)), 0, None),
        Question(
            'The right class with "not"; another',
            (Option("own", True, labels), Option("other", False, other)),
            0,
            None,
        ),
        Question(
            'Two wrong classes, one with "not"',
            (Option("other", False, other), Option("third", True, third)),
            1,
            1,
        ),
    ]


QUESTIONS = {3: _figure3, 4: _figure4, 8: _figure8}


def _text(option: Option, name: str) -> str:
    return (use.NO if option.negated else use.YES).replace("{}", name)


def _probabilities(cosine: Float64Array, scale: float) -> Float64Array:
    """Softmax (N, 2) of two scaled cosines."""
    second = 1 / (1 + np.exp(np.clip(scale * (cosine[:, 0] - cosine[:, 1]), -700, 700)))
    return np.stack([1 - second, second], axis=1)


def _summary(question: Question, cosine: Float64Array) -> Record:
    # A tie is a choice of the first text.
    chosen = (cosine[:, 1] > cosine[:, 0]).astype(int)
    texts = [_text(one, f"[{one.template} class]") for one in question.options]
    return {
        "question": question.name,
        "expected": texts[question.expected],
        "chosen": float((chosen == question.expected).mean()),
        "right": "" if question.right is None else texts[question.right],
        "images": len(chosen),
    }


def _panels(
    suite_work: SuiteWorkspace, split: Split, set_name: str, answers: list[Answer], scale: float
) -> list[Panel]:
    rows = spread_rows(split, SHOWN)
    images = load_pictures(suite_work.images(set_name), [split.keys[row] for row in rows])
    return [
        Panel(
            name=split.classes[split.labels[row]],
            picture=images.get(split.keys[row]),
            pairs=tuple(_pair(split, answer, row, scale) for answer in answers),
        )
        for row in rows
    ]


def _pair(split: Split, answer: Answer, row: int, scale: float) -> Pair:
    question, cosine = answer
    first, second = (_text(option, split.classes[option.of[row]]) for option in question.options)
    likely = _probabilities(cosine[row : row + 1], scale)[0]
    return Pair(question.name, (first, second), (float(likely[0]), float(likely[1])))


def _rows(split: Split, answers: list[Answer], scale: float) -> Iterator[Mapping[str, object]]:
    """A row for each question and image."""
    for question, cosine in answers:
        likely = _probabilities(cosine, scale)
        for row, key in enumerate(split.keys):
            first, second = (_text(option, split.classes[option.of[row]]) for option in question.options)
            yield {
                "path": key,
                "class": split.classes[split.labels[row]],
                "question": question.name,
                "text_1": first,
                "text_2": second,
                "cosine_1": float(cosine[row, 0]),
                "cosine_2": float(cosine[row, 1]),
                "probability_1": float(likely[row, 0]),
                "probability_2": float(likely[row, 1]),
            }


def _notes(request: Request) -> list[str]:
    return [
        "The paper shows a few images of CLIP and no numbers; here the shares are of all images of the set.",
        request.suite.note.strip() or f"Suite: {request.suite.title}.",
    ]


def plot(paths: Sequence[Path], panels: Sequence[Panel], title: str) -> None:
    """Draw a row per image and a column per question. Raises LsnError if a file cannot be written."""
    across = len(panels[0].pairs)
    with plots.drawing():
        made: Any = plots.figure(1.9 + 3.4 * across, 0.7 + 1.5 * len(panels))
        made.suptitle(plots.label(title, 40 + 50 * across), x=0.01, ha="left", fontsize=10)
        grid = made.subplots(len(panels), 1 + across, squeeze=False, width_ratios=[1.0, *[2.2] * across])
        for panel, axes in zip(panels, grid, strict=True):
            _plot_picture(axes[0], panel)
            for pair, one in zip(panel.pairs, axes[1:], strict=True):
                _bars(one, pair)
        for pair, one in zip(panels[0].pairs, grid[0][1:], strict=True):
            one.set_title(fill(pair.question, 44), loc="left", fontsize=9)
        plots.save(made, *paths)


def write_numbers(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Write the numbers of all images as csv."""
    plots.save_numbers(path, KEYS, ([row[key] for key in KEYS] for row in rows))


def _plot_picture(axes: Any, panel: Panel) -> None:
    axes.set_axis_off()
    if panel.picture is None:
        axes.text(0.5, 0.5, fill(plots.label(panel.name), 14), ha="center", va="center")
        return
    small = panel.picture.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    axes.imshow(small)
    axes.set_title(plots.label(panel.name, 24), fontsize=8, color=plots.GREY, pad=2)


def _bars(axes: Any, pair: Pair) -> None:
    """Draw each text above its bar; the chosen one is coloured and bold."""
    chosen = int(pair.likely[1] > pair.likely[0])
    for at, (text, likely) in enumerate(zip(pair.texts, pair.likely, strict=True)):
        is_chosen = at == chosen
        axes.barh(at, 1.0, 0.34, color="#f2f2f2")
        axes.barh(at, likely, 0.34, color=plots.ORANGE if is_chosen else LIGHT)
        weight = "bold" if is_chosen else "normal"
        axes.text(0.0, at - 0.26, f'"{plots.label(text, 46)}"', fontsize=8, weight=weight)
        axes.text(1.02, at, f"{likely:.0%}", fontsize=8, weight=weight, va="center")
    axes.set(xlim=(0, 1.15), ylim=(1.35, -0.6))
    axes.set_axis_off()
