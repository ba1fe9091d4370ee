"""The image tower on a CPU: what the fast forward computes is open_clip's, and it takes nothing else on."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from lsncli.backbones import fast_image_tower, load_backbone
from lsncli.backbones.fast_image_tower import FastImageTower, image_forward
from lsncli.backbones.loading import ensure_torchvision
from lsncli.prompts import kernels

ensure_torchvision()
import open_clip  # noqa: E402
from open_clip.modified_resnet import ModifiedResNet  # noqa: E402
from open_clip.timm_model import TimmModel  # noqa: E402
from open_clip.transformer import LayerNormFp32, QuickGELU, VisionTransformer  # noqa: E402

AGREEMENT = 2e-5

with_onednn = pytest.mark.skipif(not kernels.works(), reason="this torch has no oneDNN linear operator")


def moved(tower: nn.Module, seed: int = 0) -> nn.Module:
    """Frozen, every parameter moved off its initial value: no bias is zero, no scale is one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for one in tower.parameters():
            one += 0.02 * torch.randn(one.shape, generator=generator)
    return tower.eval().requires_grad_(False)


def vision(size: int = 32, patch: int = 8, width: int = 32, layers: int = 3, **other: Any) -> nn.Module:
    heads = other.pop("heads", 2)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        tower = VisionTransformer(size, patch, width, layers, heads, 4.0, output_dim=16, **other)
    return moved(tower)


def images(number: int, size: int, seed: int = 5) -> torch.Tensor:
    return torch.randn(number, 3, size, size, generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def largest_difference(tower: nn.Module, pixels: torch.Tensor) -> float:
    """Relative to the largest feature, of the fast forward and open_clip's."""
    forward = image_forward(tower)
    assert isinstance(forward, FastImageTower)
    expected, found = tower(pixels), forward(pixels)
    assert (found.shape, found.dtype) == (expected.shape, torch.float32)
    return float((found - expected).abs().max() / expected.abs().max())


@with_onednn
@pytest.mark.parametrize(
    "options",
    [
        {"act_layer": nn.GELU},
        {"act_layer": QuickGELU},
        {"act_layer": partial(nn.GELU, approximate="tanh")},
        {"norm_layer": LayerNormFp32},
        {"no_ln_pre": True},
        {"pool_type": "avg"},
        {"pool_type": "avg", "final_ln_after_pool": True},
        {"final_ln_after_pool": True},
        {"pos_embed_type": "sin_cos_2d"},
        {"patch_dropout": 0.5},
        {"layers": 1},
        {"layers": 1, "pool_type": "avg"},
    ],
    ids=lambda options: ", ".join(f"{key} {getattr(one, '__name__', one)}" for key, one in options.items()),
)
def test_every_kind_of_tower_gives_open_clips_features(options: dict[str, Any]) -> None:
    assert largest_difference(vision(**options), images(5, 32)) < AGREEMENT


@with_onednn
@pytest.mark.parametrize(
    ("shape", "number"),
    [
        ({"patch": 32, "width": 768, "heads": 12, "layers": 2}, 3),  # ViT-B-32
        ({"patch": 16, "width": 768, "heads": 12, "layers": 2, "act_layer": QuickGELU}, 2),  # ViT-B-16
        ({"patch": 14, "width": 1024, "heads": 16, "layers": 1, "act_layer": QuickGELU}, 1),  # ViT-L-14
    ],
    ids=["ViT-B-32", "ViT-B-16", "ViT-L-14"],
)
def test_blocks_of_real_size_give_open_clips_features(shape: dict[str, Any], number: int) -> None:
    assert largest_difference(vision(224, **shape), images(number, 224)) < AGREEMENT


@with_onednn
@pytest.mark.slow
@pytest.mark.parametrize("name", ["ViT-B-32", "ViT-B-32-quickgelu", "ViT-B-16"])
def test_whole_towers_give_open_clips_features(name: str) -> None:
    config = open_clip.get_model_config(name)
    assert largest_difference(moved(open_clip.CLIP(**config).visual), images(4, 224)) < AGREEMENT


@with_onednn
@pytest.mark.parametrize("number", [1, 7, 8, 13])
def test_a_batch_may_be_larger_than_what_is_computed_at_once(monkeypatch, number: int) -> None:
    monkeypatch.setattr(fast_image_tower, "ROWS", 4 * 17)
    tower, pixels = vision(), images(number, 32)
    assert image_forward(tower)._at_once == 4
    assert largest_difference(tower, pixels) < AGREEMENT


@with_onednn
def test_a_tower_of_more_tokens_than_are_computed_at_once_takes_one_image(monkeypatch) -> None:
    monkeypatch.setattr(fast_image_tower, "ROWS", 10)
    assert largest_difference(vision(), images(3, 32)) < AGREEMENT


@with_onednn
def test_weights_are_packed_at_the_first_image_and_once_for_all_threads(monkeypatch) -> None:
    tower, pixels = vision(), images(4, 32)
    before = {name: one.clone() for name, one in tower.state_dict().items()}
    packed = []
    whole = fast_image_tower._block
    monkeypatch.setattr(fast_image_tower, "_block", lambda *of: (packed.append(of), whole(*of))[1])
    forward = image_forward(tower)
    assert packed == []
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(torch.inference_mode()(forward), [pixels] * 16))
    assert len(packed) == 3
    assert all(torch.equal(one, found[0]) for one in found)
    assert all(torch.equal(one, before[name]) for name, one in tower.state_dict().items())


def test_a_pass_leaves_no_graph_and_the_pixels_alone() -> None:
    pixels = images(2, 32)
    before = pixels.clone()
    features = image_forward(vision())(pixels)
    assert not features.requires_grad
    assert torch.equal(pixels, before)


UNKNOWN: dict[str, Any] = {
    "half precision": lambda: vision().bfloat16(),
    "training": lambda: vision().train(),
    "CoCa's pooling": lambda: vision(attentional_pool=True, attn_pooler_heads=2),
    "every patch as an answer": lambda: vision(pool_type="none"),
    "tokens beside the feature": lambda: vision(output_tokens=True),
    "layer scale": lambda: vision(ls_init_value=0.1),
    "custom blocks": lambda: vision(qk_norm=True, block_type="custom"),
    "another activation": lambda: vision(act_layer=nn.ReLU),
    "no bias": lambda: without_bias(vision()),
    "a ResNet": lambda: moved(ModifiedResNet((1, 1, 1, 1), 16, 4, image_size=32, width=8)),
    "timm": lambda: moved(TimmModel("mobilenetv2_050", 16, pool="avg", proj="linear")),
}


def without_bias(tower: Any) -> nn.Module:
    tower.transformer.resblocks[1].attn.in_proj_bias = None
    return tower


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_not_known_runs_as_it_is(name: str) -> None:
    tower = UNKNOWN[name]()
    forward = image_forward(tower)
    assert not isinstance(forward, FastImageTower)
    pixels = images(3, 32).to(next(tower.parameters()).dtype)
    with torch.inference_mode():
        torch.manual_seed(0)
        expected = tower(pixels)
        torch.manual_seed(0)
        assert torch.equal(forward(pixels), expected[0] if isinstance(expected, tuple) else expected)


def test_without_onednn_the_model_runs_as_it_is(monkeypatch) -> None:
    monkeypatch.setattr(kernels, "works", lambda: False)
    tower, pixels = vision(), images(2, 32)
    assert torch.equal(image_forward(tower)(pixels), tower(pixels))


@with_onednn
def test_a_loaded_clip_takes_the_fast_forward_and_mini_its_own(tiny_backbone) -> None:
    assert isinstance(tiny_backbone.forward, FastImageTower)
    mini = load_backbone("mini", device="cpu")
    assert not isinstance(mini.forward, FastImageTower)
