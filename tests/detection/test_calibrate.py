"""Gamma keeps the promised share of the held-out rows, whatever the method."""

from pathlib import Path

import numpy as np
import pytest
from workspace_samples import CLASSES, clusters, workspace

from lsncli.artefacts.detector import load_detector
from lsncli.detection.calibrate import known_rows, make_detector
from lsncli.errors import FingerprintMismatch, LsnError
from lsncli.methods.spec import parse_method
from lsncli.methods.workspace import Workspace
from lsncli.scores import load_score
from lsncli.store.format import Split
from lsncli.store.reader import read_split
from lsncli.store.writer import write_split, write_text
from lsncli.threshold import calibrate, threshold_of
from lsncli.types import Fingerprint, unit


@pytest.fixture
def work(tmp_path: Path, tiny_backbone) -> Workspace:
    made = workspace(tmp_path, tiny_backbone.fingerprint)
    write_split(made.features, clusters("many", 300, seed=8), tiny_backbone.fingerprint)
    return made


def scores_of(detector, features):
    return load_score(detector.method, **detector.settings).scorer(detector.head, detector.learned)(features)


@pytest.mark.parametrize("method", ["mcm", "msp", "maxlogit", "energy", "knn,k=5", "mcm,tau=0.1"])
@pytest.mark.parametrize("target", [0.95, 0.8])
def test_scoring_the_held_out_rows_with_the_saved_detector_keeps_the_target(work, method, target) -> None:
    make_detector(work, parse_method(method), split_name="many", target_tpr=target)
    detector = load_detector(work.detector)
    held = known_rows(work, read_split(work.features, "many")).held_out
    assert len(held) == detector.threshold.n == 60
    gamma = detector.threshold.gamma
    kept = np.mean(scores_of(detector, held.features) >= gamma)
    assert target <= kept <= target + 1 / 60 + 1e-9
    # Gamma is an image's score: that image is kept, too, when it is scored alone.
    alone = [scores_of(detector, held.features[row : row + 1])[0] for row in range(60)]
    assert np.mean(np.array(alone) >= gamma) == kept
    assert detector.threshold.tpr_low < target < detector.threshold.tpr_high
    np.testing.assert_allclose(detector.held_out, np.sort(scores_of(detector, held.features)), rtol=1e-9)


def test_gamma_lies_a_hair_below_the_score_it_is_whatever_the_scale_of_scores() -> None:
    scores = np.random.default_rng(1).normal(size=1000)
    for scale, shift in ((1.0, 0.0), (1e-6, 0.01), (100.0, -1000.0)):
        moved = scale * scores + shift
        gamma = threshold_of(moved, 0.95).gamma
        assert np.mean(moved >= gamma) == pytest.approx(0.95, abs=0.002)
        assert calibrate(moved, 0.95).gamma - gamma == pytest.approx(1e-3 * moved.std(), rel=1e-3)
    for lone, count in ((0.0149, 1), (0.1, 7), (-3.0, 1)):
        gamma = threshold_of(np.full(count, lone), 0.95).gamma
        assert lone - gamma == pytest.approx(1e-5 * abs(lone))


def test_knn_carries_the_rows_it_learned_from_and_not_those_held_out(work: Workspace) -> None:
    made = make_detector(work, parse_method("knn,k=5"), split_name="many")
    parts = known_rows(work, read_split(work.features, "many"))
    np.testing.assert_array_equal(made.learned["bank"], parts.train.features)
    np.testing.assert_array_equal(load_detector(work.detector).learned["bank"], parts.train.features)
    assert make_detector(work, parse_method("mcm"), split_name="many").learned == {}


def test_every_setting_is_written_down(work: Workspace, tiny_backbone) -> None:
    make_detector(work, parse_method("mcm,tau=0.25"))
    found = load_detector(work.detector)
    assert (found.method, found.settings, found.head_name) == ("mcm", {"tau": 0.25}, "hand")
    assert found.fingerprint == tiny_backbone.fingerprint
    assert found.head.classes == CLASSES


def test_imported_text_features_are_the_head_and_no_model_is_asked(tmp_path: Path) -> None:
    work, text = Workspace(tmp_path), np.random.default_rng(1).normal(size=(4, 32))
    write_split(work.features, clusters("train"), imported())
    write_text(work.features, ("dog", "fox", "small red bird", "cat"), text)
    head = make_detector(work, parse_method("mcm")).head
    np.testing.assert_allclose(head.weights, unit(text.astype(np.float32))[[3, 0, 2]])
    assert (head.classes, head.scale) == (CLASSES, 55.0)


def test_imported_text_features_must_know_every_class(tmp_path: Path) -> None:
    work = Workspace(tmp_path)
    write_split(work.features, clusters("train"), imported())
    write_text(work.features, ("cat", "fox"), np.eye(2, 32))
    with pytest.raises(LsnError, match="lack 2 of 3 classes: 'dog'") as caught:
        make_detector(work, parse_method("mcm"))
    assert "--text" in caught.value.hint


def test_imported_features_without_text_have_no_prompts(tmp_path: Path) -> None:
    work = Workspace(tmp_path)
    write_split(work.features, clusters("train"), imported())
    with pytest.raises(FingerprintMismatch, match="imported:theirs") as caught:
        make_detector(work, parse_method("mcm"))
    assert "lsn store import --text" in caught.value.hint


def test_a_split_that_cannot_set_a_threshold_is_refused(work: Workspace, tiny_backbone) -> None:
    with pytest.raises(LsnError, match="Split 'far' has no classes"):
        make_detector(work, parse_method("mcm"), split_name="far")
    write_split(work.features, clusters("single", 3), tiny_backbone.fingerprint)
    with pytest.raises(LsnError, match="one image per class"):
        make_detector(work, parse_method("mcm"), split_name="single")
    assert not work.detector.exists()


def imported() -> Fingerprint:
    from lsncli.interchange.exchange import imported_fingerprint

    return imported_fingerprint("theirs", 32, 55.0)


def test_an_empty_labelled_split_is_an_error_of_ours(work: Workspace, tiny_backbone) -> None:
    empty = Split("none", np.empty((0, 32), np.float16), np.empty(0, np.int32), (), CLASSES)
    write_split(work.features, empty, tiny_backbone.fingerprint)
    with pytest.raises(LsnError, match="no image of class 'cat'"):
        make_detector(work, parse_method("mcm"), split_name="none")
