"""Pixels as a model sees them: open_clip's own to the bit, or within two grey levels."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lsncli.backbones import load_again, load_backbone
from lsncli.backbones.loading import ensure_torchvision
from lsncli.backbones.preprocessing import (
    Preprocessing,
    decoding_fast,
    normalised,
    pillow_takes_height_first,
    preprocessing_of,
)
from lsncli.errors import FingerprintMismatch, UsageError
from lsncli.types import Fingerprint

ensure_torchvision()
from open_clip.transform import image_transform  # noqa: E402

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
MODES = ("shortest", "squash")
FILTERS = ("bicubic", "bilinear")
Transform = Callable[..., torch.Tensor]


def theirs(
    size: object, mode: str, interpolation: str
) -> tuple[Callable[..., torch.Tensor], dict[str, object]]:
    """open_clip's transform, and the configuration that it comes of."""
    config = {"size": size, "resize_mode": mode, "interpolation": interpolation, "mean": MEAN, "std": STD}
    made = image_transform(size, False, mean=MEAN, std=STD, resize_mode=mode, interpolation=interpolation)
    return made, config


def content(kind: str, height: int, width: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    if kind == "noise":
        return random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    if kind == "black and white":  # rounding and clipping show most where contrasts are hard
        return random.integers(0, 2, (height, width, 3), dtype=np.uint8) * np.uint8(255)
    if kind == "chess":
        return (np.indices((height, width)).sum(0) % 2 * 255).astype(np.uint8)[..., None].repeat(3, 2)
    small = random.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return np.array(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


KINDS = ("noise", "black and white", "chess", "smooth")
SIDES = st.one_of(st.integers(1, 40), st.integers(40, 300), st.integers(300, 1200))


@settings(max_examples=40, deadline=None)
@given(
    mode=st.sampled_from(MODES),
    interpolation=st.sampled_from(FILTERS),
    size=st.sampled_from([32, 64, 97]),
    height=SIDES,
    width=SIDES,
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 99),
)
def test_exact_is_open_clip_s_to_the_bit_and_fast_within_two_levels(
    mode: str, interpolation: str, size: int, height: int, width: int, kind: str, seed: int
) -> None:
    transform, config = theirs(size, mode, interpolation)
    ours = preprocessing_of(transform, config)
    assert isinstance(ours, Preprocessing)
    array = content(kind, height, min(width, 20 * height), seed)
    array = array[: 20 * array.shape[1]]
    image = Image.fromarray(array)
    expected = transform(image)
    assert torch.equal(ours(image), expected)
    assert torch.equal(ours(array), expected)
    quick = replace(ours, fast=True)
    levels = (quick(array) - expected) * torch.tensor(STD).view(3, 1, 1) * 255
    assert float(levels.abs().max()) < 2.001
    assert torch.equal(quick(image), quick(array))


@pytest.mark.parametrize("turned", [False, True])
def test_long_and_narrow_images_are_within_two_levels(turned: bool) -> None:
    """Where Pillow takes the height first, and bytes are clipped in between."""
    for kind in KINDS:
        array = content(kind, 420, 79, 3)
        array = np.ascontiguousarray(array.transpose(1, 0, 2)) if turned else array
        for mode in MODES:
            exact = Preprocessing((336, 336), mode == "squash", "bicubic", (0.0,) * 3, (1 / 255,) * 3)
            off = replace(exact, fast=True)(array) - exact(array)
            assert float(off.abs().max()) < 2.001, (kind, mode)


def test_which_direction_pillow_takes_first_is_seen_from_pillow() -> None:
    first = int(__import__("PIL").__version__.split(".")[0])
    assert pillow_takes_height_first() == (first >= 13)


def test_every_value_is_normalised_as_torchvision_does() -> None:
    transform, _ = theirs(256, "squash", "bicubic")
    values = np.arange(256 * 256, dtype=np.uint32).astype(np.uint8).reshape(256, 256, 1).repeat(3, 2)
    expected = transform(Image.fromarray(values)).numpy()
    assert np.array_equal(normalised(values.transpose(2, 0, 1), MEAN, STD), expected)


@pytest.mark.parametrize(("size", "mode"), [(64, "longest"), ((48, 64), "shortest")])
def test_other_transforms_are_left_as_they_are(size: object, mode: str) -> None:
    transform, config = theirs(size, mode, "bicubic")
    assert preprocessing_of(transform, config) is transform


def test_a_transform_that_differs_from_its_configuration_is_left_as_it_is() -> None:
    transform, config = theirs(64, "squash", "bicubic")
    assert preprocessing_of(transform, config | {"resize_mode": "shortest"}) is transform
    assert preprocessing_of(transform, config | {"interpolation": "bilinear"}) is transform
    assert preprocessing_of(transform, config | {"mean": (0.5, 0.5, 0.5)}) is transform


def test_a_thread_of_an_image_is_an_error_and_no_bomb() -> None:
    strip = Image.new("RGB", (1_000_000, 1))
    for fast in (False, True):
        with pytest.raises(ValueError, match="too long and narrow: 1000000 x 1 pixels"):
            Preprocessing((224, 224), False, "bicubic", MEAN, STD, fast)(strip)


def test_a_fast_model_is_another_one_that_is_found_again(tiny_model: str) -> None:
    exact = load_backbone(tiny_model, device="cpu")
    quick = load_backbone(tiny_model, device="cpu", decode="fast")
    assert quick.fingerprint == replace(exact.fingerprint, decode="fast")
    assert quick.fingerprint.digest != exact.fingerprint.digest
    assert "decode" not in exact.fingerprint.to_json()
    assert '"decode": "fast"' in quick.fingerprint.to_json()
    assert "fast decoding" in str(quick.fingerprint)
    for one in (exact, quick):
        assert Fingerprint.from_json(one.fingerprint.to_json()) == one.fingerprint
    again = load_again(Fingerprint.from_json(quick.fingerprint.to_json()), device="cpu")
    image = content("smooth", 90, 120, 1)
    assert torch.equal(again.preprocess(image), quick.preprocess(image))
    assert not torch.equal(quick.preprocess(image), exact.preprocess(image))


def test_no_other_word_for_decoding_and_no_model_without_a_fast_way(tiny_model: str) -> None:
    with pytest.raises(UsageError, match="--decode: expected exact or fast, found 'quick'"):
        load_backbone(tiny_model, device="cpu", decode="quick")
    odd = replace(load_backbone(tiny_model, device="cpu"), transform=lambda image: torch.zeros(3, 2, 2))
    with pytest.raises(UsageError, match="a way of its own"):
        decoding_fast(odd)


def test_exact_and_fast_features_do_not_mix(tiny_model: str) -> None:
    quick = load_backbone(tiny_model, device="cpu", decode="fast")
    with pytest.raises(FingerprintMismatch):
        load_again(replace(quick.fingerprint, weights="0" * 64), device="cpu")
