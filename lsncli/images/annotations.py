"""Class labels that lie in a file beside a flat folder of images, as ImageNet and Tiny-ImageNet have them."""

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lsncli.errors import LsnError

WNID = re.compile(r"n\d{8}")
VALIDATION = re.compile(r"ILSVRC2012_val_(\d{8})", re.IGNORECASE)
"""An image of ImageNet's validation set; its number is its line in the ground truth."""

NAMES = re.compile(
    r"val_annotations\.txt|LOC_val_solution\.csv|.*validation.*synset_labels\.txt|"
    r"ILSVRC\d{4}_(clsloc_)?validation_ground_truth\.txt",
    re.IGNORECASE,
)
SYNSETS = (
    re.compile(r"meta\.mat", re.IGNORECASE),
    re.compile(r"map_clsloc\.txt", re.IGNORECASE),
    re.compile(r".*synsets?(?!_labels).*\.txt", re.IGNORECASE),
)
"""Files that say which class a number is, the surest first."""


@dataclass(frozen=True)
class Annotations:
    """The WordNet id of every image, by the name of its file without an ending."""

    path: Path
    """The file that says so."""
    wnids: Mapping[str, str]


def find_annotations(folder: Path, top: Path) -> Path | None:
    """The file that labels the flat images of ``folder``, looked for there and in every folder up to ``top``.

    Development kits in those folders count, too. The first match is taken, from the inside out.
    """
    for near in _near(folder, top):
        for path in _files(near, NAMES):
            return path
    return None


def read_annotations(path: Path) -> Annotations:
    """What a file found by ``find_annotations`` says. Raises LsnError if it is unreadable or empty."""
    try:
        name = path.name.lower()
        if name == "val_annotations.txt":
            rows = (line.split("\t") for line in _lines(path))
            wnids = {Path(cells[0]).stem: cells[1] for cells in rows if len(cells) > 1}
        elif name.endswith(".csv"):
            with path.open(encoding="utf-8-sig", newline="") as file:
                cells = csv.DictReader(file)
                wnids = {row["ImageId"]: row["PredictionString"].split()[0] for row in cells}
        elif name.endswith("synset_labels.txt"):
            wnids = _numbered(list(_lines(path)))
        else:
            wnids = _numbered(_by_number(path))
    except (OSError, UnicodeDecodeError, KeyError, AttributeError, IndexError, csv.Error) as error:
        raise LsnError(
            f"{path} cannot be read as labels of images: {type(error).__name__} {error}."
        ) from error
    bad = next((one for one in wnids.values() if not WNID.fullmatch(one)), None)
    if bad is not None or not wnids:
        found = "nothing" if bad is None else f"'{bad[:40]}'"
        raise LsnError(f"{path}: expected a WordNet id such as n01440764 for every image, found {found}.")
    return Annotations(path, wnids)


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8-sig") as file:
        for line in file:
            if line.strip():
                yield line.strip()


def _numbered(wnids: list[str]) -> dict[str, str]:
    """Labels in the order of ImageNet's validation images."""
    return {f"ILSVRC2012_val_{number:08d}": wnid for number, wnid in enumerate(wnids, start=1)}


def _by_number(path: Path) -> list[str]:
    """The labels of the development kit: numbers of classes, which a second file gives WordNet ids."""
    numbers = [int(line) if line.isdecimal() else 0 for line in _lines(path)]
    places = [path.parent, path.parent / "data", path.parent.parent, path.parent.parent / "data"]
    found = [one for pattern in SYNSETS for place in places for one in _files(place, pattern)]
    if not found:
        raise LsnError(
            f"{path} numbers the classes, and no meta.mat or map_clsloc.txt beside it says which they are.",
            "Put both files of the development kit's folder 'data' there.",
        )
    known = _synsets(found[0])
    missing = next((number for number in numbers if number not in known), None)
    if missing is not None:
        raise LsnError(f"{path}: expected numbers of the classes in {found[0]}, found {missing}.")
    return [known[number] for number in numbers]


def _synsets(path: Path) -> dict[int, str]:
    """WordNet ids by the number that the development kit gives them, which is not the alphabet's."""
    if path.suffix.lower() == ".mat":
        return _meta(path)
    rows = [line.split() for line in _lines(path)]
    if all(len(row) > 1 and row[1].isdecimal() for row in rows):  # map_clsloc.txt: id, number, name
        return {int(row[1]): row[0] for row in rows}
    wnids = [row[0] for row in rows]
    if wnids == sorted(wnids):
        raise LsnError(
            f"{path} lists the classes by the alphabet, and the ground truth numbers them otherwise.",
            "Use meta.mat of the development kit instead.",
        )
    return dict(enumerate(wnids, start=1))


def _meta(path: Path) -> dict[int, str]:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        synsets = loadmat(path, squeeze_me=True)["synsets"]
        return {int(one["ILSVRC2012_ID"]): str(one["WNID"]) for one in synsets}
    except (MatReadError, OSError, KeyError, ValueError, TypeError, IndexError, NotImplementedError) as error:
        raise LsnError(f"{path} cannot be read as the development kit's meta.mat: {error}.") from error


def _near(folder: Path, top: Path) -> Iterator[Path]:
    """``folder``, then its parents up to ``top``, each with the development kits in it."""
    chain = [folder, *folder.parents]
    for near in chain[: chain.index(top) + 1] if top in chain else chain[:1]:
        yield near
        for kit in _entries(near):
            if "devkit" in kit.name.lower() and kit.is_dir():
                yield kit
                yield kit / "data"


def _files(folder: Path, pattern: re.Pattern[str]) -> list[Path]:
    return [one for one in _entries(folder) if pattern.fullmatch(one.name) and one.is_file()]


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []
