"""Maps of where cosines come from: masking what is heavy costs more than masking what is light."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import normalize

from lsncli.backbones import load_backbone
from lsncli.backbones.loading import ensure_torchvision
from lsncli.backbones.relevance import _attention, grad_cam, relevance
from lsncli.errors import UsageError
from lsncli.prompts.text_features import text_features

ensure_torchvision()
from open_clip.modified_resnet import ModifiedResNet  # noqa: E402
from open_clip.timm_model import TimmModel  # noqa: E402
from open_clip.transformer import VisionTransformer  # noqa: E402

NAMES = (
    "tabby",
    "espresso",
    "astronaut",
    "rocket",
    "motorcycle",
    "galaxy",
    "flower",
    "temple",
    "coin",
    "wall",
)
TOWERS = {
    "ViT": (lambda: VisionTransformer(64, 8, 64, 2, 4, 4.0, output_dim=16), 64, 8),
    "ViT, mean of patches": (
        lambda: VisionTransformer(64, 8, 64, 2, 4, 4.0, output_dim=16, pool_type="avg"),
        64,
        8,
    ),
    "ViT, attention pool": (
        lambda: VisionTransformer(
            64,
            8,
            64,
            2,
            4,
            4.0,
            output_dim=16,
            attentional_pool=True,
            attn_pooler_heads=4,
            attn_pooler_queries=8,
        ),
        64,
        8,
    ),
    "CLIP's ResNet": (lambda: ModifiedResNet((1, 1, 1, 1), 16, 4, image_size=128, width=16), 128, 4),
    "timm ViT": (lambda: TimmModel("vit_tiny_patch16_224", 16, pool="", proj="linear"), 224, 14),
    "timm ResNet": (lambda: TimmModel("resnet10t", 16, pool="", proj="linear"), 128, 4),
    "timm ConvNeXt": (lambda: TimmModel("convnext_atto", 16, pool="", proj="linear"), 128, 4),
    "timm Swin": (lambda: TimmModel("swin_tiny_patch4_window7_224", 16, pool="", proj="linear"), 224, 7),
}


@pytest.fixture(scope="module")
def mini():
    return load_backbone("mini", device="cpu")


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    skimage = pytest.importorskip("skimage", reason="its sample photos are looked at")
    folder = Path(skimage.__file__).parent / "data"
    names = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png", "coins.png")
    return [Image.open(folder / name).convert("RGB") for name in names]


def tower_of(kind: str) -> tuple[nn.Module, int, int]:
    make, size, side = TOWERS[kind]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().eval().requires_grad_(False), size, side


def pixels_of(image: Image.Image, size: int) -> Tensor:
    small = np.array(image.resize((size, size)), np.float32)
    return (torch.from_numpy(small).permute(2, 0, 1)[None] / 255 - 0.45) / 0.25


def directions(count: int, dim: int) -> Tensor:
    return normalize(torch.randn(count, dim, generator=torch.Generator().manual_seed(1)), dim=-1)


def noise(size: int) -> Tensor:
    return torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(2))


def loss_of(tower, pixels: Tensor, direction: Tensor, weights: Tensor, *, heavy: bool) -> float:
    """How much the cosine falls when the heaviest (or lightest) sixth of the cells gets the mean colour."""
    height, width = weights.shape
    down, across = pixels.shape[-2] // height, pixels.shape[-1] // width
    masked = pixels.clone()
    for cell in weights.flatten().argsort(descending=heavy)[: max(1, weights.numel() // 6)].tolist():
        top, left = cell // width * down, cell % width * across
        masked[..., top : top + down, left : left + across] = pixels.mean(dim=(2, 3), keepdim=True)
    with torch.no_grad():
        before, after = (normalize(tower(x), dim=-1)[0] @ direction for x in (pixels, masked))
    return float(before - after)


@pytest.mark.parametrize("kind", TOWERS)
def test_maps_are_finite_not_negative_and_of_the_last_grid(kind: str) -> None:
    tower, size, side = tower_of(kind)
    found = relevance(tower, noise(size), directions(3, 16))
    assert found.shape == (3, side, side)
    assert found.isfinite().all()
    assert (found >= 0).all()
    assert (found.flatten(1).sum(dim=1) > 0).any()
    assert not found.requires_grad


@pytest.mark.parametrize("kind", TOWERS)
def test_looking_changes_nothing_and_is_the_same_again(kind: str) -> None:
    tower, size, _ = tower_of(kind)
    pixels = noise(size)
    with torch.no_grad():
        before = tower(pixels)
    first = relevance(tower, pixels, directions(2, 16))
    second = relevance(tower, pixels, directions(2, 16))
    with torch.no_grad():
        after = tower(pixels)
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    torch.testing.assert_close(before, after, rtol=0, atol=0)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in tower.modules())


@pytest.mark.parametrize("kind", ["ViT", "ViT, attention pool", "timm ResNet"])
def test_masking_what_is_heavy_costs_more_than_what_is_light(kind: str, photos) -> None:
    tower, size, _ = tower_of(kind)
    heavy, light = [], []
    for photo in photos:
        pixels = pixels_of(photo, size)
        for direction, weights in zip(
            directions(4, 16), relevance(tower, pixels, directions(4, 16)), strict=True
        ):
            heavy.append(loss_of(tower, pixels, direction, weights, heavy=True))
            light.append(loss_of(tower, pixels, direction, weights, heavy=False))
    assert np.mean(heavy) > 0
    assert np.mean(heavy) > np.mean(light) + 0.005


def test_the_mini_model_looks_where_the_likely_classes_are(mini, photos) -> None:
    text = text_features(mini.text_tower(), [f"a photo of a {name}" for name in NAMES])
    centred = normalize(text - text.mean(dim=0), dim=-1)
    heavy, light = [], []
    for photo in photos:
        pixels = mini.preprocess(photo)[None]
        best = int((mini.differentiable(pixels) @ text.T)[0].argmax())
        (weights,) = mini.relevance(pixels, centred[best : best + 1])
        assert weights.shape == (5, 5)
        assert weights.sum() > 0
        heavy.append(loss_of(mini.model.visual, pixels, text[best], weights, heavy=True))
        light.append(loss_of(mini.model.visual, pixels, text[best], weights, heavy=False))
    assert np.mean(heavy) > np.mean(light) + 0.005


def test_the_map_follows_an_object_that_is_moved(mini, photos) -> None:
    text = text_features(mini.text_tower(), [f"a photo of a {name}" for name in NAMES])
    centred = normalize(text - text.mean(dim=0), dim=-1)
    cat = photos[1].resize((96, 64))
    columns = torch.arange(5.0)

    def centre(left: int) -> float:
        canvas = Image.new("RGB", (160, 160), (118, 122, 125))
        canvas.paste(cat, (left, 48))
        weights = mini.relevance(mini.preprocess(canvas)[None], centred[:1])[0]
        return float((weights.sum(dim=0) * columns).sum() / weights.sum())

    assert centre(64) > centre(0) + 1


def test_attention_that_is_watched_answers_as_torchs_own() -> None:
    for batch_first in (True, False):
        attn = nn.MultiheadAttention(16, 4, batch_first=batch_first).eval()
        x = torch.randn(5, 7, 16, generator=torch.Generator().manual_seed(3))
        wanted, weights = attn(x, x, x, average_attn_weights=False)
        with _attention(attn) as seen:
            found = attn(x, x, x, need_weights=False)[0]
        torch.testing.assert_close(found, wanted)
        torch.testing.assert_close(seen[-1], weights)


def test_grad_cam_is_its_formula() -> None:
    a, g = torch.randn(2, 1, 3, 2, 4, generator=torch.Generator().manual_seed(4))
    for row in range(2):
        for column in range(4):
            total = sum(float(g[0, c].mean()) * float(a[0, c, row, column]) for c in range(3))
            assert float(grad_cam(a, g)[row, column]) == pytest.approx(max(total, 0), rel=1e-5)


def test_half_precision_gives_the_maps_of_full(tiny_model: str) -> None:
    full, half = (load_backbone(tiny_model, device="cpu", precision=p) for p in ("fp32", "bf16"))
    wanted, found = (b.relevance(noise(32), directions(2, 32)) for b in (full, half))
    assert wanted.shape == (2, 2, 2)
    torch.testing.assert_close(found, wanted, rtol=0.1, atol=0.1 * float(wanted.max()))


def test_a_tower_without_a_known_grid_is_refused() -> None:
    with pytest.raises(UsageError, match="Where a Linear looks is not known"):
        relevance(nn.Linear(2, 2), noise(4), directions(1, 2))
    timm = TimmModel("resnet10t", 8, pool="", proj="linear")
    timm.trunk = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(UsageError, match="Where a Sequential looks is not known"):
        relevance(timm, noise(4), directions(1, 8))
