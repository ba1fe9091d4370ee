"""Shared parts of all figures: matplotlib without its global state, colours, file names, png and svg.

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
from lsncli.errors import LsnError, Unavailable, UsageError
from lsncli.files import open_atomic, open_atomic_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#555555"
CYCLE = (ORANGE, BLUE, "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""The colours of Okabe and Ito, for colour-blind readers; lines also differ in their dashes."""
PICTURES = (".png", ".svg")
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
    """Raise Unavailable (exit code 5) without matplotlib; ``option`` is the option that needs it."""
    if find_spec("matplotlib") is None:
        raise Unavailable(
            f"{option} needs matplotlib, which is not installed.", "pip install 'lsncli[plots]'"
        )


def check_picture(path: Path) -> None:
    """Raise UsageError for a --plot file that is no picture, Unavailable without matplotlib."""
    if path.suffix.lower() not in PICTURES:
        raise UsageError(f"--plot {path}: expected a file named *.png or *.svg.")
    check_available("--plot")


@contextmanager
def drawing() -> Iterator[None]:
    """Use ``SETTINGS`` within the block, and restore the user's settings after it."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SETTINGS)
        yield


def figure(width: float, height: float) -> "Figure":
    """Return an empty figure, in inches, outside pyplot's list of open figures."""
    from matplotlib.figure import Figure

    result: Figure = Figure(figsize=(width, height), layout="constrained")
    return result


def save(figure: "Figure", *paths: Path) -> None:
    """Write a figure in the formats of the file names. Raises LsnError if a file cannot be written."""
    for path in paths:
        dated = {"Date": None} if path.suffix == ".svg" else {}
        try:
            with open_atomic(path) as file, warnings.catch_warnings():
                # A class name in a script that the font lacks is drawn as boxes.
                warnings.filterwarnings("ignore", message="Glyph .* missing from")
                figure.savefig(file, format=path.suffix[1:], dpi=150, metadata=dated)
        except OSError as error:
            raise LsnError(f"The figure {path} cannot be written: {error.strerror}.") from error


def save_numbers(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write the numbers of a figure as csv. Raises LsnError if the file cannot be written."""
    try:
        with open_atomic_text(path, errors="backslashreplace") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(header)
            writer.writerows(rows)
    except OSError as error:
        raise LsnError(f"The figure's numbers {path} cannot be written: {error.strerror}.") from error


def label(text: str, longest: int = 40) -> str:
    """Return ``text`` for a figure: printable, on one line, at most ``longest`` characters, no formulas."""
    shown = printable(text)
    shown = shown if len(shown) <= longest else shown[: longest - 1] + "…"
    return shown.replace("$", r"\$")


def unique_stem(text: str, taken: Iterable[str] = ()) -> str:
    """Return a file name for ``text`` of letters, digits, '.', '_', '+', '=' and '-' unlike those ``taken``.

    Case does not count, as in some file systems.
    """
    base = re.sub(r"[^A-Za-z0-9_.+=]+", "-", text).strip("-.")[:100] or "figure"
    used = {name.lower() for name in taken}
    name, count = base, 1
    while name.lower() in used:
        count += 1
        name = f"{base}~{count}"
    return name
