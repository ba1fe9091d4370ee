"""Figure 2: where learned positive and negative prompts look, on test images of several classes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsncli.bench.figures.request import (
    FigureResult,
    Record,
    Request,
    describe_costs,
    figure_paths,
    load_pictures,
    spread_rows,
)
from lsncli.bench.jobs import ScoreJob, normalise_name
from lsncli.bench.suite import RowSpec, TableSpec
from lsncli.bench.suite_workspace import SuiteWorkspace, learned_file, same_backbone
from lsncli.errors import LsnError, UsageError
from lsncli.explanation.saliency import Explanation, PromptMap, explain
from lsncli.methods.heads import make_head
from lsncli.report import explanation_images, plots
from lsncli.report.formats import Column
from lsncli.store.reader import read_split
from lsncli.types import Float64Array

SHOWN = 4
"""Images, each of another class."""

COLUMNS = [
    Column("path", "Path", wide=True),
    Column("class", "Class"),
    Column("predicted", "Predicted"),
    Column("prompt", "Prompt"),
    Column("cosine", "Cosine", digits=4),
    Column("peak_x", "Peak x", digits=2),
    Column("peak_y", "Peak y", digits=2),
    Column("overlap", "Shared %", digits=0, percent=True),
]


@dataclass(frozen=True, eq=False)
class ClassImage:
    """An image: its path in the set, its class, and the heat maps of the prompts of that class."""

    path: str
    own: str
    found: Explanation


@dataclass(frozen=True, eq=False)
class MapPanel:
    """An image (H, W, 3) with a title, and titled maps (h, w) of values >= 0."""

    title: str
    seen: NDArray[np.uint8]
    maps: tuple[tuple[str, Float64Array], ...]


def draw(request: Request, number: int) -> FigureResult:
    """Draw heat maps of the prompts of a row of Table 1 (or ``request.spec``); learn missing prompts.

    The row is the first one named, else the first that learns positive and negative prompts by CoOp. Raises
    UsageError if there is none, LsnError if its images are missing.
    """
    spec = request.table("1")
    row = _row(spec, request)
    spec = replace(spec, rows=(row,))
    _, plan = request.measure(spec, dry=True)
    title = f"Figure {number} on the suite '{request.suite.name}': {row.name}"
    if request.dry:
        return describe_costs(title, [plan])
    if not plan.scores:
        raise LsnError(f"The row '{row.name}' cannot be measured: {row.unavailable}")
    _check_images(plan.suite_work, plan.scores[0].split.test.image_set)  # before hours of learning
    _, plan = request.measure(spec)
    score = plan.scores[0]
    found = list(_explained(request, score, plan.suite_work))
    png, svg, numbers = figure_paths(request, f"figure{number}")
    rows = [line for one in found for line in _rows(one)]
    plot((png, svg), [_panel(one) for one in found], title)
    write_numbers(numbers, [column.key for column in COLUMNS], rows)
    notes = [
        "Brighter: more of what speaks for a prompt against the other classes' prompts. `lsn explain IMAGE` "
        "looks into any image.",
        request.suite.note.strip(),
    ]
    return FigureResult(title, rows, COLUMNS, (png, svg, numbers), [one for one in notes if one])


def _row(spec: TableSpec, request: Request) -> RowSpec:
    wanted = {normalise_name(name) for name in request.rows}
    for row in spec.rows:
        kinds = {step.kind: step.settings.get("learner", "coop") for step in row.learn}
        fits = {"positive", "negative"} <= set(kinds) and set(kinds.values()) == {"coop"}
        if fits and (not wanted or normalise_name(row.name) in wanted):
            return row
    raise UsageError(
        f"Figure 2: table {spec.key} has no such row that learns positive and negative prompts by CoOp.",
        "Where CoCoOp prompts look is not known: they change with the image.",
    )


def _explained(request: Request, score: ScoreJob, suite_work: SuiteWorkspace) -> Iterator[ClassImage]:
    """Yield test images with the heat maps of the row's prompts."""
    work, part = suite_work.workspace(score.row.model), score.split.test
    name, split = part.image_set, part.of(read_split(work.features, part.set), part.set)
    files = {kind: learned_file(work, key) for kind, (_, key) in score.learned.items()}
    missing = [path for path in files.values() if not path.is_file()]
    if missing:
        raise LsnError(
            f"The prompts of '{score.row.name}' are not learned.",
            f"`lsn bench --table {request.table('1').key} --suite {request.named}` says why.",
        )
    chosen = spread_rows(split, SHOWN)
    images = load_pictures(suite_work.images(name), [split.keys[at] for at in chosen])
    if not images:
        layout = suite_work.images(name)
        where = layout.path if layout else suite_work.data
        raise LsnError(f"{where} does not hold the images that the features of '{name}' are of.")
    backbone = same_backbone(work.features, suite_work.weights(score.row.model), suite_work.device)
    bound = replace(work, files=files)
    head = make_head(bound, "positive", split.classes, negatives=True, model=lambda: backbone)
    for at in chosen:
        if split.keys[at] in images:
            own = split.classes[split.labels[at]]
            seen = explain(backbone, head, images[split.keys[at]], [own])
            yield ClassImage(split.keys[at], own, replace(seen, maps=_of_class(seen, own)))


def _check_images(suite_work: SuiteWorkspace, name: str) -> None:
    if suite_work.images(name) is None:
        where = f"{suite_work.data / name}.tar or folder" if suite_work.data else "--data DIR"
        raise LsnError(
            f"Figure 2 looks into images of the set '{name}', and there is no {where}.",
            "Name the folder that holds them with --data DIR.",
        )


def _of_class(seen: Explanation, name: str) -> tuple[PromptMap, ...]:
    return tuple(look for look in seen.maps if look.name == name)


def _rows(one: ClassImage) -> Iterator[Record]:
    positive = one.found.maps[0]
    for look in one.found.maps:
        yield {
            "path": one.path,
            "class": one.own,
            "predicted": one.found.predicted,
            "prompt": look.prompt,
            "cosine": look.cosine,
            "peak_x": look.peak[0] if look.peak else None,
            "peak_y": look.peak[1] if look.peak else None,
            "overlap": look.overlap(positive) if look.negative else None,
        }


def _panel(one: ClassImage) -> MapPanel:
    title = one.own if one.own == one.found.predicted else f"{one.own} (taken for {one.found.predicted})"
    maps = tuple((f"{look.prompt}, cosine {look.cosine:.3f}", look.weights) for look in one.found.maps)
    return MapPanel(title, one.found.seen, maps)


def plot(paths: Sequence[Path], panels: Sequence[MapPanel], title: str) -> None:
    """Draw a row per image. Raises LsnError if a file cannot be written."""
    across = 1 + max(len(panel.maps) for panel in panels)
    with plots.drawing():
        made: Any = plots.figure(2.3 * across, 0.5 + 2.5 * len(panels))
        made.suptitle(plots.label(title, 30 * across), x=0.01, ha="left", fontsize=10)
        grid = made.subplots(len(panels), across, squeeze=False)
        for panel, axes in zip(panels, grid, strict=True):
            for one in axes:
                one.set_axis_off()
            axes[0].imshow(panel.seen)
            axes[0].set_title(plots.label(panel.title, 34), loc="left", fontsize=8, weight="bold")
            for one, (text, weights) in zip(axes[1:], panel.maps, strict=False):
                one.imshow(explanation_images.overlay(panel.seen, weights))
                nothing = "" if weights.any() else ": nothing"
                one.set_title(plots.label(text + nothing, 34), loc="left", fontsize=8)
        plots.save(made, *paths)


def write_numbers(path: Path, keys: Sequence[str], rows: Sequence[Mapping[str, object]]) -> None:
    """Write the numbers as csv, a line per map; missing values are empty."""
    plots.save_numbers(path, keys, ([row[key] for key in keys] for row in rows))
