"""Reasons of a verdict: the numbers of `lsn score`, a softmax over classes, and where a score stands."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from workspace_samples import CLASSES, NEG, POS, clusters, workspace

from lsncli.artefacts.detector import load_detector
from lsncli.artefacts.prompts import Conditional
from lsncli.detection.calibrate import known_rows, make_detector
from lsncli.detection.detect import detect
from lsncli.detection.scored_sets import Scorer
from lsncli.errors import LsnError
from lsncli.explanation import evidence as use
from lsncli.explanation.evidence import explain_verdict, held_out_scores, likely_classes
from lsncli.images.decode import decode
from lsncli.images.listing import list_images
from lsncli.methods.heads import head_from
from lsncli.methods.spec import parse_method
from lsncli.store.format import Split
from lsncli.store.reader import read_split
from lsncli.training.prompts import plan_negative, plan_positive, train_prompts
from lsncli.types import Head, unit


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_backbone):
    """A workspace with an LSN detector, and an image."""
    folder = tmp_path_factory.mktemp("reasons")
    work = workspace(folder / "work", tiny_backbone.fingerprint)
    train_prompts(work, tiny_backbone, plan_positive(work), POS)
    train_prompts(work, tiny_backbone, plan_negative(work), NEG)
    pixels = np.random.default_rng(4).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "a.png")
    return work, load_detector(work.detector), folder / "a.png"


def test_the_verdict_is_that_of_lsn_score(made, tiny_backbone) -> None:
    work, detector, path = made
    listing = list_images([path])
    ((_, (verdict,)),) = detect(listing, detector, tiny_backbone, batch_size=4, workers=1)
    head, split = head_from(detector.head, lambda: tiny_backbone), read_split(work.features, "train")
    image = decode(path.read_bytes())
    why = explain_verdict(str(path), image, tiny_backbone, head, detector=detector, split=split, count=4)
    assert why.evidence.verdict == verdict
    assert why.evidence.label == detector.label
    names = [one.name for one in why.evidence.measures]
    values = [one.value for one in why.evidence.measures]
    assert names == ["score", "positive", "negative", "gamma"]
    assert values == [verdict.score, verdict.positive, verdict.negative, detector.threshold.gamma]
    assert {one.below for one in why.evidence.measures[1:3]} == {None}  # only the store has the parts
    assert why.likely[0].name == verdict.predicted
    assert (len(why.nearest), why.split) == (4, "train")
    features = unit(tiny_backbone.encode(tiny_backbone.preprocess(image)[None]))
    assert why.nearest[0].cosine == pytest.approx((features @ unit(split.features).T).max())


def test_the_sentence_says_on_which_side_of_gamma_the_score_is(made, tiny_backbone) -> None:
    _, detector, path = made
    head, image = head_from(detector.head, lambda: tiny_backbone), decode(path.read_bytes())
    for shift, sentence in ((0.5, "OOD: the score is 0.5"), (-0.25, "ID: the score is 0.25")):
        score = explain_verdict("a", image, tiny_backbone, head, detector=detector).evidence.verdict.score
        moved = replace(detector, threshold=replace(detector.threshold, gamma=score + shift))
        found = explain_verdict("a", image, tiny_backbone, head, detector=moved).evidence
        assert found.sentence.startswith(sentence)
        assert found.sentence.endswith(f"{'below' if shift > 0 else 'above'} gamma")
        assert found.verdict.is_ood == (shift > 0)


def test_without_detector_and_store_there_are_classes_alone(tiny_backbone, made) -> None:
    _, detector, path = made
    head = head_from(detector.head, lambda: tiny_backbone)
    why = explain_verdict("a", decode(path.read_bytes()), tiny_backbone, head, top=2)
    assert (why.evidence, why.nearest, why.split, len(why.likely)) == (None, (), "", 2)


def test_probabilities_are_a_softmax_of_logits() -> None:
    text = np.eye(3, 8)
    features = np.array([[0.3, 0.31, 0.2, 0.9, 0, 0, 0, 0]])
    found = likely_classes(Head(CLASSES, text, scale=50.0), features, 9)
    cosines = unit(features)[0, :3]
    wanted = np.exp(50 * cosines) / np.exp(50 * cosines).sum()
    order = np.argsort(-wanted)
    assert [one.name for one in found] == [CLASSES[at] for at in order]
    assert [one.probability for one in found] == pytest.approx(wanted[order])
    assert [one.cosine for one in found] == pytest.approx(cosines[order])


def test_where_a_score_stands_is_counted_among_held_out_images(made, tiny_backbone, monkeypatch) -> None:
    work, detector, path = made
    scorer, split = Scorer(detector, lambda: tiny_backbone), read_split(work.features, "train")
    held_out = held_out_scores(work, scorer, split)
    rows = known_rows(work, split).held_out
    assert len(held_out) == len(rows) == detector.threshold.n
    head = head_from(detector.head, lambda: tiny_backbone)
    why = explain_verdict(
        "a", decode(path.read_bytes()), tiny_backbone, head, detector=detector, held_out=held_out
    ).evidence
    for one, others in zip(
        why.measures,
        (held_out.scores, held_out.positive, held_out.negative, held_out.scores),
        strict=True,
    ):
        assert one.below == sum(other < one.value for other in others) / len(rows)
    of_detector = explain_verdict("a", decode(path.read_bytes()), tiny_backbone, head, detector=detector)
    assert [one.below for one in of_detector.evidence.measures] == [
        why.measures[0].below,
        None,
        None,
        why.measures[3].below,
    ]
    monkeypatch.setattr(use, "HELD_OUT", 2)
    assert len(held_out_scores(work, scorer, split)) == 2


def test_where_held_out_images_cannot_be_had_nothing_is_compared(made, tiny_backbone) -> None:
    work, detector, _ = made
    scorer, split = Scorer(detector, lambda: tiny_backbone), read_split(work.features, "train")
    assert held_out_scores(work, scorer, clusters("far", labelled=False)) is None
    assert held_out_scores(work, scorer, replace(split, classes=("cat", "dog", "hen"))) is None
    changed: Split = replace(split, keys=tuple(f"new/{key}" for key in split.keys))
    assert held_out_scores(work, scorer, changed) is None
    conditional = Conditional(np.zeros((4, 32), np.float32), {}, {})
    costly = replace(detector, head=replace(detector.head, weights=conditional))
    assert held_out_scores(work, replace(scorer, detector=costly), split) is None


def test_a_score_without_parts_is_shown_without_them(made, tiny_backbone) -> None:
    work, _, path = made
    saved = work.detector.read_bytes()
    other = make_detector(work, parse_method("mcm:positive"), model=lambda: tiny_backbone)
    work.detector.write_bytes(saved)
    head = head_from(other.head, lambda: tiny_backbone)
    found = explain_verdict("a", decode(path.read_bytes()), tiny_backbone, head, detector=other).evidence
    assert [one.name for one in found.measures] == ["score", "gamma"]


def test_an_image_without_features_is_refused(made, tiny_backbone) -> None:
    _, detector, path = made

    class Broken:
        fingerprint, device = tiny_backbone.fingerprint, tiny_backbone.device

        def preprocess(self, image):
            return torch.zeros(3, 32, 32)

        def encode(self, pixels):
            return np.zeros((1, 32), np.float16)

    head = head_from(detector.head, lambda: tiny_backbone)
    with pytest.raises(LsnError, match=r"'b\.png' cannot be used: the features are all zero"):
        explain_verdict("b.png", decode(path.read_bytes()), Broken(), head)
