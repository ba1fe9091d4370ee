"""What decides on a page is what decides in `lsn score`: thresholds by class, and flags at a rate."""

from dataclasses import replace

import numpy as np
import pytest
from page_samples import CLASSES, detector, judged, scored

from lsncli.class_thresholds import MOST_KEPT, scores_by_class
from lsncli.detection.detect import rates_of
from lsncli.detection.rates import FalseAlarms
from lsncli.report.decision import RELATIVE, decide, kept_calibration
from lsncli.threshold import kept_scores, largest_flagged, threshold_of

NEW = scored("new", "input", 80, 0.7)
NEW = replace(NEW, judged=replace(NEW.judged, scores=NEW.judged.scores + np.repeat([-0.5, 0.4], 40)))
SETS = [NEW, scored("known", "id", 50, 0.8, seed=3), scored("far", "ood", 400, 0.1, seed=4)]


def made(rows=400, *, by_class=False, target=0.95, apart=0.2):
    """Return a detector that ``rows`` images have set, those of each class elsewhere."""
    held = judged(rows, 0.7, seed=9)
    scores = held.scores + apart * held.predicted
    return replace(
        detector(),
        threshold=threshold_of(scores, target),
        held_out=kept_scores(scores),
        by_class=scores_by_class(scores, held.predicted, len(CLASSES)) if by_class else None,
    )


def flags(decision):
    return [(one.judged.scores < decision.gamma).tolist() for one in decision.sets]


def test_one_gamma_for_all_leaves_scores_as_they_are() -> None:
    found = decide(made(), SETS, kept_calibration(made()), None)
    assert found.gamma == made().threshold.gamma
    assert found.sets == tuple(SETS)
    assert found.fact.startswith(f"{found.gamma:.8g}, set on 400 held-out ID images to keep 95%; of new ID")
    assert found.notes == ()


def test_scores_are_moved_so_that_the_thresholds_of_classes_are_one() -> None:
    fitted = made(by_class=True)
    found = decide(fitted, SETS, kept_calibration(fitted), None)
    gammas = fitted.class_thresholds.gammas
    expected = [(one.judged.scores < gammas[one.judged.predicted]).tolist() for one in SETS]
    assert flags(found) == expected
    assert any(map(any, expected))
    assert RELATIVE in found.notes
    assert found.fact.startswith(f"by predicted class, {gammas.min():.8g} to {gammas.max():.8g}, set on 400")
    moved = found.sets[0].judged.scores - SETS[0].judged.scores
    assert len(set(moved.round(9).tolist())) == len(CLASSES)
    kept = found.calibration
    own = np.concatenate(fitted.by_class.scores)
    labels = np.repeat(np.arange(len(CLASSES)), fitted.by_class.counts)
    assert np.mean(kept.scores < found.gamma) == np.mean(own < gammas[labels])


@pytest.mark.parametrize("by_class", [False, True])
def test_false_alarms_are_those_of_all_images_of_unknown_truth(by_class) -> None:
    fitted = made(by_class=by_class)
    alarms = FalseAlarms(fitted, 0.1)
    found = decide(fitted, SETS, kept_calibration(fitted), alarms)
    new = SETS[0].judged
    values = rates_of(fitted, new.scores, new.predicted)[1]
    expected = values <= largest_flagged(values, 0.1)
    assert 0 < expected.sum() < len(expected)
    assert flags(found)[0] == expected.tolist()
    assert found.fact == alarms.rule
    assert "of the images that it flags as OOD, at most 10% are expected to be ID." in found.notes[-1]


@pytest.mark.parametrize("by_class", [False, True])
def test_where_nothing_is_flagged_no_score_is_below_the_threshold(by_class) -> None:
    fitted = made(by_class=by_class)
    alarms = FalseAlarms(fitted, 0.0001)
    found = decide(fitted, SETS, kept_calibration(fitted), alarms)
    assert np.isfinite(found.gamma)
    assert not any(map(any, flags(found)))
    assert "nothing can be flagged at 0.0001" in found.notes[-1]


def test_scores_at_and_just_below_a_threshold_keep_their_side() -> None:
    for target in np.linspace(0.5, 0.95, 30):
        fitted = made(by_class=True, target=float(target), apart=10.0)
        gammas = fitted.class_thresholds.gammas
        scores = np.concatenate([gammas, np.nextafter(gammas, -np.inf)])
        predicted = np.tile(np.arange(len(CLASSES)), 2).astype(np.int32)
        one = replace(NEW, judged=replace(NEW.judged, scores=scores, predicted=predicted))
        found = decide(fitted, [one], None, None)
        assert flags(found) == [[False] * len(CLASSES) + [True] * len(CLASSES)]


def test_calibration_scores_of_large_and_small_classes_keep_their_shares() -> None:
    scores = np.random.default_rng(0).normal(size=5000)
    labels = np.repeat([0, 1, 3], [4000, 900, 100]).astype(np.int32)
    held = scores_by_class(scores, labels, 4)
    fitted = replace(detector(), held_out=kept_scores(scores), by_class=held)
    found = kept_calibration(fitted)
    assert np.bincount(found.predicted, minlength=4).tolist() == [MOST_KEPT, 225, 0, 25]
    assert np.quantile(found.scores, [0.1, 0.5, 0.9]) == pytest.approx(
        np.quantile(scores, [0.1, 0.5, 0.9]), abs=0.1
    )
    assert kept_calibration(detector()) is None
