"""Commands that use what was made before, to be killed by kills.py: merge, move, report and watch."""

import hashlib
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from lsncli.detection.detect import detect  # noqa: F401  (imported here, so that no child has to)
from lsncli.report.contents import make_report  # noqa: F401
from tests.robustness.killing import Subject, finished, start
from tests.robustness.kills_making import (
    CPU,
    EXTRACT,
    files_of_store,
    hasten,
    items_done,
    made_up_features,
    noise,
)


def merge(folder: Path) -> Subject:
    """Eight parts of a split that become one file."""
    images, before = noise(folder / "images", 3, 20, 1), folder / "before"
    _well(folder, ["extract", images, "--work", before, "--no-merge", "--part-rows", "8", *EXTRACT])

    def words(work: Path) -> list[str]:
        return ["store", "merge", "--copy", "--work", str(work), "--quiet"]

    def kept(work: Path) -> frozenset[object]:
        return frozenset({"all rows"} if len(items_done(work)) >= 60 else ())

    nothing = "There is nothing to merge."
    return Subject("store-merge", words, kept, files_of_store, nothing, before=before, hasten=hasten)


def move(folder: Path) -> Subject:
    """Forty images that are moved into folders of verdicts, one that cannot be read and stays."""
    before = _with_detector(folder)
    noise(before / "images", 2, 20, 7)
    (before / "images" / "broken.png").write_bytes(b"")

    def words(work: Path) -> list[str]:
        filing = ["--move", str(work / "sorted"), "--yes", "--max-failure-rate", "1"]
        return ["score", str(work / "images"), "--work", str(work), *filing, *CPU]

    return Subject("score-move", words, _whole_images, _places_of_images, before=before)


def report(folder: Path) -> Subject:
    """A page over another one: one of them is there at any time, and it is whole."""
    before = _with_detector(folder)
    noise(before / "images", 2, 10, 7)
    (before / "page.html").write_text("<p>the page of before</p></html>\n")

    def words(work: Path) -> list[str]:
        page = ["--output", str(work / "page.html")]
        return ["report", str(work / "images"), "--work", str(work), *page, *CPU]

    def kept(work: Path) -> frozenset[object]:
        page = work / "page.html"
        whole = page.exists() and page.read_text(encoding="utf-8").rstrip().endswith("</html>")
        return frozenset({"a whole page"} if whole else ())

    def ended(work: Path) -> Mapping[str, bytes]:
        page = (work / "page.html").read_bytes().replace(bytes(work), b"")
        return {"page.html": re.sub(rb"\d{4}-\d\d-\d\d \d\d:\d\d UTC", b"", page)}

    return Subject("report", words, kept, ended, before=before)


def watch(folder: Path) -> Subject:
    """Rows of thirty images, two a batch: each once, whole, and never lost."""
    before = _with_detector(folder)
    noise(before / "images", 3, 10, 7)

    def words(work: Path) -> list[str]:
        pace = ["--once", "--interval", "0.1", "--batch-size", "2", "--workers", "2", "--device", "cpu"]
        rows = ["--output", str(work / "rows.jsonl"), "--quiet"]
        return ["watch", str(work / "images"), "--work", str(work), *rows, *pace]

    def kept(work: Path) -> frozenset[object]:
        rows = work / "rows.jsonl"
        lines = rows.read_bytes().split(b"\n")[:-1] if rows.exists() else []
        return frozenset(lines)

    def ended(work: Path) -> Mapping[str, bytes]:
        lines = (work / "rows.jsonl").read_bytes().splitlines()
        paths = [line.split(b'"path": "')[1].split(b'"')[0].rpartition(b"images/")[2] for line in lines]
        return {"rows": b"\n".join(sorted(paths))}

    return Subject("watch", words, kept, ended, before=before)


def _with_detector(folder: Path) -> Path:
    """A workspace with features, prompts and a detector."""
    work = made_up_features(folder / "before")
    for command in ("train-pos", "train-neg"):
        _well(folder, [command, "--epochs", "1", "--context-length", "4", "--work", work, *CPU])
    shutil.rmtree(work / "results", ignore_errors=True)
    return work


def _well(folder: Path, words: Sequence[object]) -> None:
    """Run a command that must end with 0."""
    log = folder / "before.log"
    finished([start([str(word) for word in words], log)], log)


def _images(work: Path) -> dict[str, bytes]:
    """Images of a workspace by path, in their own folder or sorted."""
    found = [path for name in ("images", "sorted") for path in sorted((work / name).rglob("*.png"))]
    return {str(path.relative_to(work)): path.read_bytes() for path in found}


def _whole_images(work: Path) -> frozenset[object]:
    return frozenset(hashlib.sha256(data).hexdigest() for data in _images(work).values())


def _places_of_images(work: Path) -> Mapping[str, bytes]:
    """Every image in its place, and the temporary files that a kill left."""
    left = {path.name: b"left behind" for path in work.rglob(".*.tmp")}
    return _images(work) | left
