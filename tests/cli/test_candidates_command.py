"""``lsn candidates``: a captioner or one's own lists, in words and exit codes."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bundled_features import bundled_fingerprint, tiny_twenty
from cli_samples import imported_workspace
from PIL import Image

from lsncli.store.writer import write_split


@pytest.fixture
def work(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setenv("LSN_WORK", str(tmp_path / "work"))
    return imported_workspace(tmp_path / "work")


def test_ones_own_words_are_imported(lsn, work, tmp_path) -> None:
    (tmp_path / "words.csv").write_text("".join(f"{n}.jpg,sofa;tree;word{n % 3}\n" for n in range(40)))
    done = lsn("candidates", "--from", "words.csv", "--format", "json")
    assert done.code == 0, done.err
    assert json.loads(done.out) == [
        {"split": "test", "images": 40, "words": 5, "words_per_image": 3.0, "resumed": 0}
    ]
    assert "test.jsonl" in done.err
    assert len((work / "candidates" / "test.jsonl").read_text().splitlines()) == 40


def test_a_captioner_proposes_words_for_the_images_of_the_split(lsn, work, tmp_path, tiny_coca) -> None:
    random = np.random.default_rng(3)
    (tmp_path / "images").mkdir()
    for number in range(40):
        pixels = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number}.jpg")
    words = ("candidates", "images", "--captioner", tiny_coca, "--top", 5, "--steps", 2, "--format", "json")
    done = lsn(*words, "--device", "cpu", "--workers", 1)
    assert done.code == 0, done.err
    (row,) = json.loads(done.out)
    assert row["images"] == 40
    assert 0 < row["words_per_image"] <= 10
    lines = [json.loads(line) for line in (work / "candidates" / "test.jsonl").read_text().splitlines()]
    assert {line["key"] for line in lines} == {f"{number}.jpg" for number in range(40)}
    assert all(set(line) == {"key", "candidates", "caption"} for line in lines)


def test_images_or_words_but_not_both_nor_neither(lsn, work) -> None:
    for words in ([], ["images", "--from", "words.csv"], ["images", "--vocabulary", "dtd"]):
        done = lsn("candidates", *words)
        assert (done.code, done.out) == (2, "")
        assert "either images, --from FILE or --vocabulary" in done.err


def test_missing_images_and_splits_are_errors(lsn, work, tmp_path) -> None:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "images" / "0.jpg")
    done = lsn("candidates", "images")
    assert done.code == 1
    assert "39 of the 40 images of split 'test' are not in images, such as '1.jpg'" in done.err
    assert lsn("candidates", "images", "--split", "other").code == 1
    (tmp_path / "images" / "1.jpg").write_bytes(b"")
    (tmp_path / "words.csv").write_text("0.jpg,sofa\n")
    done = lsn("candidates", "--from", "words.csv")
    assert done.code == 1
    assert "lacks 39 of the 40 images" in done.err


def test_words_are_chosen_from_a_list_without_images(lsn, tmp_path, monkeypatch) -> None:
    work = tmp_path / "mini"
    work.mkdir()
    write_split(work / "features.h5", replace(tiny_twenty("val"), name="test"), bundled_fingerprint())
    monkeypatch.setenv("LSN_WORK", str(work))
    (tmp_path / "words.txt").write_text("beach\nkimono\nschool bus\n")
    words = ("candidates", "--vocabulary", "words.txt", "--format", "json")
    done = lsn(*words, "--top", 2)
    assert done.code == 0, done.err
    (row,) = json.loads(done.out)
    assert (row["images"], row["words"], row["words_per_image"]) == (1000, 3, 2.0)
    done = lsn(*words, "--top", 4)
    assert (done.code, done.out) == (2, "")
    assert "expected 1 to 3" in done.err
    done = lsn(*words)  # fewer than ZOC's 35
    assert done.code == 0, done.err
    assert json.loads(done.out)[0]["words_per_image"] == 3.0
