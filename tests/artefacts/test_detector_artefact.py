"""Detectors: the file holds all that scoring needs, and the golden one still scores the same."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from artefact_samples import conditional, detector, vectors

from lsncli.artefacts.detector import load_detector, save_detector
from lsncli.artefacts.files import read_artefact, write_artefact
from lsncli.artefacts.prompts import Conditional
from lsncli.errors import LsnError
from lsncli.scores import load_score
from tests.robustness.hostile import forged

GOLDEN = Path(__file__).parent / "golden" / "detector-v5.safetensors"


@pytest.mark.parametrize(("negative", "train"), [(True, True), (False, True), (True, False), (False, False)])
def test_a_detector_comes_back(tmp_path: Path, negative: bool, train: bool) -> None:
    made = detector(negative=negative, train=train)
    save_detector(tmp_path / "detector", made)
    found = load_detector(tmp_path / "detector")
    assert (found.method, found.label, found.settings) == (made.method, made.label, made.settings)
    assert found.head_name == made.head_name
    assert (found.fingerprint, found.threshold) == (made.fingerprint, made.threshold)
    assert (found.head.classes, found.head.scale) == (made.head.classes, made.head.scale)
    np.testing.assert_array_equal(found.head.weights, made.head.weights)  # gamma belongs to these very bits
    assert (found.held_out is not None) == train
    if found.held_out is not None:
        assert found.held_out.dtype == np.float64
        np.testing.assert_array_equal(found.held_out, made.held_out)
    assert (found.by_class is not None) == train
    if found.by_class is not None:
        assert found.by_class.counts == made.by_class.counts == (24, 16)
        for one, other in zip(found.by_class.scores, made.by_class.scores, strict=True):
            np.testing.assert_array_equal(one, other)
    assert (found.head.negative is not None) == negative
    if found.head.negative is not None:
        np.testing.assert_array_equal(found.head.negative, made.head.negative)
    assert found.learned.keys() == made.learned.keys() == ({"bank"} if train else set())
    for name, array in made.learned.items():
        assert found.learned[name].dtype == array.dtype
        np.testing.assert_array_equal(found.learned[name], array)


@pytest.mark.parametrize(("text", "negative"), [(True, True), (True, False), (False, True)])
def test_a_detector_of_prompts_that_depend_on_the_image_keeps_what_makes_them(
    tmp_path: Path, text: bool, negative: bool
) -> None:
    plain = detector(train=False)
    head = replace(
        plain.head,
        weights=conditional("positive") if text else plain.head.weights,
        negative=conditional("negative") if negative else None,
    )
    save_detector(tmp_path / "detector", replace(plain, head=head))
    found = load_detector(tmp_path / "detector").head
    for part, expected in ((found.weights, head.weights), (found.negative, head.negative)):
        if not isinstance(expected, Conditional):
            np.testing.assert_array_equal(part, expected)
            continue
        assert isinstance(part, Conditional)
        assert part.settings == expected.settings
        np.testing.assert_array_equal(part.contexts, expected.contexts)
        assert part.meta.keys() == expected.meta.keys()
        assert all(np.array_equal(part.meta[name], array) for name, array in expected.meta.items())
    save_detector(tmp_path / "again", load_detector(tmp_path / "detector"))
    assert (tmp_path / "detector").read_bytes() == (tmp_path / "again").read_bytes()


def test_a_missing_meta_net_is_damage_not_a_traceback(tmp_path: Path) -> None:
    plain = detector(train=False)
    save_detector(
        tmp_path / "whole", replace(plain, head=replace(plain.head, weights=conditional("positive")))
    )
    arrays, fields = read_artefact(tmp_path / "whole", "detector", "")
    del arrays["weights.meta.out.weight"]
    write_artefact(tmp_path / "broken", "detector", arrays, fields)
    with pytest.raises(LsnError, match=r"is damaged: KeyError 'weights\.meta\.out\.weight'"):
        load_detector(tmp_path / "broken")


def test_saving_what_was_loaded_changes_no_byte(tmp_path: Path) -> None:
    save_detector(tmp_path / "first", detector())
    save_detector(tmp_path / "again", load_detector(tmp_path / "first"))
    assert (tmp_path / "first").read_bytes() == (tmp_path / "again").read_bytes()


def test_a_forged_detector_is_a_detector_or_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "detector.safetensors"
    refused = 0
    for data in forged(GOLDEN.read_bytes()).values():
        path.write_bytes(data)
        try:
            load_detector(path)
        except LsnError:
            refused += 1
    assert refused > 200


def test_the_golden_detector_scores_as_on_the_day_it_was_made() -> None:
    found = load_detector(GOLDEN)
    scorer = load_score(found.method, **found.settings).scorer(found.head, found.learned)
    scores = scorer(vectors(3, 4).astype(np.float16))
    np.testing.assert_allclose(scores, [0.00852298, 0.00836109, 0.01253960], atol=1e-7)
    assert found.threshold.gamma == 0.1 + 0.2
    assert found.fingerprint == detector().fingerprint
    thresholds = found.class_thresholds
    np.testing.assert_allclose(thresholds.gammas, [-5.0029402, 0.3], atol=1e-6)
    np.testing.assert_allclose(thresholds.p_values(np.zeros(2), np.array([0, 1])), [13 / 25, 21 / 41])


def test_a_missing_detector_says_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(LsnError, match="no detector artefact") as caught:
        load_detector(tmp_path / "detector.safetensors")
    assert "lsn calibrate --method mcm" in caught.value.hint


@pytest.mark.parametrize("name", ["threshold", "scale", "method", "label", "conditional"])
def test_a_missing_field_is_damage_not_a_traceback(tmp_path: Path, name: str) -> None:
    arrays, fields = read_artefact(GOLDEN, "detector", "")
    del fields[name]
    write_artefact(tmp_path / "broken", "detector", arrays, fields)
    with pytest.raises(LsnError, match=f"is damaged: KeyError '{name}'"):
        load_detector(tmp_path / "broken")


@pytest.mark.parametrize(
    ("scores", "why"),
    [
        ([0.2, 0.1], "not finite and ascending"),
        ([0.1, np.nan], "not finite and ascending"),
        ([0.1, np.inf], "not finite and ascending"),
        ([], "shape"),
        ([[0.1, 0.2]], "shape"),
        (np.array([0.1, 0.2], np.float32), "of type float32"),
    ],
)
def test_held_out_scores_that_cannot_be_are_damage(tmp_path: Path, scores, why: str) -> None:
    arrays, fields = read_artefact(GOLDEN, "detector", "")
    array = scores if isinstance(scores, np.ndarray) else np.array(scores, dtype=np.float64)
    write_artefact(tmp_path / "broken", "detector", arrays | {"held_out": array}, fields)
    with pytest.raises(LsnError, match=f"is damaged: ValueError held-out scores .*{why}"):
        load_detector(tmp_path / "broken")


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"class_kept": np.array([24, 15])}, "do not add up"),
        ({"class_kept": np.array([41, -1])}, "do not add up"),
        ({"class_counts": np.array([24, 15])}, "do not add up"),
        ({"class_kept": np.array([40])}, "of shapes"),
        ({"class_counts": np.array([24.0, 16.0])}, "of shapes"),
        ({"class_kept": np.array([16, 24])}, "not finite and ascending"),
        ({"class_scores": np.zeros(40, np.float32)}, "of type float32"),
    ],
)
def test_held_out_scores_by_class_that_cannot_be_are_damage(tmp_path: Path, changed, why: str) -> None:
    arrays, fields = read_artefact(GOLDEN, "detector", "")
    if "class_kept" in changed and why == "not finite and ascending":
        changed = changed | {"class_counts": changed["class_kept"]}
    write_artefact(tmp_path / "broken", "detector", arrays | changed, fields)
    with pytest.raises(LsnError, match=f"is damaged: ValueError held-out scores .*{why}"):
        load_detector(tmp_path / "broken")


@pytest.mark.parametrize("name", ["held_out", "class_kept", "class_counts"])
def test_held_out_scores_by_class_without_the_others_are_damage(tmp_path: Path, name: str) -> None:
    arrays, fields = read_artefact(GOLDEN, "detector", "")
    del arrays[name]
    write_artefact(tmp_path / "broken", "detector", arrays, fields)
    with pytest.raises(LsnError, match="is damaged"):
        load_detector(tmp_path / "broken")


@pytest.mark.parametrize("shape", [(1,), (3,), (2, 1), ()])
def test_a_bias_of_other_classes_is_damage(tmp_path: Path, shape: tuple[int, ...]) -> None:
    arrays, fields = read_artefact(GOLDEN, "detector", "")
    write_artefact(tmp_path / "sound", "detector", arrays | {"bias": np.zeros(2)}, fields)
    assert load_detector(tmp_path / "sound").head.bias is not None
    write_artefact(tmp_path / "broken", "detector", arrays | {"bias": np.zeros(shape)}, fields)
    with pytest.raises(LsnError, match=r"a bias of shape .* for 2 classes"):
        load_detector(tmp_path / "broken")


@pytest.mark.parametrize("shape", [(3, 2, 3), (3, 2, 5), (3, 1, 4), (3, 3, 4), (2, 4)])
def test_negative_text_features_of_another_shape_are_damage(tmp_path: Path, shape: tuple[int, ...]) -> None:
    arrays, fields = read_artefact(GOLDEN, "detector", "")
    assert arrays["negative"].shape == (3, 2, 4)
    write_artefact(tmp_path / "broken", "detector", arrays | {"negative": np.ones(shape)}, fields)
    with pytest.raises(LsnError, match="negative text features of shape"):
        load_detector(tmp_path / "broken")


def test_a_head_without_weights_is_damage(tmp_path: Path) -> None:
    arrays, fields = read_artefact(GOLDEN, "detector", "")
    del arrays["weights"]
    write_artefact(tmp_path / "broken", "detector", arrays, fields)
    with pytest.raises(LsnError, match="is damaged: KeyError 'weights'"):
        load_detector(tmp_path / "broken")
