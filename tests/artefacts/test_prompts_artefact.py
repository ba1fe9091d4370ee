"""Learned prompts: what is saved comes back, the golden file included."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from artefact_samples import prompts

from lsncli.artefacts.files import read_artefact, write_artefact
from lsncli.artefacts.prompts import LearnedPrompts, load_prompts, save_prompts
from lsncli.errors import LsnError
from lsncli.types import unit

GOLDEN = Path(__file__).parent / "golden" / "negative-v1.safetensors"


def assert_same(found: LearnedPrompts, expected: LearnedPrompts) -> None:
    plain = {"context": np.zeros(0, np.float32), "text": np.zeros(0)}
    assert replace(found, **plain).__dict__.keys() == replace(expected, **plain).__dict__.keys()
    for name, value in vars(expected).items():
        if name not in plain:
            assert getattr(found, name) == value, name
    assert found.context.dtype == np.float32
    np.testing.assert_array_equal(found.context, expected.context)
    assert found.text.dtype == np.float64
    np.testing.assert_allclose(found.text, expected.text, rtol=0, atol=1e-7)  # kept in float32
    np.testing.assert_allclose(np.linalg.norm(found.text, axis=-1), 1, rtol=1e-15)


@pytest.mark.parametrize("kind", ["positive", "negative"])
def test_prompts_come_back(tmp_path: Path, kind) -> None:
    path = tmp_path / "prompts.safetensors"
    save_prompts(path, prompts(kind))
    assert_same(load_prompts(path, kind), prompts(kind))


def test_saving_what_was_loaded_changes_no_byte(tmp_path: Path) -> None:
    first, again = tmp_path / "first", tmp_path / "again"
    save_prompts(first, prompts())
    save_prompts(again, load_prompts(first, "negative"))
    assert first.read_bytes() == again.read_bytes()


def test_the_golden_file_of_format_1_is_read() -> None:
    assert_same(load_prompts(GOLDEN, "negative"), prompts("negative"))


def test_one_kind_is_not_taken_for_the_other(tmp_path: Path) -> None:
    path = tmp_path / "prompts.safetensors"
    save_prompts(path, prompts("positive"))
    with pytest.raises(LsnError, match="expected an artefact of format lsn-negative-prompts") as caught:
        load_prompts(path, "negative")
    assert caught.value.hint == "Run `lsn train-neg` first."


@pytest.mark.parametrize("name", ["context", "text"])
def test_a_missing_array_is_damage_not_a_traceback(tmp_path: Path, name: str) -> None:
    arrays, fields = read_artefact(GOLDEN, "negative-prompts", "")
    del arrays[name]
    write_artefact(tmp_path / "broken", "negative-prompts", arrays, fields)
    with pytest.raises(LsnError, match=f"is damaged: KeyError '{name}'"):
        load_prompts(tmp_path / "broken", "negative")


@pytest.mark.parametrize(
    ("field", "value"),
    [("held_out", {"split": "train"}), ("fingerprint", "{}"), ("fingerprint", "no JSON"), ("classes", 3)],
)
def test_a_field_of_another_shape_is_damage_not_a_traceback(tmp_path: Path, field: str, value) -> None:
    arrays, fields = read_artefact(GOLDEN, "negative-prompts", "")
    write_artefact(tmp_path / "broken", "negative-prompts", arrays, fields | {field: value})
    with pytest.raises(LsnError, match="is damaged"):
        load_prompts(tmp_path / "broken", "negative")


def test_text_features_are_unit_even_where_float32_was_not(tmp_path: Path) -> None:
    arrays, fields = read_artefact(GOLDEN, "negative-prompts", "")
    write_artefact(tmp_path / "long", "negative-prompts", arrays | {"text": arrays["text"] * 3}, fields)
    np.testing.assert_allclose(load_prompts(tmp_path / "long", "negative").text, unit(arrays["text"]))
