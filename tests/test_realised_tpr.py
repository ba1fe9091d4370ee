"""The promise of gamma on real images: of fresh ID images the stated share is kept, over many seeds."""

import numpy as np
import pytest
from bundled_features import tiny_twenty

from lsncli.backbones import load_backbone
from lsncli.methods.text_recipes import TEMPLATE
from lsncli.prompts.text_features import text_features
from lsncli.scores import load_score, ready, score_in_chunks
from lsncli.threshold import calibrate
from lsncli.types import Head, Rows, unit

SEEDS = 20
HELD_OUT = 100
AT_LEAST = 15
"""Of 20 intervals 19.1 hold on average; fewer than 15 do once in 3,000 times."""
MANY = 1000
COVERED = {0.95: 0.961, 0.9: 0.958, 0.8: 0.951}
"""By target: the rate is that of 900 fresh images, whose own chance adds to the spread."""


@pytest.fixture(scope="module")
def demo():
    """The 20 classes that the mini model never saw: a head, training rows, and 1,000 other images."""
    train, test = tiny_twenty("train"), tiny_twenty("val")
    tower = load_backbone("mini", device="cpu").text_tower()
    text = text_features(tower, [TEMPLATE.format(name) for name in train.classes]).numpy()
    return Head(train.classes, unit(text)), Rows(train.features, train.labels), test.features


def inside(scores, target: float, seeds: int) -> list[bool]:
    """Whether the rate of fresh images that gamma keeps lies in its interval, for each draw of 100 images."""
    found = []
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(len(scores))
        threshold = calibrate(scores[order[:HELD_OUT]], target)
        kept = float(np.mean(scores[order[HELD_OUT:]] >= threshold.gamma))
        found.append(threshold.tpr_low <= kept <= threshold.tpr_high)
    return found


@pytest.mark.parametrize("target", [0.95, 0.9, 0.8])
@pytest.mark.parametrize("name", ["mcm", "energy", "knn", "mahalanobis"])
def test_the_realised_tpr_lies_in_its_interval(demo, name, target) -> None:
    head, train, images = demo
    scores = score_in_chunks(ready(load_score(name), head, train), images)
    held = inside(scores, target, MANY)
    assert sum(held[:SEEDS]) >= AT_LEAST
    assert np.mean(held) == pytest.approx(COVERED[target], abs=0.03)
