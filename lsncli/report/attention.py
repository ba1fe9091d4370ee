"""Figure 2: images beside maps of where positive and negative prompts look."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsncli.report import explanation_images, plots
from lsncli.types import Float64Array


@dataclass(frozen=True, eq=False)
class MapPanel:
    """An image (H, W, 3) with a title, and maps (h, w), not negative, each with one of its own."""

    title: str
    seen: NDArray[np.uint8]
    maps: tuple[tuple[str, Float64Array], ...]


def draw(paths: Sequence[Path], panels: Sequence[MapPanel], title: str) -> None:
    """A row an image. Raises LsnError if a file cannot be written."""
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


def write(path: Path, keys: Sequence[str], rows: Sequence[Mapping[str, object]]) -> None:
    """The numbers as csv, a line a map; what is missing is empty."""
    plots.save_numbers(path, keys, ([row[key] for key in keys] for row in rows))
