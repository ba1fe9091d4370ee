"""lsn extract as a function: resume, failures, refusals."""

import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_backbone import DIM, FakeBackbone, make_images, png
from PIL import Image

from lsncli.errors import FingerprintMismatch, LsnError, TooManyFailures, UsageError
from lsncli.extraction.extract import Extraction, extract
from lsncli.images.listing import list_images
from lsncli.store.reader import list_splits, read_split
from lsncli.store.staging import parts_folder
from lsncli.store.verify import verify


def run(root: Path, images: Path | None = None, **options: object) -> Extraction:
    settings = {"store": root / "f.h5", "split": "train", "backbone": FakeBackbone()}
    settings |= {"batch_size": 4, "workers": 2, "commit_seconds": 0.0}
    path = images or root / "images"
    return extract(list_images([path]), source=str(path), **{**settings, **options})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_images(tmp_path / "images", 22)
    return tmp_path


def test_every_image_has_its_row(root: Path) -> None:
    done = run(root)
    split = read_split(root / "f.h5", "train")
    listing = list_images([root / "images"])
    assert split.keys == tuple(item.key for item in listing.items)
    assert split.labels.tolist() == [item.label for item in listing.items]
    assert split.classes == ("class 0", "class 1")
    assert split.source == str(root / "images")
    assert split.listing == listing.digest
    assert split.features.shape == (22, DIM)
    assert (done.split, done.rows, done.resumed, done.failures, done.already) == ("train", 22, 0, (), False)
    assert done.images_per_second > 0
    assert verify(root / "f.h5") == []
    assert sorted(path.name for path in root.iterdir()) == ["f.h5", "images"]


def test_a_tar_gives_the_rows_of_its_folder(root: Path) -> None:
    run(root)
    with tarfile.open(root / "images.tar", "w") as tar:
        tar.add(root / "images", "images")
    run(root, root / "images.tar", split="packed")
    one, two = read_split(root / "f.h5", "train"), read_split(root / "f.h5", "packed")
    assert (one.features == two.features).all()
    assert (one.keys, one.listing) == (two.keys, two.listing)


def test_a_finished_split_is_left_alone(root: Path) -> None:
    run(root)
    before = (root / "f.h5").read_bytes()
    backbone = FakeBackbone()
    ticks: list[int] = []
    done = run(root, backbone=backbone, batch_size=7, progress=lambda step, note="": ticks.append(step))
    assert (done.already, done.resumed, done.rows) == (True, 22, 22)
    assert backbone.encoded == 0
    assert ticks == [22]
    assert (root / "f.h5").read_bytes() == before


class Stops(FakeBackbone):
    """Is interrupted after some batches."""

    def __init__(self, batches: int, error: type[BaseException] = KeyboardInterrupt) -> None:
        super().__init__()
        self.left, self.error = batches, error

    def encode(self, pixels):  # type: ignore[no-untyped-def]
        if self.left == 0:
            raise self.error
        self.left -= 1
        return super().encode(pixels)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("commit_seconds", [0.0, 1e9])
def test_an_interrupted_run_resumes_and_ends_in_the_same_bytes(
    root: Path, error: type[BaseException], commit_seconds: float
) -> None:
    run(root, store=root / "whole.h5")
    with pytest.raises(error):
        run(root, backbone=Stops(3, error), commit_seconds=commit_seconds)
    assert not (root / "f.h5").exists()
    backbone = FakeBackbone()
    ticks: list[int] = []
    done = run(root, backbone=backbone, progress=lambda step, note="": ticks.append(step))
    assert done.resumed == 12
    assert backbone.encoded == 10
    assert ticks == [12, 4, 4, 2]
    assert (root / "f.h5").read_bytes() == (root / "whole.h5").read_bytes()


def test_other_arguments_do_not_resume(root: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(root, backbone=Stops(3))
    with pytest.raises(LsnError, match="batch size was 4, is 5"):
        run(root, batch_size=5)
    names = root / "names.txt"
    names.write_text("cat\ndog\n")
    with pytest.raises(LsnError, match="class names"):
        run(root, names_file=names)
    with pytest.raises(LsnError, match="fingerprint was"):
        run(root, backbone=FakeBackbone("other"))
    assert run(root, batch_size=5, overwrite=True).resumed == 0


def test_other_images_need_overwrite(root: Path) -> None:
    run(root)
    make_images(root / "images", 25)
    with pytest.raises(LsnError, match="of other images: 22 then, 25 now") as caught:
        run(root)
    assert "--overwrite" in caught.value.hint
    assert "--retry-failed" not in caught.value.hint
    assert run(root, overwrite=True).rows == 25


@pytest.mark.parametrize("kind", ["folder", "csv", "parquet", "tar"])
def test_classes_of_one_text_are_refused_before_anything_is_encoded(
    tmp_path: Path, tiny_backbone, kind
) -> None:
    images = tmp_path / "photos"
    for name, colour in (("Church", 1), ("church", 2), ("castle", 3)):
        (images / name).mkdir(parents=True)
        (images / name / "a.png").write_bytes(png(colour, 1, 1))
    source = packed_as(kind, images)
    with pytest.raises(UsageError, match="'Church', 'church' are one text"):
        extract(
            list_images([source]), source="", store=tmp_path / "s.h5", split="train", backbone=tiny_backbone
        )
    assert not (tmp_path / "s.h5").exists()
    names = tmp_path / "names.txt"
    names.write_text("Church\ttown church\nchurch\tvillage church\ncastle\tcastle\n")
    listing = list_images([source])
    extract(
        listing, source="", store=tmp_path / "s.h5", split="train", backbone=tiny_backbone, names_file=names
    )
    assert list_splits(tmp_path / "s.h5")["train"].classes == ("town church", "castle", "village church")


@pytest.mark.parametrize("kind", ["folder", "csv", "parquet", "tar"])
def test_class_number_k_is_name_k_whatever_holds_the_images(tmp_path: Path, kind: str) -> None:
    """Features of an image depend on its colour, which its class number decides."""
    numbers, names = range(12), tmp_path / "names.txt"
    for number in numbers:
        (tmp_path / "photos" / str(number)).mkdir(parents=True)
        (tmp_path / "photos" / str(number) / "a.png").write_bytes(png(20 * number, 10, 10))
    names.write_text("# in order\n" + "".join(f"name {number}\n" for number in numbers))
    backbone, said = FakeBackbone(), []
    extract(
        list_images([packed_as(kind, tmp_path / "photos")]),
        source="",
        store=tmp_path / "s.h5",
        split="train",
        backbone=backbone,
        names_file=names,
        remark=said.append,
    )
    split = read_split(tmp_path / "s.h5", "train")
    pixels = [backbone.preprocess(Image.new("RGB", (4, 4), (20 * number, 10, 10))) for number in numbers]
    expected = backbone.encode(torch.stack(pixels))
    for row, label in zip(split.features, split.labels, strict=True):
        assert np.array_equal(row, expected[int(split.classes[label].removeprefix("name "))])
    assert said == [f"Class 0 is name 0 of {names}, counted from 0: 'name 0'."]


def packed_as(kind: str, images: Path) -> Path:
    """A folder of class folders, or the same images in a list, a table or a tar."""
    files = sorted(images.rglob("*.png"))
    if kind == "csv":
        rows = "".join(f"{file.relative_to(images).as_posix()},{file.parent.name}\n" for file in files)
        (images / "list.csv").write_text("path,class\n" + rows)
        return images / "list.csv"
    if kind == "parquet":
        pa = pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")
        pytest.importorskip("pyarrow.parquet")
        names = [file.parent.name for file in files]
        labels = [int(name) for name in names] if all(map(str.isdecimal, names)) else names
        table = pa.table({"image": [file.read_bytes() for file in files], "label": labels})
        pa.parquet.write_table(table, images / "t.parquet")
        return images / "t.parquet"
    if kind == "tar":
        with tarfile.open(images / "x.tar", "w") as tar:
            for file in files:
                tar.add(file, arcname=file.relative_to(images).as_posix())
        return images / "x.tar"
    return images


def test_other_class_names_need_overwrite(root: Path) -> None:
    run(root)
    (root / "names.json").write_text(json.dumps(["cat", "class 1"]))
    with pytest.raises(LsnError, match="'class 0' then, 'cat' now"):
        run(root, names_file=root / "names.json")
    run(root, names_file=root / "names.json", overwrite=True)
    assert read_split(root / "f.h5", "train").classes == ("cat", "class 1")


def test_another_model_is_refused_before_any_work(root: Path) -> None:
    run(root)
    other = FakeBackbone("other")
    for options in ({}, {"split": "test"}, {"overwrite": True}):
        with pytest.raises(FingerprintMismatch):
            run(root, backbone=other, **options)
    assert other.encoded == 0


def test_the_source_is_stored_without_control_characters(root: Path) -> None:
    listing = list_images([root / "images"])
    done = extract(
        listing, source="photos\x1b", store=root / "f.h5", split="train", backbone=FakeBackbone(), workers=1
    )
    assert done.rows == 22
    assert list_splits(root / "f.h5")["train"].source == "photos\\x1b"


def test_a_folder_without_images_says_what_was_looked_for(root: Path) -> None:
    (root / "empty").mkdir()
    (root / "empty/notes.txt").write_text("x")
    with pytest.raises(LsnError, match=r"no images in .*empty \(1 other files") as caught:
        run(root, root / "empty")
    assert ".jpg" in caught.value.hint


@pytest.mark.parametrize(
    "options", [{"split": "a/b"}, {"max_failure_rate": 5.0}, {"batch_size": 0}, {"workers": -1}]
)
def test_options_that_cannot_be_meant_are_usage_errors(root: Path, options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        run(root, **options)


def test_failures_are_recorded_with_reasons_and_above_the_limit_end_in_exit_3(root: Path) -> None:
    make_images(root / "images", 22, broken=(3, 9))
    (root / "images/class_0/up").symlink_to("..")
    with pytest.raises(
        TooManyFailures, match=r"3 of 23 images failed, more than the allowed 5\.0%"
    ) as caught:
        run(root)
    assert caught.value.exit_code == 3
    assert "class_0/up/: a symbolic link" in caught.value.message
    split = read_split(root / "f.h5", "train")
    assert [failure.key for failure in split.failures] == [
        "class_0/up/",
        "class_1/0003.png",
        "class_1/0009.png",
    ]
    assert "begins like a PNG image" in split.failures[1].reason
    assert len(split.keys) == 20
    assert verify(root / "f.h5") == []
    with pytest.raises(TooManyFailures):  # nothing is done again, and nothing is glossed over
        run(root)
    done = run(root, max_failure_rate=0.2)
    assert (done.already, len(done.failures)) == (True, 3)


def test_a_split_of_failures_alone_is_written(tmp_path: Path) -> None:
    make_images(tmp_path / "images", 5, broken=(0, 1, 2, 3, 4))
    with pytest.raises(TooManyFailures, match="5 of 5 images failed"):
        run(tmp_path)
    info = list_splits(tmp_path / "f.h5")["train"]
    assert (info.rows, info.dim, len(info.failures)) == (0, DIM, 5)
    assert verify(tmp_path / "f.h5") == []
    assert run(tmp_path, max_failure_rate=1.0).rows == 0


def test_a_link_to_itself_fails_and_the_run_goes_on(root: Path) -> None:
    (root / "images/class_0/self.png").symlink_to("self.png")
    done = run(root)
    assert [failure.reason for failure in done.failures] == ["a symbolic link loop"]
    assert done.rows == 22


def test_file_names_of_any_bytes_are_keys(tmp_path: Path) -> None:
    names = [b"caf\xe9.png", "ünï\u202ecode\n.png".encode(), b'a,"b"\t.png', b"\x1b[31m.png"]
    (tmp_path / "images").mkdir()
    for index, name in enumerate(names):
        with open(os.path.join(os.fsencode(tmp_path / "images"), name), "wb") as file:
            file.write(png(index + 1, 2, 3))
    run(tmp_path)
    assert {os.fsencode(key) for key in read_split(tmp_path / "f.h5", "train").keys} == set(names)


def test_leftover_pieces_of_a_finished_split_are_removed(root: Path) -> None:
    run(root)
    folder = parts_folder(root / "f.h5", "train")
    folder.mkdir(parents=True)
    (folder / "rows-000000000000-000000000004.h5").write_bytes(b"x")
    assert run(root).already
    assert not folder.parent.exists()
