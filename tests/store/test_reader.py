"""Reading: every kind of broken or hostile file is one clear sentence."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_samples import fingerprint, split

from lsncli.errors import LsnError
from lsncli.store.reader import list_splits, read_fingerprint, read_split, read_text
from lsncli.store.verify import verify
from lsncli.store.writer import write_split, write_text


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "f.h5"
    write_split(path, split(), fingerprint())
    write_split(path, split("other", rows=0), fingerprint())
    write_text(path, ("x", "y"), np.ones((2, 4), np.float32))
    return path


def test_splits_are_described_without_their_rows(store: Path) -> None:
    found = list_splits(store)
    assert list(found) == ["other", "train"]
    info = found["train"]
    assert (info.rows, info.dim, info.classes) == (6, 4, split().classes)
    assert (info.failures, info.source, info.listing) == (split().failures, "photos", "ab" * 32)
    assert info.created_by.startswith("lsn ")
    assert found["other"].rows == 0


def test_a_missing_store_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(LsnError, match="There is no feature store") as caught:
        read_split(tmp_path / "f.h5", "train")
    assert "lsn extract" in caught.value.hint


def test_a_missing_split_says_which_there_are(store: Path) -> None:
    with pytest.raises(LsnError, match="no split 'test'; there are: other, train"):
        read_split(store, "test")


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "is empty"), (b"\x89HD", "not an HDF5 file"), (b"PK\x03\x04 some zip", "not an HDF5 file")],
)
def test_what_is_not_hdf5_is_said_to_be_no_store(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "f.h5").write_bytes(data)
    with pytest.raises(LsnError, match=message):
        list_splits(tmp_path / "f.h5")


def test_a_folder_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(LsnError, match="cannot be read"):
        list_splits(tmp_path)


def test_a_store_cut_short_is_damaged(store: Path) -> None:
    store.write_bytes(store.read_bytes()[:-100])
    with pytest.raises(LsnError, match="damaged: its end is missing"):
        read_split(store, "train")


def edit(store: Path, change: Callable[[h5py.File], object]) -> None:
    with h5py.File(store, "r+") as file:
        change(file)


def test_another_program_s_file_is_named_as_such(store: Path) -> None:
    edit(store, lambda f: f.attrs.__setitem__("format", np.bytes_("keras")))
    with pytest.raises(LsnError, match=r"of another program: expected.*'lsn-features', found 'keras'"):
        read_fingerprint(store)


def test_an_hdf5_file_without_our_attributes_is_another_program_s(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["x"] = [1, 2]
    with pytest.raises(LsnError, match="found 'none'"):
        list_splits(tmp_path / "f.h5")


def test_a_newer_version_asks_for_an_upgrade(store: Path) -> None:
    edit(store, lambda f: f.attrs.__setitem__("format_version", 3))
    with pytest.raises(LsnError, match="format version 3; this lsn reads versions 1 and 2") as caught:
        read_fingerprint(store)
    assert "Upgrade" in caught.value.hint


def swap(file: h5py.File, name: str, make: Callable[[h5py.Group, str], object]) -> None:
    """Put something else where a dataset or group of the train split was."""
    group = file["splits/train"]
    del group[name]
    make(group, name)


def soft(group: h5py.Group, name: str) -> None:
    group[name] = h5py.SoftLink("/splits/other/" + name)


def external(group: h5py.Group, name: str) -> None:
    group[name] = h5py.ExternalLink("/etc/hostname", "/x")


def virtual(group: h5py.Group, name: str) -> None:
    layout = h5py.VirtualLayout((6, 4), "<f2")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "x", (6, 4), dtype="<f2")
    group.create_virtual_dataset(name, layout)


def outside(group: h5py.Group, name: str) -> None:
    group.create_dataset(name, (6, 4), "<f2", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])


def chunked(group: h5py.Group, name: str) -> None:
    group.create_dataset(name, data=np.ones((6, 4), np.float16), compression="gzip")


def texts(letters: str) -> np.ndarray:
    return np.frombuffer("".join(letter + "\0" for letter in letters).encode(), np.uint8)


def claimed(group: h5py.Group, name: str) -> None:
    group.create_dataset(name, (1 << 40, 4), "<f2")


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("features", soft, "links are never followed"),
        ("features", external, "links are never followed"),
        ("failures", external, "links are never followed"),
        ("features", virtual, "virtual, external, chunked or compressed"),
        ("features", outside, "virtual, external, chunked or compressed"),
        ("features", chunked, "virtual, external, chunked or compressed"),
        ("features", claimed, "values that are not in the file"),
        ("features", lambda g, n: g.create_group(n), "is not a dataset"),
        ("failures", lambda g, n: g.create_dataset(n, data=[1]), "is not a group"),
        ("features", lambda g, n: None, "features is missing"),
        ("features", lambda g, n: g.create_dataset(n, data=np.ones((6, 4), "<f4")), "expected 2-dim.*<f2"),
        ("features", lambda g, n: g.create_dataset(n, data=np.ones(6, "<f2")), "expected 2-dimensional"),
        ("features", lambda g, n: g.create_dataset(n, data=np.ones((5, 4), "<f2")), "expected 6 features"),
        ("labels", lambda g, n: g.create_dataset(n, data=np.ones(6, "<i8")), "expected 1-dimensional <i4"),
        ("labels", lambda g, n: g.create_dataset(n, data=np.ones(5, "<i4")), "expected 6 labels, found 5"),
        ("keys", lambda g, n: g.create_dataset(n, (6,), h5py.string_dtype()), "expected 1-dim.*object"),
        ("keys", lambda g, n: g.create_dataset(n, (6,), h5py.vlen_dtype(np.uint8)), "expected 1-dim.*object"),
        ("keys", lambda g, n: g.create_dataset(n, (6,), h5py.ref_dtype), "expected 1-dimensional .u1"),
        ("keys", lambda g, n: g.create_dataset(n, data=texts("a" * 5)), "expected 6 keys, found 5"),
        ("keys", lambda g, n: g.create_dataset(n, data=texts("a" * 6)[:-1]), "the last text has no end"),
        ("classes", lambda g, n: g.create_dataset(n, (), "<f2"), "expected 1-dimensional .u1"),
        ("classes", lambda g, n: g.create_dataset(n, data=texts("ab")[:-1]), "the last text has no end"),
    ],
)
def test_what_is_not_plain_data_is_refused(
    store: Path, name: str, make: Callable[[h5py.Group, str], object], message: str
) -> None:
    edit(store, lambda f: swap(f, name, make))
    with pytest.raises(LsnError, match=message):
        read_split(store, "train")
    assert any("train" in problem for problem in verify(store))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.__delitem__("source"), "attribute 'source'"),
        (lambda a: a.__setitem__("rows_committed", 5), "expected 5 features, found 6"),
        (lambda a: a.__setitem__("rows_committed", "6"), "'rows_committed' is not of the type int"),
        (lambda a: a.__setitem__("source", "of variable length"), "'source' is not of the type str"),
        (lambda a: a.__setitem__("source", np.array([b"a", b"b"])), "'source' is not of the type str"),
    ],
)
def test_a_bad_attribute_of_a_split_is_named(
    store: Path, change: Callable[[h5py.AttributeManager], object], message: str
) -> None:
    edit(store, lambda f: change(f["splits/train"].attrs))
    with pytest.raises(LsnError, match=message):
        read_split(store, "train")
    assert verify(store) != []


@pytest.mark.parametrize(
    ("text", "message"),
    [(np.bytes_("{"), "damaged"), (np.bytes_('{"mean": [], "std": []}'), "damaged"), (3, "'fingerprint'")],
)
def test_a_bad_fingerprint_is_one_sentence(store: Path, text: object, message: str) -> None:
    edit(store, lambda f: f.attrs.__setitem__("fingerprint", text))
    with pytest.raises(LsnError, match=message):
        read_fingerprint(store)
    assert verify(store) != []


def test_text_of_another_count_than_its_classes_is_refused(store: Path) -> None:
    def shorten(file: h5py.File) -> None:
        del file["text/features"]
        file["text"].create_dataset("features", data=np.ones((3, 4), "<f4"))

    edit(store, shorten)
    with pytest.raises(LsnError, match="2 classes, 3 rows"):
        read_text(store)
    assert verify(store) != []


WHOLE: list[bytes] = []


@given(st.integers(0, 10**6), st.binary(min_size=1, max_size=8))
def test_damaged_bytes_give_a_split_or_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, at: int, junk: bytes
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "f.h5"
    if not WHOLE:
        write_split(path, split(), fingerprint())
        WHOLE.append(path.read_bytes())
    data = bytearray(WHOLE[0])
    at %= len(data)
    data[at : at + len(junk)] = junk
    path.write_bytes(bytes(data))
    try:
        read_split(path, "train")
    except LsnError:
        assert verify(path) != []
