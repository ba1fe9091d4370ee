"""The image tower on a CPU: what the fast forward computes is open_clip's, and it takes nothing else on."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from lsncli.backbones import fused_vit
from lsncli.backbones.fused_vit import FusedVit, is_known
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
    assert is_known(tower)
    forward = FusedVit(tower)
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
    monkeypatch.setattr(fused_vit, "ROWS", 4 * 17)
    tower, pixels = vision(), images(number, 32)
    assert FusedVit(tower)._at_once == 4
    assert largest_difference(tower, pixels) < AGREEMENT


@with_onednn
def test_a_tower_of_more_tokens_than_are_computed_at_once_takes_one_image(monkeypatch) -> None:
    monkeypatch.setattr(fused_vit, "ROWS", 10)
    assert largest_difference(vision(), images(3, 32)) < AGREEMENT


@with_onednn
def test_threads_share_the_packed_weights_and_leave_the_model_as_it_is() -> None:
    tower, pixels = vision(), images(4, 32)
    before = {name: one.clone() for name, one in tower.state_dict().items()}
    forward = FusedVit(tower)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(torch.inference_mode()(forward), [pixels] * 16))
    assert all(torch.equal(one, found[0]) for one in found)
    assert all(torch.equal(one, before[name]) for name, one in tower.state_dict().items())


@with_onednn
def test_a_pass_leaves_no_graph_and_the_pixels_alone() -> None:
    pixels = images(2, 32)
    before = pixels.clone()
    features = FusedVit(vision())(pixels)
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
def test_no_other_architecture_is_known(name: str) -> None:
    assert not is_known(UNKNOWN[name]())


def test_without_onednn_no_tower_is_known(monkeypatch) -> None:
    monkeypatch.setattr(kernels, "works", lambda: False)
    assert not is_known(vision())
