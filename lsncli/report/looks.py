"""What `lsn explain` leaves in a folder: a sheet of numbers and maps, one picture a map, and all as json."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsncli.files import write_whole
from lsncli.report import heat
from lsncli.report.explained import likely_rows, nearest_rows, verdict_rows
from lsncli.report.numbers import Panel, numbers
from lsncli.report.plots import safe_name
from lsncli.report.render import plain

if TYPE_CHECKING:
    from lsncli.explanation.evidence import Reasons
    from lsncli.explanation.saliency import Explanation


def write_looks(folder: Path, stem: str, found: "Explanation", why: "Reasons") -> list[Path]:
    """``STEM.explain.png``, ``STEM.explain.json`` and a picture a look; the last are returned, in order.

    Raises LsnError if a file cannot be written.
    """
    names: list[str] = []
    seen: Panel = (heat.panel(found.seen), (stem, "as the model sees it"))
    rows: dict[str, list[Panel]] = {} if found.looks else {"": [seen]}
    for look in found.looks:
        names.append(safe_name(f"{stem}.{look.name}-{look.prompt}", names))
        made = heat.overlay(found.seen, look.weights)
        heat.save(made, folder / f"{names[-1]}.png")
        title = look.name + (" (predicted)" if look.name == found.predicted else "")
        row = rows.setdefault(look.name, [seen])
        nothing = "" if look.weights.any() else ": nothing"
        row.append((made, (title, f"{look.prompt}, cosine {look.cosine:.3f}{nothing}")))
    sheet = heat.sheet([numbers(why, seen[0].width), *rows.values()])
    heat.save(sheet, folder / f"{stem}.explain.png")
    _write_numbers(folder / f"{stem}.explain.json", found, why)
    return [folder / f"{name}.png" for name in names]


def _write_numbers(path: Path, found: "Explanation", why: "Reasons") -> None:
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
    everything = {
        "predicted": found.predicted,
        "detector": why.judgement.label if why.judgement else None,
        "verdict": next(iter(verdict_rows(why)), None),
        "measures": [dict(vars(one)) for one in why.judgement.measures] if why.judgement else [],
        "classes": likely_rows(why),
        "split": why.split,
        "nearest": nearest_rows(why),
        "size": [found.seen.shape[1], found.seen.shape[0]],
        "maps": maps,
    }
    write_whole(path, (json.dumps(_plain(everything), indent=1) + "\n").encode())


def _plain(value: Any) -> Any:
    """What JSON can hold, at any depth; see ``render.plain``."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return plain(value)
