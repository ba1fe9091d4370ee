"""What `lsn explain` leaves in a folder: a sheet of all maps, one picture a map, and the numbers as json."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from lsncli.errors import LsnError
from lsncli.report import heat
from lsncli.report.plots import safe_name

if TYPE_CHECKING:
    from PIL.Image import Image

    from lsncli.app.explain import Explanation

Panel = tuple["Image", tuple[str, str]]


def write_looks(folder: Path, stem: str, found: "Explanation") -> list[Path]:
    """``STEM.explain.png``, ``STEM.explain.json`` and a picture a look; the last are returned, in order.

    Raises LsnError if a file cannot be written.
    """
    names: list[str] = []
    rows: dict[str, list[Panel]] = {}
    for look in found.looks:
        names.append(safe_name(f"{stem}.{look.name}-{look.prompt}", names))
        made = heat.overlay(found.seen, look.weights)
        heat.save(made, folder / f"{names[-1]}.png")
        title = look.name + (" (predicted)" if look.name == found.predicted else "")
        first = (heat.panel(found.seen), (stem, "as the model sees it"))
        row = rows.setdefault(look.name, [first])
        nothing = "" if look.weights.any() else ": nothing"
        row.append((made, (title, f"{look.prompt}, cosine {look.cosine:.3f}{nothing}")))
    heat.save(heat.sheet(list(rows.values())), folder / f"{stem}.explain.png")
    _write_numbers(folder / f"{stem}.explain.json", found)
    return [folder / f"{name}.png" for name in names]


def _write_numbers(path: Path, found: "Explanation") -> None:
    maps = [
        {
            "class": look.name,
            "prompt": look.prompt,
            "cosine": look.cosine,
            "peak": look.peak,
            "weights": look.weights.tolist(),
        }
        for look in found.looks
    ]
    size = [found.seen.shape[1], found.seen.shape[0]]
    text = json.dumps({"predicted": found.predicted, "size": size, "maps": maps}, indent=1)
    try:
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise LsnError(f"The numbers {path} cannot be written: {error.strerror}.") from error
