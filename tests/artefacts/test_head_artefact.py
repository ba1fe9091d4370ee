"""Learned heads: what is saved comes back to the bit, the golden file included; damage is named."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from artefact_samples import head

from lsncli.artefacts.files import read_artefact, write_artefact
from lsncli.artefacts.heads import COMMANDS, load_head, save_head
from lsncli.errors import LsnError

GOLDEN = Path(__file__).parent / "golden" / "linear-head-v1.safetensors"


def assert_same(found, made) -> None:
    for name, expected in vars(made).items():
        value = getattr(found, name)
        if isinstance(expected, np.ndarray):
            assert value.dtype == np.float64
            np.testing.assert_array_equal(value, expected)
        else:
            assert value == expected, name


@pytest.mark.parametrize("kind", COMMANDS)
def test_a_head_comes_back_to_the_bit(tmp_path: Path, kind: str) -> None:
    save_head(tmp_path / "head", head(kind))
    assert_same(load_head(tmp_path / "head", kind), head(kind))
    save_head(tmp_path / "again", load_head(tmp_path / "head", kind))
    assert (tmp_path / "head").read_bytes() == (tmp_path / "again").read_bytes()


def test_the_golden_head_is_read() -> None:
    assert_same(load_head(GOLDEN, "linear"), head())


def test_a_missing_head_says_what_makes_it(tmp_path: Path) -> None:
    for kind, command in COMMANDS.items():
        with pytest.raises(LsnError, match="no head artefact") as caught:
            load_head(tmp_path / "none", kind)
        assert f"`{command}`" in caught.value.hint


def test_one_kind_is_not_taken_for_another(tmp_path: Path) -> None:
    save_head(tmp_path / "head", head("dualcoop"))
    with pytest.raises(LsnError, match="a head of kind dualcoop, not linear"):
        load_head(tmp_path / "head", "linear")


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("weights", (2, 3), r"weights of shape \(2, 3\), not \(2, 4\)"),
        ("bias", (3,), r"a bias of shape \(3,\), not \(2,\)"),
        ("negative", (3, 4), r"negative text features of shape \(3, 4\), not \(K, 2, 4\)"),
    ],
)
def test_arrays_of_other_classes_or_models_are_damage(tmp_path: Path, name, shape, message: str) -> None:
    arrays, fields = read_artefact(GOLDEN, "head", "")
    write_artefact(tmp_path / "broken", "head", arrays | {name: np.ones(shape)}, fields)
    with pytest.raises(LsnError, match=message):
        load_head(tmp_path / "broken", "linear")


def test_a_missing_field_is_damage(tmp_path: Path) -> None:
    arrays, fields = read_artefact(GOLDEN, "head", "")
    del fields["held_out"]
    write_artefact(tmp_path / "broken", "head", arrays, fields)
    with pytest.raises(LsnError, match="is damaged: KeyError 'held_out'"):
        load_head(tmp_path / "broken", "linear")
    assert asdict(head().held_out)["seed"] == 7
