"""Detectors of nothing but class names: what they hold, what they say of themselves, how well they do."""

import numpy as np
import pytest
from bundled_features import bundled, tiny_twenty
from workspace_samples import clusters, workspace

from lsncli.artefacts.detector import load_detector, save_detector
from lsncli.backbones import load_backbone
from lsncli.detection.calibrate import make_detector
from lsncli.detection.zero_shot import zero_shot_detector
from lsncli.errors import UsageError
from lsncli.evaluation.evaluate import choose_splits, evaluate, plan_evaluation
from lsncli.methods.spec import parse_method
from lsncli.methods.text_recipes import TEMPLATE
from lsncli.methods.words import WordChoice, select_words, word_encoder
from lsncli.metrics import auroc
from lsncli.reference.classes import class_list
from lsncli.scores import load_score
from lsncli.scores.common import VOCABULARY
from lsncli.store.reader import read_split
from lsncli.types import Head, unit


def scores(detector, features):
    return load_score(detector.method, **detector.settings).scorer(detector.head, detector.learned)(features)


def test_it_says_that_no_image_has_set_its_threshold(tiny_backbone, tmp_path) -> None:
    made = zero_shot_detector([" cat", "dog ", "garbage  truck"], tiny_backbone)
    save_detector(tmp_path / "d", made)
    found = load_detector(tmp_path / "d")
    assert found.head.classes == ("cat", "dog", "garbage truck")
    assert found.fingerprint == tiny_backbone.fingerprint
    assert (found.threshold.n, found.threshold.calibrated) == (0, False)
    assert (found.threshold.tpr_low, found.threshold.tpr_high) == (0, 1)
    assert found.threshold.basis == "uncalibrated"
    assert "not known" in found.threshold.doubt
    words = len(found.learned[VOCABULARY])
    assert found.threshold.gamma == 3 / (3 + words)
    features = np.random.default_rng(0).normal(size=(9, 32))
    assert np.array_equal(scores(found, features), scores(made, features))


def test_gamma_is_what_an_image_scores_that_is_as_near_to_every_word(tiny_backbone) -> None:
    made = zero_shot_detector(["cat", "dog"], tiny_backbone)
    assert scores(made, np.zeros((1, 32))) == pytest.approx([made.threshold.gamma], rel=1e-12)


def test_words_near_a_class_are_left_out(tiny_backbone) -> None:
    encoder, names = word_encoder(tiny_backbone), class_list("imagenet1k").names
    classes = ("Trucks", "cat")
    kept = select_words(WordChoice("imagenet1k"), classes, encoder)
    shared = [name for name in names if {"truck", "cat"} & {*name.lower().replace("-", " ").split()}]
    assert {"garbage truck", "tabby cat", "tow truck"} & {*shared}
    free = [name for name in names if name not in shared]
    assert len(kept.words) == round(0.75 * len(free))
    assert set(kept.dropped["shares a word"]) == set(shared)
    all_free, own = (encoder.encode([[TEMPLATE.format(name)] for name in some]) for some in (free, classes))
    far = np.sort(np.argsort((all_free @ own.T).max(axis=1), kind="stable")[: len(kept.words)])
    assert kept.words == tuple(free[row] for row in far)
    np.testing.assert_array_equal(kept.features, all_free[far])


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([], "No class was named"),
        (["", " "], "No class was named"),
        (["cat", ""], "A class has an empty name"),
        (["cat", "dog", "dog "], "The class 'dog' is named twice"),
        (["cat", "Dog", "dog"], "'Dog', 'dog' are one text to the text encoder"),
    ],
)
def test_names_that_cannot_be_meant_are_refused(tiny_backbone, classes, message) -> None:
    with pytest.raises(UsageError, match=message):
        zero_shot_detector(classes, tiny_backbone)


def test_neglabel_is_compared_and_calibrated_as_any_method(tmp_path, tiny_backbone) -> None:
    work = workspace(tmp_path, tiny_backbone.fingerprint)
    inside, outside = choose_splits(work, "test", ("far",), "train")
    method = parse_method("neglabel")
    plan = plan_evaluation(work, [method], inside, outside, "train", model=lambda: tiny_backbone)
    (row,) = evaluate(plan).results
    classes, encoder = clusters("test").classes, word_encoder(tiny_backbone)
    learned = {VOCABULARY: select_words(WordChoice("imagenet1k"), classes, encoder).features}
    own = unit(encoder.encode([[TEMPLATE.format(name)] for name in classes]).astype(np.float64))
    scorer = load_score("neglabel").scorer(Head(classes, own, 100.0), learned)
    expected = auroc(*(scorer(read_split(work.features, name).features) for name in ("test", "far")))
    assert row.metrics.auroc == pytest.approx(float(expected))
    made = make_detector(work, method, model=lambda: tiny_backbone)
    assert made.threshold.calibrated
    np.testing.assert_array_equal(load_detector(work.detector).learned[VOCABULARY], learned[VOCABULARY])


def test_class_names_alone_tell_images_of_the_demo_from_foreign_ones(tmp_path) -> None:
    """Better than MCM with the same names, and a gamma that is of some use."""
    splits = {
        "test": tiny_twenty("val"),
        "places": bundled("places-natural13"),
        "tiny-other": tiny_twenty("val", others=True),
    }
    made = zero_shot_detector(splits["test"].classes, load_backbone("mini", device="cpu"))
    found = {name: scores(made, split.features) for name, split in splits.items()}
    mcm = load_score("mcm").scorer(made.head, {})
    inside = found.pop("test")
    kept = np.mean(inside >= made.threshold.gamma)
    passed = {name: np.mean(values >= made.threshold.gamma) for name, values in found.items()}
    assert kept > 0.7, kept
    assert max(passed.values()) < 0.4, (kept, passed)
    for name in ("places", "tiny-other"):
        ours = float(auroc(inside, found[name]))
        theirs = float(auroc(mcm(splits["test"].features), mcm(splits[name].features)))
        assert ours > theirs, (name, ours, theirs)
