"""Learned prompts: what is saved comes back, the golden files included."""

from pathlib import Path

import numpy as np
import pytest
from artefact_samples import prompts, vectors

from lsncli.artefacts.files import read_artefact, write_artefact
from lsncli.artefacts.prompts import Conditional, LearnedPrompts, load_prompts, save_prompts
from lsncli.errors import LsnError
from lsncli.types import unit

GOLDEN = Path(__file__).parent / "golden"
KINDS = [("positive", "coop"), ("negative", "coop"), ("positive", "cocoop"), ("negative", "cocoop")]


def assert_same(found: LearnedPrompts, expected: LearnedPrompts) -> None:
    for name in ("kind", "fingerprint", "classes", "settings", "history", "held_out"):
        assert getattr(found, name) == getattr(expected, name), name
    assert found.contexts.dtype == np.float32
    np.testing.assert_array_equal(found.contexts, expected.contexts)
    assert found.meta.keys() == expected.meta.keys()
    for name, array in expected.meta.items():
        np.testing.assert_array_equal(found.meta[name], array)
    assert (found.text is None) == (expected.text is None)
    if found.text is not None:
        assert found.text.dtype == np.float64
        np.testing.assert_allclose(found.text, expected.text, rtol=0, atol=1e-7)  # kept in float32
        np.testing.assert_allclose(np.linalg.norm(found.text, axis=-1), 1, rtol=1e-15)


@pytest.mark.parametrize(("kind", "learner"), KINDS)
def test_prompts_come_back(tmp_path: Path, kind, learner: str) -> None:
    path = tmp_path / "prompts.safetensors"
    save_prompts(path, prompts(kind, learner))
    assert_same(load_prompts(path, kind), prompts(kind, learner))


@pytest.mark.parametrize(("kind", "learner"), KINDS)
def test_saving_what_was_loaded_changes_no_byte(tmp_path: Path, kind, learner: str) -> None:
    first, again = tmp_path / "first", tmp_path / "again"
    save_prompts(first, prompts(kind, learner))
    save_prompts(again, load_prompts(first, kind))
    assert first.read_bytes() == again.read_bytes()


@pytest.mark.parametrize(
    ("name", "kind", "learner"),
    [("negative-v1", "negative", "coop"), ("positive-cocoop-v1", "positive", "cocoop")],
)
def test_the_golden_files_of_format_1_are_read(name: str, kind, learner: str) -> None:
    assert_same(load_prompts(GOLDEN / f"{name}.safetensors", kind), prompts(kind, learner))


def test_several_positive_prompts_of_a_class_are_one_unit_mean() -> None:
    two = prompts("positive")
    expected = [[(a + b) / 2 for a, b in zip(*pair, strict=True)] for pair in zip(*two.text, strict=True)]
    np.testing.assert_allclose(two.head_text, unit(np.array(expected)), rtol=1e-12)
    assert two.head_text.shape == (2, 4)


def test_negative_sets_stay_apart() -> None:
    three = prompts("negative")
    np.testing.assert_array_equal(three.head_text, three.text)


def test_prompts_that_depend_on_the_image_are_kept_as_what_makes_them() -> None:
    made = prompts("negative", "cocoop")
    source = made.head_text
    assert isinstance(source, Conditional)
    assert (source.contexts is made.contexts, source.meta is made.meta) == (True, True)
    assert source.settings == made.settings


def test_one_kind_is_not_taken_for_the_other(tmp_path: Path) -> None:
    path = tmp_path / "prompts.safetensors"
    save_prompts(path, prompts("positive"))
    with pytest.raises(LsnError, match="expected an artefact of format lsn-negative-prompts") as caught:
        load_prompts(path, "negative")
    assert caught.value.hint == "Run `lsn train-neg` first."


def damaged(tmp_path: Path, name: str, kind: str, *, without: str = "", **changes) -> Path:
    """A golden file with an array left out, or arrays and fields replaced."""
    arrays, fields = read_artefact(GOLDEN / f"{name}.safetensors", f"{kind}-prompts", "")
    arrays.pop(without, None)
    arrays |= {key: value for key, value in changes.items() if isinstance(value, np.ndarray)}
    fields |= {key: value for key, value in changes.items() if not isinstance(value, np.ndarray)}
    write_artefact(tmp_path / "broken", f"{kind}-prompts", arrays, fields)
    return tmp_path / "broken"


@pytest.mark.parametrize(
    ("name", "kind", "array"),
    [
        ("negative-v1", "negative", "contexts"),
        ("negative-v1", "negative", "text"),
        ("positive-cocoop-v1", "positive", "contexts"),
        ("positive-cocoop-v1", "positive", "meta.out.bias"),
    ],
)
def test_a_missing_array_is_damage_not_a_traceback(tmp_path: Path, name, kind, array: str) -> None:
    path = damaged(tmp_path, name, kind, without=array)
    with pytest.raises(LsnError, match=f"is damaged: KeyError '{array}'") as caught:
        load_prompts(path, kind)
    assert caught.value.hint == f"Learn the prompts again with `lsn train-{kind[:3]}`."


@pytest.mark.parametrize(
    "changes",
    [
        {"held_out": {"split": "train"}},
        {"fingerprint": "{}"},
        {"fingerprint": "no JSON"},
        {"classes": 3},
        {"classes": ["one", "two", "three"]},
        {"settings": {}},
        {"settings": {"learner": 3}},
        {"settings": {"learner": "coop", "names": "yes"}},
        {"text": vectors(3, 1, 4).astype(np.float32)},
        {"text": vectors(2, 2, 4).astype(np.float32)},
        {"contexts": vectors(3, 5, 5, 6).astype(np.float32)},
        {"contexts": vectors(5, 6).astype(np.float32)},
        {"contexts": vectors(0, 2, 5, 6).astype(np.float32)},
    ],
    ids=str,
)
def test_a_field_or_array_of_another_shape_is_damage_not_a_traceback(tmp_path: Path, changes) -> None:
    with pytest.raises(LsnError, match="is damaged"):
        load_prompts(damaged(tmp_path, "negative-v1", "negative", **changes), "negative")


def test_a_file_of_the_days_before_this_layout_says_to_learn_again(tmp_path: Path) -> None:
    arrays = {"context": vectors(3, 2, 5, 6).astype(np.float32), "text": vectors(3, 2, 4).astype(np.float32)}
    _, fields = read_artefact(GOLDEN / "negative-v1.safetensors", "negative-prompts", "")
    old = {**fields, "learner": "CoOp", "settings": {"mode": "paper", "epochs": 2}}
    write_artefact(tmp_path / "old", "negative-prompts", arrays, old)
    with pytest.raises(LsnError, match="is damaged") as caught:
        load_prompts(tmp_path / "old", "negative")
    assert "again with `lsn train-neg`" in caught.value.hint


def test_text_features_are_unit_even_where_float32_was_not(tmp_path: Path) -> None:
    arrays, _ = read_artefact(GOLDEN / "negative-v1.safetensors", "negative-prompts", "")
    path = damaged(tmp_path, "negative-v1", "negative", text=arrays["text"] * 3)
    np.testing.assert_allclose(load_prompts(path, "negative").text, unit(arrays["text"]))
