"""``lsn store duplicates``: tables, formats, what it advises, and what ``lsn eval`` says of leaks."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from workspace_samples import workspace

from lsncli.store.reader import read_fingerprint, read_split
from lsncli.store.writer import write_split


@pytest.fixture
def store(tmp_path: Path, tiny_backbone) -> Path:
    """A workspace in which test has a copy of a training image, and far two near copies of one another."""
    store = workspace(tmp_path / "lsn-work", tiny_backbone.fingerprint).features
    train, test, far = (read_split(store, name) for name in ("train", "test", "far"))
    copied = test.features.copy()
    copied[4] = train.features[1]
    copied[9] = train.features[13]
    write_split(store, replace(test, features=copied), read_fingerprint(store), replace=True)
    near = far.features.copy()
    near[7] = near[2] * np.float16(1.25) + np.float16(0.1)
    write_split(store, replace(far, features=near), read_fingerprint(store), replace=True)
    return store


def test_the_table_names_each_copy_and_stderr_says_what_to_do(lsn, store, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    done = lsn("store", "duplicates")
    assert done.code == 0
    lines = [line.split() for line in done.out.splitlines()[2:]]
    lines = [["COS" if word.startswith("0.99") else word for word in line] for line in lines]
    assert lines == [
        ["1", "test", "test/009.jpg", "cat", "1.0000", "keep"],
        ["1", "train", "train/013.jpg", "dog", "1.0000", "leave", "out"],
        ["2", "test", "test/004.jpg", "dog", "1.0000", "keep"],
        ["2", "train", "train/001.jpg", "dog", "1.0000", "leave", "out"],
        ["3", "far", "far/002.jpg", "COS", "keep"],
        ["3", "far", "far/007.jpg", "COS", "leave", "out"],
    ]
    assert all(len(line) <= 80 for line in done.out.splitlines())
    assert "3 groups of copies, 6 among 72 images of train, far, near, test, compared within each" in done.err
    assert (
        "with train: 4 images with identical features, 2 of the groups in several splits, 1 with" in done.err
    )
    assert "The first group has different classes" in done.err
    assert "To leave out 3: `lsn store duplicates --format csv --output copies.csv`" in done.err
    assert "extract train, far again" in done.err
    assert lsn("store", "duplicates", "--quiet").err == ""


def test_programs_get_every_field(lsn, store) -> None:
    rows = json.loads(lsn("store", "duplicates", "--format", "json").out)
    assert list(rows[0]) == ["group", "split", "key", "class", "cosine", "exact", "leave_out", "conflict"]
    assert [row["group"] for row in rows] == [1, 1, 2, 2, 3, 3]
    assert [row["exact"] for row in rows] == [True] * 4 + [False] * 2
    assert [row["conflict"] for row in rows] == [True] * 2 + [False] * 4
    assert [row["leave_out"] for row in rows] == [False, True] * 3
    assert rows[4]["cosine"] < 1


def test_splits_and_the_measure_can_be_chosen(lsn, store) -> None:
    def groups(*words: object) -> list[set[str]]:
        done = lsn("store", "duplicates", "--format", "json", *words)
        assert done.code == 0
        found: dict[int, set[str]] = {}
        for row in json.loads(done.out):
            found.setdefault(row["group"], set()).add(row["key"])
        return list(found.values())

    far, one = {"far/002.jpg", "far/007.jpg"}, {"test/004.jpg", "train/001.jpg"}
    assert groups("--split", "far", "--against", "near") == [far]
    assert groups("--split", "train", "--against", "far") == [far]
    assert groups("--exact") == [{"test/009.jpg", "train/013.jpg"}, one]
    assert far in groups("--cosine", "0.99")
    assert sum(map(len, groups("--cosine", "0.5"))) > 6


def test_nothing_is_found_where_nothing_is(lsn, tmp_path, tiny_backbone) -> None:
    workspace(tmp_path / "lsn-work", tiny_backbone.fingerprint)
    done = lsn("store", "duplicates", "--format", "csv")
    assert done.code == 0
    assert done.out == "group,split,key,class,cosine,exact,leave_out,conflict\n"
    assert done.err.startswith(
        "No copies among 72 images of train, far, near, test, compared within each split"
    )


def test_what_cannot_be_is_refused(lsn, store) -> None:
    done = lsn("store", "duplicates", "--exact", "--cosine", "0.9")
    assert done.code == 2
    assert "--exact and --cosine exclude one another" in done.err
    assert lsn("store", "duplicates", "--cosine", "1.5").code == 2
    done = lsn("store", "duplicates", "--split", "other")
    assert done.code == 1
    assert "has no split 'other'" in done.err
    assert lsn("store", "duplicates", "--work", "nowhere").code == 1


def test_an_evaluation_warns_of_copies_in_one_line(lsn, store) -> None:
    done = lsn("eval", "--method", "knn,k=3", "--device", "cpu")
    (warning,) = [line for line in done.err.splitlines() if "copies" in line]
    assert warning.startswith(
        "Warning: 2 of 21 images of test are copies of images of train, such as test/004.jpg"
    )
    assert "lsn store duplicates --split train" in warning
    assert lsn("eval", "--method", "knn,k=3", "--device", "cpu", "--quiet").err == ""


def test_a_page_shows_the_copies_side_by_side(lsn, tmp_path, tiny_model) -> None:
    random = np.random.default_rng(4)
    for split in ("train", "test"):
        for label in ("left", "right"):
            (tmp_path / split / label).mkdir(parents=True)
            for number in range(3):
                pixels = random.integers(0, 256, (32, 32, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / label / f"{number}.png")
    shutil.copyfile(tmp_path / "train" / "left" / "0.png", tmp_path / "test" / "left" / "9.png")
    for split in ("train", "test"):
        words = ("--split", split, "--model", tiny_model, "--device", "cpu", "--workers", "1", "--quiet")
        assert lsn("extract", split, *words).code == 0
    done = lsn("store", "duplicates", "--exact", "--page", "copies.html")
    assert done.code == 0, done.err
    assert "Wrote copies.html. Open it in a browser." in done.err
    page = (tmp_path / "copies.html").read_text(encoding="utf-8")
    assert page.count('<img src="data:image/jpeg') == 2
    assert page.count("left/") == 2
    (tmp_path / "train").rename(tmp_path / "moved")
    assert lsn("store", "duplicates", "--exact", "--page", "copies.html").code == 0
    page = (tmp_path / "copies.html").read_text(encoding="utf-8")
    assert page.count("<img") == 1
    assert "The images of train are not where they were" in page
    moved = ("--page", "copies.html", "--images", "train=moved")
    assert lsn("store", "duplicates", "--exact", *moved).code == 0
    assert (tmp_path / "copies.html").read_text(encoding="utf-8").count("<img") == 2
    done = lsn("store", "duplicates", "--exact", "--page", "copies.html", "--images", "other=moved")
    assert done.code == 2
    assert "--images names 'other'" in done.err


def test_a_page_that_cannot_be_written_is_refused_before_anything_is_compared(lsn, store) -> None:
    done = lsn("store", "duplicates", "--page", "lsn-work")
    assert done.code == 1
    assert done.out == ""
    assert "--page lsn-work cannot be written" in done.err
