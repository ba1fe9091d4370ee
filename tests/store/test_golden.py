"""The format is pinned: a store written by version 1 reads the same for ever (README.md of lsncli/store)."""

import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from store_samples import fingerprint, same, split

import lsncli.store
from lsncli.store import format as store_format
from lsncli.store import writer
from lsncli.store.reader import list_splits, read_fingerprint, read_split, read_text
from lsncli.store.verify import verify
from lsncli.store.writer import write_split, write_text

GOLDEN = Path(__file__).parent / "golden" / "store-v1.h5"
ABOUT = GOLDEN.with_name("store-v1-about.h5")  # the same content, written since `about` is a checksum, too
CHECKED = GOLDEN.with_name("store-v1-contents.h5")  # ... and since the root has `contents` and `checksums`
WRITTEN_WITH = "2.0.0"  # the HDF5 that wrote it; another may lay the same content out differently


def write_golden(path: Path) -> None:
    """The content of the golden file; it was made by this function and is never made again."""
    write_split(path, split("test", rows=0), fingerprint())
    write_split(path, split("train"), fingerprint())
    write_text(path, ("cat", "dog"), np.array([[1, 0, 0, 0], [0, 0.5, 0, 0]], np.float32))


def tree(path: Path) -> dict[str, object]:
    """Every object and attribute of an HDF5 file with its type and content."""
    found: dict[str, object] = {}

    def visit(name: str, thing: h5py.Group | h5py.Dataset) -> None:
        found.update({f"{name}@{key}": value for key, value in thing.attrs.items()})
        if isinstance(thing, h5py.Dataset):
            found[name] = (thing.dtype.str, thing.shape, thing[()].tolist())
        else:
            found[name] = "group"

    with h5py.File(path) as file:
        visit("", file)
        file.visititems(visit)
    return found


@pytest.mark.parametrize("path", [GOLDEN, ABOUT, CHECKED], ids=lambda path: path.name)
def test_the_golden_store_reads_as_it_was_written(path: Path) -> None:
    assert read_fingerprint(path) == fingerprint()
    assert same(read_split(path, "train"), split("train"))
    assert same(read_split(path, "test"), split("test", rows=0))
    text = read_text(path)
    assert text is not None
    assert text[0] == ("cat", "dog")
    assert text[1].tolist() == [[1, 0, 0, 0], [0, 0.5, 0, 0]]
    assert list_splits(path)["train"].created_by == "lsn 0.1.0"
    assert verify(path) == []


def test_the_golden_store_is_written_again_to_the_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "CREATOR", "lsn 0.1.0")
    write_golden(tmp_path / "f.h5")
    assert tree(tmp_path / "f.h5") == tree(CHECKED)
    if h5py.version.hdf5_version == WRITTEN_WITH:
        assert (tmp_path / "f.h5").read_bytes() == CHECKED.read_bytes()


@pytest.mark.parametrize("path", [GOLDEN, ABOUT], ids=lambda path: path.name)
def test_a_store_of_before_some_checksums_becomes_one_with_them(tmp_path: Path, path: Path) -> None:
    shutil.copy(path, tmp_path / "f.h5")
    write_split(tmp_path / "f.h5", split("third"), fingerprint())
    assert verify(tmp_path / "f.h5") == []
    old, new = tree(ABOUT), tree(tmp_path / "f.h5")
    assert {name: new[name] for name in old} == old
    assert {"@contents", "@checksums"} < new.keys()


def test_the_written_format_names_everything_in_the_golden_store() -> None:
    text = (Path(lsncli.store.__file__).parent / "README.md").read_text(encoding="utf-8")
    names = {part for name in tree(CHECKED) for part in re.split("[/@]", name)} - {"", "train", "test"}
    assert {name for name in names if not re.search(rf"[`/]{name}[`/]", text)} == set()
    assert f"`{store_format.FORMAT}`" in text
    numbers = [int(number) for number in re.findall(r"^(\d+)\. ", text, re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))
