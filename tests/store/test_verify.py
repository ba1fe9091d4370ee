"""Verification finds what is wrong and never raises."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from lsncli.store.verify import verify


def test_a_sound_store_has_no_problems(store: Path) -> None:
    assert verify(store) == []


def test_a_missing_store_is_a_problem_not_an_exception(tmp_path: Path) -> None:
    assert "no feature store" in verify(tmp_path / "f.h5")[0]


def row(file: h5py.File, value: float) -> None:
    file["splits/train/features"][2] = value


def double(keys: h5py.Dataset) -> None:
    """Give the second key the name of the first, which is as long."""
    length = keys[()].tobytes().index(b"\0") + 1
    keys[length : 2 * length] = keys[:length]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: row(f, np.nan), "Split 'train': 1 rows are not finite."),
        (lambda f: row(f, 0), "Split 'train': 1 rows are all zero."),
        (lambda f: row(f, 7), "Split 'train': the checksum does not match"),
        (lambda f: f["splits/train/labels"].__setitem__(0, 9), "labels must lie in -1..1"),
        (lambda f: double(f["splits/train/keys"]), "occurs 2 times"),
        (lambda f: f["splits/train/failures"].__delitem__("reasons"), "reasons is missing"),
        (lambda f: f.attrs.__setitem__("digest", np.bytes_("0" * 16)), "not that of the fingerprint"),
        (lambda f: f["text/features"].__setitem__(0, np.inf), "some are not finite"),
        (lambda f: f["text/classes"].__setitem__(0, ord("y")), "a class occurs twice"),
        (lambda f: f.create_group("splits/a b"), "'a b' cannot be the name"),
        (lambda f: f.__setitem__("elsewhere", h5py.ExternalLink("x.h5", "/")), "/elsewhere is a link"),
        (lambda f: f.__setitem__("splits/train/extra", h5py.SoftLink("/nowhere")), "extra is a link"),
    ],
)
def test_each_kind_of_damage_is_found(
    store: Path, change: Callable[[h5py.File], object], message: str
) -> None:
    with h5py.File(store, "r+") as file:
        change(file)
    found = verify(store)
    assert any(message in problem for problem in found), found
    assert not any("'other'" in problem for problem in found)


def test_a_circle_of_groups_ends(store: Path) -> None:
    with h5py.File(store, "r+") as file:
        file["more"] = file["/"]
    assert verify(store) == []


def test_an_unknown_group_of_a_later_lsn_is_no_problem(store: Path) -> None:
    with h5py.File(store, "r+") as file:
        file.create_group("notes").attrs["by"] = "me"
    assert verify(store) == []
