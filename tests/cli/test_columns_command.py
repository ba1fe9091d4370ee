"""``--path-column`` and ``--label-column``: what they say, and that no command drops them."""

from pathlib import Path

import numpy as np
import pytest
from cli_samples import imported_workspace
from PIL import Image

from lsncli.errors import UsageError
from lsncli.images.columns import Columns
from lsncli.images.source_kinds import ListingOptions
from lsncli.store.reader import read_split

FEATURES = Path("lsn-work/features.h5")


@pytest.fixture
def photos(tmp_path: Path) -> list[str]:
    """Two images, by the names that lists know them by."""
    for at in range(2):
        Image.fromarray(np.full((8, 8, 3), 90 * at, np.uint8)).save(tmp_path / f"{at}.png")
    return ["0.png", "1.png"]


def write(folder: Path, text: str) -> Path:
    (folder / "l.csv").write_text(text)
    return folder / "l.csv"


def test_extract_says_which_columns_it_took(lsn, tmp_path: Path, tiny_model: str, photos) -> None:
    path = write(tmp_path, "file_name;variety\n0.png;cat\n1.png;dog\n")
    done = lsn("extract", path, "--model", tiny_model, "--device", "cpu")
    assert done.code == 0, done.err
    line = "l.csv: paths from column 'file_name', classes from column 'variety', separated by semicolons"
    assert f"{line}; line 1 is a header." in " ".join(done.err.split())
    assert "l.csv" not in done.out
    stored = read_split(FEATURES, "train")
    assert (stored.keys, stored.classes, stored.labels.tolist()) == (tuple(photos), ("cat", "dog"), [0, 1])
    assert lsn("extract", path, "--model", tiny_model, "--device", "cpu", "-q").err == ""


def test_columns_that_cannot_be_told_are_usage_errors(lsn, tmp_path: Path, photos) -> None:
    path = write(tmp_path, "img,label,variety\n0.png,1,cat\n1.png,2,dog\n")
    done = lsn("extract", path, "--model", "mini")
    assert done.code == 2
    assert "'label', 'variety'. Choose one with --label-column" in " ".join(done.err.split())
    done = lsn("extract", path, "--model", "mini", "--label-column", "kind")
    assert done.code == 2
    assert "has no column 'kind'. Its columns are 'img', 'label', 'variety'." in " ".join(done.err.split())
    assert not FEATURES.exists()


class Listed(UsageError):
    """Raised in place of listing, so that nothing else is done."""


COMMANDS = {
    "extract": ["l.csv"],
    "score": ["l.csv", "--classes", "cat,dog"],
    "calibrate": ["l.csv", "--classes", "cat,dog"],
    "report": ["l.csv", "--classes", "cat,dog"],
    "not": ["l.csv"],
    "train-head": ["l.csv", "--tune", "all"],
}
UNLABELLED = ("score", "calibrate")


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_drops_what_was_asked_for(
    lsn, tmp_path: Path, monkeypatch, tiny_model: str, command: str
) -> None:
    listed: list[Columns] = []

    def find_sources(path: Path, options: ListingOptions, follow_links: bool) -> None:
        listed.append(options.columns)
        raise Listed("listed")

    # Called by ``list_images`` alone, which modules that are first imported here keep as it is.
    monkeypatch.setattr("lsncli.images.listing.find_sources", find_sources)
    write(tmp_path, "a,b\n0.png,cat\n")
    label = [] if command in UNLABELLED else ["--label-column", "b"]
    words = [
        command,
        *COMMANDS[command],
        "--model",
        tiny_model,
        "--device",
        "cpu",
        "--path-column",
        "a",
        *label,
    ]
    assert "listed" in lsn(*words).err
    assert listed == [Columns("a", labelled=False) if command in UNLABELLED else Columns("a", "b")]


@pytest.mark.parametrize(
    "words",
    [
        ["score", "--split", "test", "--path-column", "a"],
        ["calibrate", "--method", "mcm", "--path-column", "a"],
        ["not", "--label-column", "a"],
        ["train-head", "--label-column", "a"],
        ["train-head", "--kind", "dualcoop", "--path-column", "a"],
    ],
)
def test_options_without_images_are_refused(lsn, tmp_path: Path, words: list[str]) -> None:
    imported_workspace(tmp_path / "lsn-work")
    done = lsn(*words)
    assert done.code == 2
    assert words[-2] in done.err


def test_import_says_where_labels_come_from(lsn, tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text("u,target,kind,v\n1,0,07,2\n3,1,7,4\n")
    done = lsn("store", "import", "f.csv", "--model", "theirs", "--label-column", "kind")
    assert done.code == 0, done.err
    assert "f.csv: labels from 'kind'." in done.err
    stored = read_split(FEATURES, "train")
    assert (stored.classes, stored.features.tolist()) == (("07", "7"), [[1, 2], [3, 4]])
    (tmp_path / "f.csv").write_text("u,target,v\n1,0,2\n3,1,4\n")  # still no feature
    (tmp_path / "l.txt").write_text("cat\ndog\n")
    done = lsn("store", "import", "f.csv", "--model", "theirs", "--labels", "l.txt", "--overwrite")
    assert done.code == 0, done.err
    assert read_split(FEATURES, "train").classes == ("cat", "dog")
