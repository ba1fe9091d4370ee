"""``lsn score`` on a folder in which all that can go wrong did: good images scored, bad ones named."""

import csv
import io
import json
import os
import sys
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from cli_runner import exit_code
from PIL import Image
from sklearn.datasets import load_sample_image

GOOD = ("animated.gif", "cmyk.jpg", "deep.png", "fine.jpg", "two\nlines.jpg", "linked.jpg", "clear.png")
BAD = {
    "empty.jpg": "an empty file",
    "text.jpg": "not an image",
    "truncated.jpg": "truncated",
    "loop.jpg": "a symbolic link loop",
    "sub/": "a symbolic link back to one of its own parent folders",
    "pipe.jpg": "not a regular file",
    "bomb.png": "too large",
    "outside.jpg": "a link that leads out of the folder, which is not followed",
    "photos/": "a link that leads out of the folder, which is not followed",
}
ALL = len(GOOD) + len(BAD)


def crops(photo: str, folder: Path, count: int) -> None:
    pixels = load_sample_image(photo)
    folder.mkdir(parents=True)
    for i in range(count):
        Image.fromarray(pixels[20 * i : 20 * i + 120, 30 * i : 30 * i + 120]).save(folder / f"{i}.jpg")


def make_broken(folder: Path) -> None:
    photo = Image.fromarray(load_sample_image("flower.jpg")).resize((160, 120))
    folder.mkdir()
    photo.save(folder / "fine.jpg")
    photo.save(folder / "two\nlines.jpg")
    photo.convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257).save(folder / "deep.png")
    frames = [photo.convert("P"), photo.rotate(90).convert("P")]
    frames[0].save(folder / "animated.gif", save_all=True, append_images=frames[1:])
    data = (folder / "fine.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(data[: len(data) // 2])
    (folder / "text.jpg").write_text("This is not an image.\n")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "linked.jpg").symlink_to("fine.jpg")
    clear = photo.copy()
    clear.putalpha(200)
    clear.save(folder / "clear.png")
    os.mkfifo(folder / "pipe.jpg")
    png = (folder / "clear.png").read_bytes()
    header = b"IHDR" + (60_000).to_bytes(4, "big") * 2 + png[24:29]
    (folder / "bomb.png").write_bytes(png[:12] + header + zlib.crc32(header).to_bytes(4, "big") + png[33:])
    (folder / "outside.jpg").symlink_to("../photos/flower/0.jpg")
    (folder / "photos").symlink_to("../photos")
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "sub").symlink_to(".")
    (folder / "notes.md").write_text("skipped")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with ``broken/`` and a workspace whose detector knows two classes by their names alone."""
    place = tmp_path_factory.mktemp("broken-folder")
    crops("flower.jpg", place / "photos" / "flower", 8)
    crops("china.jpg", place / "photos" / "temple", 8)
    make_broken(place / "broken")
    work = ["--work", str(place / "work"), "--quiet"]
    for words in (
        ["extract", str(place / "photos"), "--model", "mini", "--device", "cpu"],
        ["calibrate", "--method", "mcm"],
    ):
        assert exit_code(*words, *work, "--output", str(place / "log")) == 0
    return place


@pytest.fixture
def score(lsn, place, monkeypatch):
    def run(*words: str):
        monkeypatch.chdir(place)
        return lsn("score", "broken", "--work", "work", "--device", "cpu", *words)

    return run


def check(rows: list[dict[str, str | None]]) -> None:
    found = {str(row["path"]).removeprefix("broken/"): row for row in rows}
    assert found.keys() == {*GOOD, *BAD}
    for name in GOOD:
        row = found[name]
        assert not row["error"]
        assert row["predicted"] in ("flower", "temple")
        assert 0.5 <= float(row["score"] or 0) <= 1
        assert str(row["is_ood"]) == str(float(row["score"] or 0) < float(row["threshold"] or 0))
    for name, reason in BAD.items():
        row = found[name]
        assert str(row["error"]).startswith(reason)
        assert not row["predicted"]
        assert not row["score"]
        assert not row["is_ood"]
    assert found["fine.jpg"]["score"] == found["linked.jpg"]["score"] == found["two\nlines.jpg"]["score"]


def test_csv_names_every_good_and_every_bad_image(score) -> None:
    done = score("--format", "csv")
    check(list(csv.DictReader(io.StringIO(done.out, newline=""))))
    assert done.code == 3
    assert f"{ALL} images: " in done.err
    assert f"{len(BAD)} unreadable" in done.err
    assert f"{len(BAD)} of {ALL} images failed, more than the allowed 5.0%." in done.err
    assert "Skipped, as hidden or no image: 1." in done.err  # the notes


def test_jsonl_names_every_good_and_every_bad_image(score) -> None:
    done = score("--format", "jsonl", "--max-failure-rate", "1")
    assert (done.code, done.out.count("\n")) == (0, ALL)
    check([json.loads(line) for line in done.out.splitlines()])


def test_a_table_shows_them_without_breaking_a_line(score) -> None:
    done = score("--max-failure-rate", "1", "--quiet")
    assert (done.code, done.err) == (0, "")
    assert "two\\nlines.jpg" in done.out
    for name in (*GOOD, *BAD):
        assert name.replace("\n", "\\n") in done.out
    for reason in ("an empty file", "truncated", "link loop"):
        assert reason in done.out
    assert max(map(len, done.out.splitlines())) <= 100


def test_only_failed_names_every_failure_and_only_ood_counts_them(score) -> None:
    done = score("--only", "failed", "--format", "jsonl", "--max-failure-rate", "1")
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert {row["path"].removeprefix("broken/") for row in rows} == BAD.keys()
    done = score("--only", "ood", "--format", "jsonl", "--max-failure-rate", "1")
    assert all(json.loads(line)["is_ood"] for line in done.out.splitlines())
    assert f"{len(BAD)} unreadable" in done.err


def test_a_rate_between_decides(score, lsn, place) -> None:
    assert score("--max-failure-rate", str(len(BAD) / ALL + 0.01)).code == 0
    assert score("--max-failure-rate", str(len(BAD) / ALL - 0.01)).code == 3
    two = ["score", place / "broken" / "fine.jpg", place / "broken" / "empty.jpg", "--work", place / "work"]
    assert lsn(*two, "--max-failure-rate", "0.5").code == 0  # as many as allowed are allowed
    assert lsn(*two, "--max-failure-rate", "0.49").code == 3


def test_extract_records_the_same_failures(lsn, place, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(place)
    words = ["extract", "broken", "--model", "mini", "--device", "cpu", "--work", tmp_path / "w"]
    done = lsn(*words)
    assert done.code == 3
    assert f"{len(BAD)} of {ALL} images failed" in done.err
    listed = lsn("store", "info", "--failures", "--format", "json", "--work", tmp_path / "w")
    assert {row["key"]: row["reason"].split(":")[0].split(" (")[0] for row in json.loads(listed.out)} == BAD


def test_links_out_of_the_folder_are_followed_when_asked(score) -> None:
    done = score("--follow-links", "--format", "jsonl", "--max-failure-rate", "1")
    rows = {row["path"]: row["error"] for row in map(json.loads, done.out.splitlines())}
    assert rows["broken/outside.jpg"] is None
    assert rows["broken/photos/temple/0.jpg"] is None
    assert rows["broken/sub/"] == BAD["sub/"]


def test_a_list_on_standard_input_a_pattern_and_a_packed_tar_in_the_order_given(
    lsn, place, monkeypatch
) -> None:
    monkeypatch.chdir(place)
    with tarfile.open("set.tar.gz", "w:gz") as packed:
        packed.add("photos/temple/1.jpg", "1.jpg")
        packed.add("broken/empty.jpg", "0.jpg")
    names = ["broken/two\nlines.jpg", "photos/flower/3.jpg", "nowhere.jpg", "photos/flower/3.jpg"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\0".join(names).encode())))
    words = ["score", "set.tar.gz", "-", "photos/*/[01].jpg", "--work", "work", "--device", "cpu"]
    done = lsn(*words, "--format", "jsonl", "--max-failure-rate", "1")
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert [row["path"] for row in rows] == [
        "set.tar.gz:0.jpg",
        "set.tar.gz:1.jpg",
        *names,
        *(f"photos/{name}/{number}.jpg" for name in ("flower", "temple") for number in (0, 1)),
    ]
    assert [row["error"] for row in rows if row["error"]] == ["an empty file", "no such file"]
    assert rows[3]["score"] == rows[5]["score"]
    assert rows[1]["score"] == pytest.approx(rows[-1]["score"], abs=1e-5)
