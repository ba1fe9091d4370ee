"""Looks of a head's prompts in an image: which prompts, their cosines, and maps that sum to one."""

import numpy as np
import pytest
import torch
from PIL import Image

from lsncli.errors import LsnError, UsageError
from lsncli.explanation.saliency import PromptMap, explain, read_image
from lsncli.types import Head, unit

CLASSES = ("cat", "dog", "ox")


def head(negatives: int = 2, dim: int = 32) -> Head:
    random = np.random.default_rng(3)
    negative = unit(random.normal(size=(negatives, 3, dim))) if negatives else None
    return Head(CLASSES, unit(random.normal(size=(3, dim))), 100.0, negative)


def photo() -> Image.Image:
    return Image.fromarray(np.random.default_rng(4).integers(0, 256, (40, 50, 3), dtype=np.uint8))


def test_the_predicted_class_comes_first_with_its_positive_and_negative_prompts(tiny_backbone) -> None:
    given = head()
    features = unit(tiny_backbone.differentiable(tiny_backbone.preprocess(photo())[None]).numpy())[0]
    best = int((given.weights @ features).argmax())
    other = CLASSES[(best + 1) % 3]
    found = explain(tiny_backbone, given, photo(), [other, other])
    assert found.predicted == CLASSES[best]
    assert [(look.name, look.prompt) for look in found.maps] == [
        (name, prompt)
        for name in (CLASSES[best], other)
        for prompt in ("positive", "negative 1", "negative 2")
    ]
    for look in found.maps:
        text = given.negative[look.negative - 1] if look.negative else given.weights
        assert look.cosine == pytest.approx(features @ text[CLASSES.index(look.name)], abs=1e-6)
        assert look.weights.shape == (2, 2)
        assert (look.weights >= 0).all()
        assert look.weights.sum() == pytest.approx(1) or not look.weights.any()
        assert look.overlap(look) == pytest.approx(look.weights.sum())
    assert any(look.weights.any() for look in found.maps)


def test_maps_are_those_of_what_sets_a_class_apart(tiny_backbone) -> None:
    given = head(0)
    (look,) = explain(tiny_backbone, given, photo()).maps
    row = CLASSES.index(look.name)
    centred = given.weights[row] - given.weights.mean(axis=0)
    pixels = tiny_backbone.preprocess(photo())[None]
    wanted = tiny_backbone.relevance(pixels, torch.tensor(unit(centred[None])).float())[0].double().numpy()
    np.testing.assert_allclose(look.weights, wanted / wanted.sum(), rtol=1e-4, atol=1e-6)


def test_what_texts_have_in_common_does_not_count(tiny_backbone) -> None:
    given = head(0)
    shared = np.random.default_rng(6).normal(size=32) * 3
    shifted = Head(CLASSES, given.weights + shared)
    plain, moved = (explain(tiny_backbone, one, photo(), CLASSES).maps for one in (given, shifted))
    for name in CLASSES:
        one, other = (next(look for look in looks if look.name == name) for looks in (plain, moved))
        np.testing.assert_allclose(one.weights, other.weights, rtol=1e-3, atol=1e-5)


def test_one_class_alone_can_be_looked_for(tiny_backbone) -> None:
    found = explain(tiny_backbone, Head(("cat",), head().weights[:1]), photo())
    assert [look.name for look in found.maps] == ["cat"]


def test_the_picture_is_what_the_model_sees(tiny_backbone) -> None:
    seen = explain(tiny_backbone, head(), photo()).seen
    assert seen.shape == (32, 32, 3)
    again = tiny_backbone.preprocess(Image.fromarray(seen))
    assert float((again - tiny_backbone.preprocess(photo())).abs().max()) < 0.02 / 0.2


def test_peaks_and_overlaps_are_of_the_heaviest_cells() -> None:
    one = PromptMap("cat", 0, 0.1, np.array([[0.25, 0.75], [0, 0]]))
    other = PromptMap("cat", 1, 0.1, np.array([[0.5, 0], [0.5, 0]]))
    assert one.peak == (0.75, 0.25)
    assert one.overlap(other) == 0.25
    assert PromptMap("cat", 0, 0.1, np.zeros((2, 2))).peak is None


def test_what_cannot_be_explained_is_refused(tiny_backbone, tmp_path) -> None:
    with pytest.raises(UsageError, match="one of the 3 classes, found 'hen'"):
        explain(tiny_backbone, head(), photo(), ["hen"])
    with pytest.raises(LsnError, match="change with the image"):
        explain(tiny_backbone, Head(CLASSES, lambda features: features), photo())
    with pytest.raises(UsageError, match="expected one image, found 0"):
        read_image(tmp_path)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    with pytest.raises(LsnError, match=r"broken\.png' cannot be used"):
        read_image(tmp_path / "broken.png")
