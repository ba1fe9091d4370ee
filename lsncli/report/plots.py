"""What every figure shares: matplotlib without its global state, colours, safe names, png and svg files.

matplotlib is an extra (``plots``) and is imported when something is drawn.
"""

import csv
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from lsncli.console import printable
from lsncli.errors import LsnError, Unavailable
from lsncli.files import whole, whole_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#555555"
CYCLE = (ORANGE, BLUE, "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's colours, told apart by colour-blind readers; lines also differ in their dashes."""
DASHES = ("-", "--", "-.", ":")

SETTINGS = {
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "svg.hashsalt": "lsn",  # equal numbers give equal files
    "svg.fonttype": "none",  # text stays text
}


def check_available(option: str) -> None:
    """Unavailable (exit code 5) where matplotlib is not installed; ``option`` is what asked for it."""
    if find_spec("matplotlib") is None:
        raise Unavailable(
            f"{option} needs matplotlib, which is not installed.", "pip install 'lsncli[plots]'"
        )


@contextmanager
def drawing() -> Iterator[None]:
    """``SETTINGS`` for what is drawn and saved inside, whatever the user's own; put back behind it."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SETTINGS)
        yield


def figure(width: float, height: float) -> "Figure":
    """An empty figure, in inches, that no window and no list of open figures knows of."""
    from matplotlib.figure import Figure

    made: Figure = Figure(figsize=(width, height), layout="constrained")
    return made


def save(made: "Figure", *paths: Path) -> None:
    """Write a figure in the formats that the names say. Raises LsnError if a file cannot be written."""
    for path in paths:
        dated = {"Date": None} if path.suffix == ".svg" else {}
        try:
            with whole(path) as file, warnings.catch_warnings():
                # A class name in a script that the font lacks is drawn as boxes.
                warnings.filterwarnings("ignore", message="Glyph .* missing from")
                made.savefig(file, format=path.suffix[1:], dpi=150, metadata=dated)
        except OSError as error:
            raise LsnError(f"The figure {path} cannot be written: {error.strerror}.") from error


def save_numbers(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """The numbers of a figure as csv. Raises LsnError if the file cannot be written."""
    try:
        with whole_text(path, errors="backslashreplace") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(header)
            writer.writerows(rows)
    except OSError as error:
        raise LsnError(f"The figure's numbers {path} cannot be written: {error.strerror}.") from error


def label(text: str, longest: int = 40) -> str:
    """``text`` as a figure may show it: on one line, not too long, and with no formulas in it."""
    shown = printable(text)
    shown = shown if len(shown) <= longest else shown[: longest - 1] + "…"
    return shown.replace("$", r"\$")


def unique_stem(text: str, taken: Iterable[str] = ()) -> str:
    """A file name for ``text`` of letters, digits, '.', '_', '+', '=' and '-', unlike those ``taken``.

    File systems that do not tell cases apart are thought of.
    """
    base = re.sub(r"[^A-Za-z0-9_.+=]+", "-", text).strip("-.")[:100] or "figure"
    used = {name.lower() for name in taken}
    name, count = base, 1
    while name.lower() in used:
        count += 1
        name = f"{base}~{count}"
    return name
