"""CIFAR's own files: the same images in every version, and no pickle that runs anything."""

import os
import pickle
import struct
from io import BytesIO
from pathlib import Path

import numpy as np
import paper_datasets
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsncli.errors import LsnError
from lsncli.images.cifar import read_plain_pickle, scan_cifar
from lsncli.images.decode import decode
from lsncli.images.item import ImageItem
from lsncli.reference.classes import class_list

WRITERS = {
    "python": (paper_datasets.write_cifar_python, False),
    "binary": (paper_datasets.write_cifar_binary, False),
    "python archive": (paper_datasets.write_cifar_python, True),
    "binary archive": (paper_datasets.write_cifar_binary, True),
}


def made(root: Path, version: str, classes: int) -> Path:
    write, archive = WRITERS[version]
    write(root, classes, 2, 1, archive=archive)
    (path,) = root.iterdir()
    return path


@pytest.mark.parametrize("version", WRITERS)
@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize("role", ["train", "test"])
def test_every_version_holds_the_pixels_and_labels_that_were_written(
    tmp_path: Path, version: str, classes: int, role: str
) -> None:
    names = class_list(f"cifar{classes}").names
    found = {one.key: one for one in scan_cifar(made(tmp_path, version, classes), classes, role, names)}
    written = {
        (f"{names[label]}/{file}-{number:05d}"): pixels[number]
        for file, (labels, pixels) in paper_datasets.cifar_files(classes, 2, 1).items()
        if file.startswith("test") == (role == "test")
        for number, label in enumerate(labels)
    }
    assert found.keys() == written.keys()
    for key, row in written.items():
        one = found[key]
        assert one.folder == key.partition("/")[0]
        assert one.content is not None
        image = np.asarray(decode(one.content.read(one.offset or 0, one.size)))
        assert np.array_equal(image, row.reshape(3, 32, 32).transpose(1, 2, 0))
        assert one.size == len(one.content.read(one.offset or 0, one.size))


def python2(labels: list[int], pixels: np.ndarray) -> bytes:
    """The very opcodes that Python 2 wrote: texts and arrays are byte strings."""
    data = pixels.tobytes()
    rows = struct.pack("<H", pixels.shape[0])
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01M"
        + rows
        + b"M\x00\x0c\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNN"
        + b"J\xff\xff\xff\xffJ\xff\xff\xff\xff"
        + b"K\x00tb\x89T"
        + struct.pack("<I", len(data))
        + data
        + b"tb"
    )
    numbers = b"".join(b"K" + bytes([one]) + b"a" for one in labels)
    return b"\x80\x02}(U\x04dataq\x01" + array + b"U\x06labels]" + numbers + b"u."


def test_a_pickle_of_python_2_is_read(tmp_path: Path) -> None:
    pixels = np.arange(2 * 3072, dtype=np.uint32).astype(np.uint8).reshape(2, 3072)
    (tmp_path / "test_batch").write_bytes(python2([3, 9], pixels))
    found = scan_cifar(tmp_path, 10, "test", class_list("cifar10").names)
    assert [one.key for one in found] == ["cat/test_batch-00000", "truck/test_batch-00001"]
    assert np.array_equal(read_plain_pickle(BytesIO(python2([3, 9], pixels)), "x")["data"], pixels)


class Evil:
    """Pickles as a call of ``function``."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


HOSTILE = {
    "a shell": lambda mark: Evil(os.system, f"touch {mark}"),
    "eval": lambda mark: Evil(eval, f"open({str(mark)!r}, 'w')"),
    "open": lambda mark: Evil(open, str(mark), "w"),
    "getattr": lambda mark: Evil(getattr, {}, "keys"),
    "numpy": lambda mark: Evil(np.save, str(mark), [1]),
    "import": lambda mark: Evil(__import__, "antigravity"),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_calls_anything_is_refused_and_nothing_is_called(
    tmp_path: Path, name: str, protocol: int
) -> None:
    mark = tmp_path / "called.npy"
    evil = HOSTILE[name](mark)
    (tmp_path / "test_batch").write_bytes(pickle.dumps({b"data": evil, b"labels": [0]}, protocol=protocol))
    with pytest.raises(LsnError, match=r"test_batch cannot be read as a pickle of CIFAR: .*is refused"):
        scan_cifar(tmp_path, 10, "test", class_list("cifar10").names)
    assert not mark.exists()


BROKEN = {
    "no dictionary": [1, 2],
    "no data": {b"labels": [0]},
    "objects": {b"data": np.array([None, "x"], dtype=object), b"labels": [0, 1]},
    "floats": {b"data": np.zeros((1, 3072)), b"labels": [0]},
    "by column": {b"data": np.asfortranarray(np.zeros((2, 3072), np.uint8)), b"labels": [0, 1]},
    "other size": {b"data": np.zeros((1, 3071), np.uint8), b"labels": [0]},
    "other count": {b"data": np.zeros((2, 3072), np.uint8), b"labels": [0]},
    "a label too high": {b"data": np.zeros((1, 3072), np.uint8), b"labels": [10]},
    "a label below": {b"data": np.zeros((1, 3072), np.uint8), b"labels": [-1]},
    "labels as text": {b"data": np.zeros((1, 3072), np.uint8), b"labels": ["0"]},
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_cifar_is_refused_in_a_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / "test_batch").write_bytes(pickle.dumps(BROKEN[name], protocol=2))
    with pytest.raises(LsnError, match="test_batch"):
        scan_cifar(tmp_path, 10, "test", class_list("cifar10").names)


GOOD = pickle.dumps({b"data": np.zeros((1, 3072), np.uint8), b"labels": [0]}, protocol=2)


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_a_damaged_pickle_is_read_or_refused(at: int, byte: int) -> None:
    data = bytearray(GOOD)
    data[at] = byte
    for content in (bytes(data), GOOD[:at]):
        try:
            found = read_plain_pickle(BytesIO(content), "x")
        except LsnError:
            continue
        assert isinstance(found, dict)


def test_a_binary_file_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    path = made(tmp_path, "binary", 10) / "test_batch.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(LsnError, match=r"test_batch\.bin: expected records of 3073 bytes"):
        scan_cifar(path.parent, 10, "test", class_list("cifar10").names)


def test_a_missing_batch_is_named(tmp_path: Path) -> None:
    path = made(tmp_path, "python", 10)
    (path / "data_batch_4").unlink()
    with pytest.raises(LsnError, match="no file 'data_batch_4'"):
        scan_cifar(path, 10, "train", class_list("cifar10").names)


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cifar-10-python.tar.gz"
    path.write_bytes(b"no archive")
    with pytest.raises(LsnError, match=r"cifar-10-python\.tar\.gz cannot be read"):
        scan_cifar(path, 10, "test", class_list("cifar10").names)


def test_samples_are_found(tmp_path: Path) -> None:
    found = scan_cifar(made(tmp_path, "python", 10), 10, "test", class_list("cifar10").names)
    assert len(found) == 10
    assert all(isinstance(one, ImageItem) for one in found)
