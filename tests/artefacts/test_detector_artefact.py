"""Detectors: the file holds all that scoring needs, and the golden one still scores the same."""

from pathlib import Path

import numpy as np
import pytest
from artefact_samples import detector, vectors

from lsncli.artefacts.detector import load_detector, save_detector
from lsncli.artefacts.files import read_artefact, write_artefact
from lsncli.errors import LsnError
from lsncli.scores import load_score

GOLDEN = Path(__file__).parent / "golden" / "detector-v1.safetensors"


@pytest.mark.parametrize(("negative", "train"), [(True, True), (False, True), (True, False), (False, False)])
def test_a_detector_comes_back(tmp_path: Path, negative: bool, train: bool) -> None:
    made = detector(negative=negative, train=train)
    save_detector(tmp_path / "detector", made)
    found = load_detector(tmp_path / "detector")
    assert (found.method, found.settings, found.prompts) == (made.method, made.settings, made.prompts)
    assert (found.fingerprint, found.threshold) == (made.fingerprint, made.threshold)
    assert (found.head.classes, found.head.scale) == (made.head.classes, made.head.scale)
    np.testing.assert_array_equal(found.head.text, made.head.text)  # gamma belongs to these very bits
    assert (found.head.negative is not None) == negative
    if found.head.negative is not None:
        np.testing.assert_array_equal(found.head.negative, made.head.negative)
    assert (found.train is not None) == train
    if found.train is not None:
        assert found.train.features.dtype == np.float16
        np.testing.assert_array_equal(found.train.features, made.train.features)
        np.testing.assert_array_equal(found.train.labels, made.train.labels)


def test_saving_what_was_loaded_changes_no_byte(tmp_path: Path) -> None:
    save_detector(tmp_path / "first", detector())
    save_detector(tmp_path / "again", load_detector(tmp_path / "first"))
    assert (tmp_path / "first").read_bytes() == (tmp_path / "again").read_bytes()


def test_the_golden_detector_scores_as_on_the_day_it_was_made() -> None:
    found = load_detector(GOLDEN)
    scorer = load_score(found.method, **found.settings).fit(found.head, found.train)
    scores = scorer(vectors(3, 4).astype(np.float16))
    np.testing.assert_allclose(scores, [0.00852298, 0.00836109, 0.01253960], atol=1e-7)
    assert found.threshold.gamma == 0.1 + 0.2
    assert found.fingerprint == detector().fingerprint


def test_a_missing_detector_says_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(LsnError, match="no detector artefact") as caught:
        load_detector(tmp_path / "detector.safetensors")
    assert "lsn calibrate --method mcm" in caught.value.hint


@pytest.mark.parametrize("name", ["threshold", "scale", "method"])
def test_a_missing_field_is_damage_not_a_traceback(tmp_path: Path, name: str) -> None:
    arrays, fields = read_artefact(GOLDEN, "detector", "")
    del fields[name]
    write_artefact(tmp_path / "broken", "detector", arrays, fields)
    with pytest.raises(LsnError, match=f"is damaged: KeyError '{name}'"):
        load_detector(tmp_path / "broken")


def test_rows_without_labels_are_damage(tmp_path: Path) -> None:
    arrays, fields = read_artefact(GOLDEN, "detector", "")
    del arrays["train_labels"]
    write_artefact(tmp_path / "broken", "detector", arrays, fields)
    with pytest.raises(LsnError, match="is damaged: KeyError 'train_labels'"):
        load_detector(tmp_path / "broken")
