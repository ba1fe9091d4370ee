"""A threshold for each predicted class: in verdicts, at other rates, after a new calibration."""

from dataclasses import replace

import numpy as np
import pytest
from workspace_samples import CLASSES, clusters, workspace

from lsncli.artefacts.detector import ImageStatistics, load_detector
from lsncli.detection.calibrate import make_detector, recalibrated
from lsncli.detection.detect import Verdict, detect_split
from lsncli.detection.drift import Drift, ImageSample
from lsncli.detection.rates import FalseAlarms, retargeted
from lsncli.methods.spec import parse_method
from lsncli.store.reader import read_fingerprint
from lsncli.store.writer import write_split
from lsncli.threshold import MARGIN, largest_flagged, score_of


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_backbone):
    """A workspace with a split of 450 rows, and a detector that 90 of them have set."""
    work = workspace(tmp_path_factory.mktemp("class-rates"), tiny_backbone.fingerprint)
    write_split(work.features, clusters("many", 450, seed=8), tiny_backbone.fingerprint)
    return work, make_detector(work, parse_method("knn:means"), split_name="many", per_class=True)


def verdicts(work, detector, seed=9):
    split = clusters("new", 300, seed=seed, shift=0.3)
    fingerprint = read_fingerprint(work.features)
    stream = detect_split(split, fingerprint, detector, lambda: pytest.fail("needs no model"))
    return [verdict for _, batch in stream for verdict in batch]


def class_of(detector, verdict):
    return detector.head.classes.index(verdict.predicted)


def test_the_thresholds_are_those_of_the_held_out_rows_of_each_class(made) -> None:
    work, detector = made
    held = detector.by_class
    assert sum(held.counts) == len(detector.held_out) == 90
    np.testing.assert_array_equal(np.sort(np.concatenate(held.scores)), detector.held_out)
    assert detector.class_thresholds.borrowing == ()
    for scores, gamma in zip(held.scores, detector.class_thresholds.gammas, strict=True):
        set_by = score_of(0.05, scores)
        assert gamma == pytest.approx(set_by - MARGIN * np.std(detector.held_out))
    again = load_detector(work.detector)
    np.testing.assert_array_equal(again.class_thresholds.gammas, detector.class_thresholds.gammas)
    assert again.basis == detector.basis
    assert "gamma by predicted class for a TPR of 95%" in detector.basis


def test_verdicts_follow_the_threshold_of_the_predicted_class(made) -> None:
    work, detector = made
    found = verdicts(work, detector)
    gammas = detector.class_thresholds.gammas
    assert len({verdict.threshold for verdict in found}) == len(CLASSES)
    for verdict in found:
        label = class_of(detector, verdict)
        assert verdict.threshold == gammas[label]
        assert verdict.is_ood == (verdict.score < gammas[label])
        scores = detector.by_class.scores[label]
        assert verdict.p_value == (1 + np.sum(scores <= verdict.score)) / (len(scores) + 1)
    single = verdicts(work, replace(detector, by_class=None))
    assert [one.score for one in single] == [one.score for one in found]
    assert [one.is_ood for one in single] != [one.is_ood for one in found]


def test_another_target_sets_the_thresholds_of_all_classes(made) -> None:
    work, detector = made
    found = retargeted(detector, 0.8)
    gammas = found.class_thresholds.gammas
    assert (gammas > detector.class_thresholds.gammas).all()
    new = make_detector(work, parse_method("knn:means"), split_name="many", per_class=True, target_tpr=0.8)
    np.testing.assert_allclose(gammas, new.class_thresholds.gammas, rtol=1e-12)
    strict = retargeted(detector, 0.99)  # 99 images are needed for a class, and there are 90 in all
    assert (strict.class_thresholds.borrowing, strict.class_thresholds.from_all) == ((0, 1, 2), True)
    assert set(strict.class_thresholds.gammas.tolist()) == {strict.threshold.gamma}


def test_false_alarms_are_flagged_by_the_p_values_of_the_classes(made) -> None:
    work, detector = made
    before = verdicts(work, detector)
    alarms = FalseAlarms(detector, 0.2)
    found = [verdict for verdict, _ in alarms.flag((verdict, None) for verdict in before)]
    values = np.array([verdict.p_value for verdict in before])
    assert [verdict.is_ood for verdict in found] == (values <= largest_flagged(values, 0.2)).tolist()
    assert 0 < sum(verdict.is_ood for verdict in found) < len(found)
    assert len({verdict.threshold for verdict in found}) == len(CLASSES)
    assert all(verdict.is_ood == (verdict.score < verdict.threshold) for verdict in found)
    few = FalseAlarms(detector, 0.001)
    list(few.flag((verdict, None) for verdict in before))
    most = max(detector.by_class.counts)
    assert f"With {most} held-out images of a class no p-value is below 1/{most + 1}" in few.doubt
    assert "(a detector keeps the scores of 1,000 of a class)" in few.doubt


def own(verdict: int, name: str, score: float, *, is_ood: bool = False) -> Verdict:
    return Verdict(f"{verdict}.jpg", name, score, 0.5, is_ood)


def test_images_of_ones_own_set_the_thresholds_of_their_predicted_classes(made) -> None:
    _, detector = made
    random = np.random.default_rng(0)
    names = np.repeat(CLASSES, [60, 40, 7])
    scores = random.normal(size=len(names)) + np.repeat([0.0, 3.0, 1.0], [60, 40, 7])
    images = [
        own(at, name, score, is_ood=at % 10 == 0)
        for at, (name, score) in enumerate(zip(names, scores.tolist(), strict=True))
    ]
    images.append(Verdict("broken.jpg", error="an empty file"))
    sample = ImageSample()
    found = recalibrated(detector, images, sample, 0.9, per_class=True)
    assert found.detector.by_class.counts == (60, 40, 7)
    assert found.detector.class_thresholds.borrowing == (2,)
    gammas = found.detector.class_thresholds.gammas
    labels = np.repeat([0, 1, 2], [60, 40, 7])
    assert 0.9 <= np.mean(scores[:60] >= gammas[0]) <= 0.92
    assert gammas[2] == found.detector.threshold.gamma
    assert found.kept_before == np.mean([not verdict.is_ood for verdict in images[:-1]])
    assert any("held-out images are few for the threshold of a class" in text for text in found.warnings)
    one = recalibrated(detector, images, sample, 0.9)
    assert one.detector.by_class is None
    assert one.detector.class_thresholds is None
    assert np.mean(scores < gammas[labels]) <= 0.11
    assert retargeted(found.detector, 0.8).seen is None  # no image was seen
    seen = ImageStatistics(107, 0.1, (90.0, 100.0, 110.0), (0.2, 0.4, 0.6))
    other = retargeted(replace(found.detector, seen=seen), 0.8)
    assert other.seen.ood == pytest.approx(np.mean(scores < other.class_thresholds.gammas[labels]))
    assert other.seen.ood != pytest.approx(np.mean(scores < other.threshold.gamma))


def test_drift_knows_that_classes_have_other_intervals(made) -> None:
    """The rate of a class can be higher than the interval of one threshold says."""
    _, detector = made
    narrow = replace(detector.threshold, tpr_low=0.94, tpr_high=0.95)
    single, by_class = (
        Drift(replace(detector, threshold=narrow, by_class=None)),
        Drift(replace(detector, threshold=narrow)),
    )
    for drift in (single, by_class):
        drift.count([own(at, "cat", 0.9) for at in range(200)])
    assert "so few are unlikely" in single.warnings()[0]
    assert by_class.warnings() == []
