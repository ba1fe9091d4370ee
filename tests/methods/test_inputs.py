"""Methods that look at pixels or words are compared beside the others, or say what they miss."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lsncli.detection.calibrate import make_detector
from lsncli.errors import UsageError
from lsncli.evaluation.evaluate import choose_splits, evaluate, plan_evaluation
from lsncli.extraction.extract import extract
from lsncli.images.listing import list_images
from lsncli.methods.inputs import ImageAccess
from lsncli.methods.spec import parse_method
from lsncli.methods.workspace import Workspace
from lsncli.prompts.text_features import text_features
from lsncli.scores import load_score
from lsncli.scores.zoc import PROMPT
from lsncli.store.reader import read_split
from lsncli.types import unit

NOWHERE = ImageAccess()


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for split, folders, count in (
        ("train", ("cat", "dog"), 6),
        ("test", ("cat", "dog"), 3),
        ("far", ("x",), 4),
    ):
        for folder in folders:
            (root / split / folder).mkdir(parents=True)
            for number in range(count):
                rough = random.integers(0, 256, (5, 5, 3), dtype=np.uint8)
                image = Image.fromarray(rough).resize((40, 40), Image.Resampling.BICUBIC)
                image.save(root / split / folder / f"{number}.png")
    return root


@pytest.fixture
def work(tmp_path, photos, tiny_backbone) -> Workspace:
    made = Workspace(tmp_path / "work")
    for split in ("train", "test", "far"):
        extract(
            list_images([photos / split]), source="", store=made.features, split=split, backbone=tiny_backbone
        )
    return made


def run(work: Workspace, backbone, *methods: str, images: ImageAccess = NOWHERE):
    """How many scores were not known before, and the evaluation."""
    inside, outside = choose_splits(work, "test", ("far",), "train")
    chosen = [parse_method(text) for text in methods]
    plan = plan_evaluation(work, chosen, inside, outside, "train", model=lambda: backbone, images=images)
    todo = plan.rows
    return todo, evaluate(plan)


def test_odin_looks_at_the_images_of_a_split(work, photos, tiny_backbone) -> None:
    images = ImageAccess({"test": [photos / "test"], "far": [photos / "far"]}, batch_size=4)
    _, found = run(work, tiny_backbone, "odin", "odin,eps=0.01", images=images)
    assert found.failed == ()
    plain, moved = (one.scores for one in found.methods)
    for split, rows in (("test", 6), ("far", 4)):
        assert moved[split].shape == (rows,)
        assert not np.array_equal(plain[split], moved[split])
    todo, _ = run(work, tiny_backbone, "odin", "odin,eps=0.01", images=images)
    assert todo == 0


def test_odin_without_the_images_of_every_split_says_which(work, photos, tiny_backbone) -> None:
    images = ImageAccess({"test": [photos / "test"]}, batch_size=4)
    _, found = run(work, tiny_backbone, "mcm", "odin,eps=0.01", images=images)
    assert [one.label for one in found.results] == ["MCM"]
    ((_, reason),) = found.failed
    assert "needs the images of split 'far'" in reason
    assert "--images far=FOLDER" in reason


def test_zoc_takes_the_words_of_every_image(work, tiny_backbone) -> None:
    words = {"test": ["tree", "car"], "far": ["boat"]}
    work.candidates("test").parent.mkdir()
    for split, given in words.items():
        lines = [
            json.dumps({"key": key, "candidates": given}) for key in read_split(work.features, split).keys
        ]
        work.candidates(split).write_text("\n".join(lines))
    _, found = run(work, tiny_backbone, "zoc")
    assert found.failed == ()
    (one,) = found.methods
    tower = tiny_backbone.text_tower()
    scale = tiny_backbone.fingerprint.logit_scale
    for split, given in words.items():
        texts = [PROMPT.format(word) for word in ("cat", "dog", *given)]
        text = unit(text_features(tower, texts).detach().numpy())
        logits = scale * unit(read_split(work.features, split).features) @ text.T
        softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        # A logit of some 20 is known to 1e-6 in float32, and so is the logarithm of a probability.
        np.testing.assert_allclose(one.scores[split], -softmax[:, 2:].sum(axis=1), rtol=1e-4)
    assert run(work, tiny_backbone, "zoc")[0] == 0
    work.candidates("far").write_text(work.candidates("far").read_text().replace("boat", "ship"))
    assert run(work, tiny_backbone, "zoc")[0] == 4


def test_zoc_without_words_says_how_to_get_them(work, tiny_backbone) -> None:
    _, found = run(work, tiny_backbone, "mcm", "zoc")
    ((_, reason),) = found.failed
    assert "lsn candidates" in reason


@pytest.mark.parametrize("method", ["odin,eps=0.01", "zoc"])
def test_what_is_no_function_of_features_cannot_be_a_detector(work, tiny_backbone, method) -> None:
    with pytest.raises(UsageError, match="looks at more of an image than its features"):
        make_detector(work, parse_method(method), model=lambda: tiny_backbone)
    assert not work.detector.exists()
    assert load_score("odin").eps == 0


def test_the_time_of_encoding_words_is_measured_only_for_those_that_are_not_kept(
    tmp_path, tiny_backbone, monkeypatch
) -> None:
    from lsncli.methods import inputs, word_features
    from lsncli.methods.heads import Heads
    from lsncli.methods.words import pool_texts

    monkeypatch.setattr(word_features, "cache_folder", lambda: tmp_path / "cache")
    seconds = iter((10.0, 12.0, 0.0, 0.0))
    monkeypatch.setattr(inputs.time, "perf_counter", lambda: next(seconds))
    monkeypatch.setattr(inputs, "TIMED", 4)
    (tmp_path / "words.txt").write_text("\n".join(f"thing {number}" for number in range(40)))
    method = parse_method(f"neglabel,words={tmp_path / 'words.txt'}")
    work = Workspace(tmp_path / "work")
    from workspace_samples import workspace

    workspace(work.folder, tiny_backbone.fingerprint)
    found = inputs.inputs_for(method, Heads(work, ("cat", "dog"), lambda: tiny_backbone))
    assert found.seconds_to_encode() == pytest.approx(40 * 2.0 / 4)
    heads = found.heads
    word_features.WordEncoder(heads.tower, heads.fingerprint.digest, heads.model_code)(
        pool_texts(found.choice)
    )
    assert found.seconds_to_encode() == 0.0
