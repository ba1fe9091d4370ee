"""Stores that lead out of their file, or ask HDF5 to run or unpack what somebody else wrote."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from store_samples import fingerprint, split

from lsncli.errors import LsnError
from lsncli.store.reader import list_splits, read_split, read_text
from lsncli.store.verify import verify
from lsncli.store.writer import write_split, write_text

LINK = "is a link to somewhere else"
UNUSUAL = "is virtual, external, chunked or compressed; expected contiguous data"
PLUGIN = 32015
"""The number of a filter (Zstandard) for which HDF5 loads a library out of HDF5_PLUGIN_PATH."""


def put(name: str, what: Callable[[Path], object]) -> Callable[[h5py.File, Path], None]:
    def harm(file: h5py.File, other: Path) -> None:
        if name in file:
            del file[name]
        file[name] = what(other)

    return harm


def filtered(number: int) -> Callable[[h5py.File, Path], None]:
    def harm(file: h5py.File, other: Path) -> None:
        group = file["splits/train"]
        del group["features"]
        made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        made.set_chunk((6, 4))
        made.set_filter(number, h5py.h5z.FLAG_OPTIONAL, (3,))
        space = h5py.h5s.create_simple((6, 4))
        h5py.h5d.create(group.id, b"features", h5py.h5t.IEEE_F16LE, space, made)

    return harm


def external_storage(file: h5py.File, other: Path) -> None:
    group = file["splits/train"]
    del group["features"]
    group.create_dataset("features", (6, 4), "<f2", external=[(str(other), 0, 48)])


def virtual(file: h5py.File, other: Path) -> None:
    group = file["splits/train"]
    del group["features"]
    layout = h5py.VirtualLayout((6, 4), "<f2")
    layout[:] = h5py.VirtualSource(str(other), "splits/train/features", (6, 4), dtype="<f2")
    group.create_virtual_dataset("features", layout)


HARMS: dict[str, tuple[Callable[[h5py.File, Path], None], str]] = {
    "all splits elsewhere": (put("splits", lambda other: h5py.ExternalLink(str(other), "/splits")), LINK),
    "a split elsewhere": (
        put("splits/train", lambda other: h5py.ExternalLink(str(other), "/splits/train")),
        LINK,
    ),
    "rows elsewhere": (
        put("splits/train/features", lambda other: h5py.ExternalLink(str(other), "/splits/train/features")),
        LINK,
    ),
    "failures elsewhere": (
        put("splits/train/failures", lambda other: h5py.ExternalLink(str(other), "/splits/train/failures")),
        LINK,
    ),
    "a soft link": (put("splits/train/labels", lambda _: h5py.SoftLink("/splits/other/labels")), LINK),
    "a soft link by way of a link": (put("splits", lambda _: h5py.SoftLink("/elsewhere/splits")), LINK),
    "external storage": (external_storage, UNUSUAL),
    "a virtual dataset": (virtual, UNUSUAL),
    "a filter of a plugin": (filtered(PLUGIN), UNUSUAL),
    "a filter of HDF5": (filtered(1), UNUSUAL),
}


@pytest.mark.parametrize("name", HARMS)
def test_what_leads_out_of_the_file_is_refused_and_named(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The other file is a sound store, so that whoever follows gets rows and no error."""
    harm, reason = HARMS[name]
    monkeypatch.setenv("HDF5_PLUGIN_PATH", str(tmp_path))
    (tmp_path / "libh5plugin.so").write_bytes(b"no library")
    other = tmp_path / "other.h5"
    write_split(other, split("train"), fingerprint())
    with h5py.File(store, "r+") as file:
        harm(file, other)
    assert any(reason in problem for problem in verify(store)), verify(store)
    for read in (list_splits, lambda path: read_split(path, "train")):
        with pytest.raises(LsnError, match=reason):
            read(store)


def test_text_features_elsewhere_are_refused(store: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.h5"
    write_split(other, split("train"), fingerprint())
    write_text(other, ("cat", "dog"), np.ones((2, 4), np.float32))
    with h5py.File(store, "r+") as file:
        if "text" in file:
            del file["text"]
        file["text"] = h5py.ExternalLink(str(other), "/text")
    assert f"/text {LINK}." in verify(store)
    with pytest.raises(LsnError):
        read_text(store)


def test_groups_that_lie_deep_are_named_and_not_gone_into(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with h5py.File(store, "r+") as file:
        here = file.create_group("deep")
        for _ in range(1000):
            here = here.create_group("d")
    opened = 0
    real = h5py.Group.__getitem__

    def counted(group: h5py.Group, name: object) -> object:
        nonlocal opened
        opened += 1
        return real(group, name)

    monkeypatch.setattr(h5py.Group, "__getitem__", counted)
    (problem,) = verify(store)
    assert problem == f"/deep{'/d' * 8} lies 9 groups deep, and nothing in a store lies deeper than 8."
    assert opened < 200
    assert "train" in list_splits(store)
