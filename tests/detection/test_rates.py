"""Verdicts at another rate, from the held-out scores that a detector keeps."""

from dataclasses import replace

import numpy as np
import pytest

from lsncli.artefacts.detector import ImageStatistics, SavedDetector
from lsncli.artefacts.prompts import HeadSource
from lsncli.detection.detect import Verdict
from lsncli.detection.rates import FalseAlarms, held_out_scores, retargeted
from lsncli.errors import UsageError
from lsncli.threshold import Threshold, kept_scores, p_values, threshold_of, uncalibrated
from lsncli.types import Fingerprint

MODEL = Fingerprint("m", "", "0" * 64, 2, 64, "bicubic", "squash", (0.0,) * 3, (1.0,) * 3, "fp32", 100.0)


def older():
    """Return a detector of a file without held-out scores."""
    head = HeadSource(("cat", "dog"), 100.0, np.eye(2), None)
    return SavedDetector("mcm", "MCM", {"tau": 1.0}, "hand", head, MODEL, Threshold(0.5, 0.95, 99, 0.9, 0.98))


def made(scores, target=0.95):
    """Return a detector whose threshold ``scores`` have set."""
    seen = ImageStatistics(len(scores), 0.05, (90.0, 100.0, 110.0), (0.2, 0.4, 0.6))
    return replace(older(), threshold=threshold_of(scores, target), held_out=kept_scores(scores), seen=seen)


def pairs(scores, detector):
    found = p_values(np.array(scores), detector.held_out).tolist()
    gamma = detector.threshold.gamma
    verdicts = [
        Verdict(f"{at}.jpg", "cat", score, gamma, score < gamma, p_value=p)
        for at, (score, p) in enumerate(zip(scores, found, strict=True))
    ]
    return [(verdict, None) for verdict in verdicts]


def flagged(alarms, found):
    return [verdict for verdict, _ in alarms.flag(found)]


@pytest.mark.parametrize("target", [0.5, 0.8, 0.99])
def test_another_target_gives_the_threshold_of_a_new_calibration(target) -> None:
    scores = np.random.default_rng(0).normal(size=400)
    found, new = retargeted(made(scores), target), made(scores, target)
    assert found.threshold == replace(new.threshold, gamma=pytest.approx(new.threshold.gamma, rel=1e-12))
    assert found.seen.ood == np.mean(scores < found.threshold.gamma)
    assert found.held_out is not None


def test_the_target_of_the_detector_changes_no_bit() -> None:
    detector = made(np.random.default_rng(1).normal(size=300))
    assert retargeted(detector, 0.95) is detector


def test_of_more_scores_than_are_kept_the_target_is_kept() -> None:
    scores = np.random.default_rng(2).normal(size=25_000)
    found = retargeted(made(scores), 0.98).threshold
    assert found.n == 25_000
    assert 0.98 <= np.mean(scores >= found.gamma) <= 0.98025  # 0.01 %, and the margin below a score


@pytest.mark.parametrize("option", ["--target-tpr", "--false-alarms"])
def test_a_detector_without_held_out_scores_is_refused_with_what_to_do(option) -> None:
    names = replace(older(), threshold=uncalibrated(0.5))
    with pytest.raises(UsageError, match="an older lsn") as stop:
        held_out_scores(older(), option)
    assert "Make it again: lsn calibrate" in stop.value.hint
    with pytest.raises(UsageError, match="no image has set this") as stop:
        held_out_scores(names, option)
    assert "lsn calibrate ./good-images" in stop.value.hint
    with pytest.raises(UsageError, match="--target-tpr"):
        retargeted(older(), 0.9)
    with pytest.raises(UsageError, match="--false-alarms"):
        FalseAlarms(names, 0.1)


def test_flags_depend_on_all_images_and_their_threshold_tells_them_apart() -> None:
    detector = made(np.arange(99.0))
    alarms = FalseAlarms(detector, 0.1)
    found = flagged(alarms, pairs([50.0, -1.0, 3.0, -2.0, 98.5, 1.0], detector))
    # p-values 0.52, 0.01, 0.05, 0.01, 1, 0.03; the bounds are 0.0167, 0.033, 0.05, 0.067, 0.083, 0.1
    assert [verdict.is_ood for verdict in found] == [False, True, True, True, False, True]
    assert alarms.cutoff == 0.05
    assert {verdict.threshold for verdict in found} == {4.0}
    assert all(verdict.is_ood == (verdict.score < verdict.threshold) for verdict in found)
    alone = flagged(FalseAlarms(detector, 0.1), pairs([3.0] + [90.0] * 9, detector))
    assert not any(verdict.is_ood for verdict in alone)


def test_an_image_that_could_not_be_read_is_no_image() -> None:
    detector = made(np.arange(99.0))
    broken = Verdict("broken.jpg", error="an empty file")
    found = flagged(FalseAlarms(detector, 0.02), [*pairs([-1.0, -1.0], detector), *[(broken, None)] * 50])
    assert [verdict.is_ood for verdict in found[:2]] == [True, True]
    assert found[2] is broken


def test_without_a_flag_there_is_no_threshold() -> None:
    detector = made(np.arange(99.0))
    found = flagged(FalseAlarms(detector, 0.1), pairs([50.0, 60.0], detector))
    assert [(verdict.is_ood, verdict.threshold) for verdict in found] == [(False, None)] * 2


def test_it_says_how_many_held_out_images_a_flag_needs() -> None:
    detector = made(np.arange(99.0))

    def doubt(scores, level):
        alarms = FalseAlarms(detector, level)
        flagged(alarms, pairs(scores, detector))
        return alarms.doubt

    several = doubt([-1.0] + [50.0] * 39, 0.1)
    assert several == (
        "With 99 held-out images no p-value is below 1/100, so 4 or more of the 40 images are flagged, "
        "or none. To flag a single one, 399 held-out images are needed."
    )
    never = doubt([-1.0] * 1000, 0.005)
    assert "so nothing can be flagged at 0.005: that takes 199 held-out images or more" in never
    assert "a single one of 1,000 images 199,999 (a detector keeps the scores of 10,000)" in never
    assert doubt([-1.0] * 4 + [50.0] * 36, 0.1) == ""  # four were flagged
    assert doubt([50.0] * 10, 0.1) == ""  # one would have been flagged, if it had been far
    assert doubt([], 0.1) == ""
