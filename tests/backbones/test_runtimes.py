"""Runtimes of an image tower: each gives open_clip's features, and what does not is refused."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import nn

from lsncli.backbones import load_backbone, on_runtime, runtime_of, runtimes_of
from lsncli.backbones.fused_convnet import FusedConvnet
from lsncli.backbones.fused_vit import FusedVit
from lsncli.backbones.loading import ensure_torchvision
from lsncli.backbones.runtimes import AGREEMENT, RUNTIMES, ImageForwards, Runtime
from lsncli.errors import Unavailable, UsageError
from lsncli.prompts import kernels

ensure_torchvision()
from open_clip.modified_resnet import ModifiedResNet  # noqa: E402
from open_clip.timm_model import TimmModel  # noqa: E402
from open_clip.transformer import VisionTransformer  # noqa: E402

SIZE = 32


def moved(tower: nn.Module) -> nn.Module:
    """Frozen, with every parameter and every statistic away from its initial value."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for one in (*tower.parameters(), *tower.buffers()):
            if one.is_floating_point():
                one += 0.1 * torch.rand(one.shape, generator=generator)
    return tower.eval().requires_grad_(False)


def vit() -> nn.Module:
    return moved(VisionTransformer(SIZE, 8, 32, 2, 2, 4.0, output_dim=16))


def timm(name: str) -> nn.Module:
    return TimmModel(name, 16, pool="avg", proj="linear", image_size=SIZE)


TOWERS = {
    "a vision transformer": vit,
    "CLIP's ResNet": lambda: moved(ModifiedResNet((1, 2, 1, 1), 16, 4, image_size=SIZE, width=8)),
    "timm's MobileNet": lambda: moved(
        TimmModel("mobilenetv2_050", 16, pool="avg", proj="linear", image_size=SIZE)
    ),
    "timm's ResNet": lambda: moved(TimmModel("resnet18", 16, pool="avg", proj="linear", image_size=SIZE)),
}


@pytest.fixture(autouse=True)
def same_towers():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def images(number: int = 5) -> torch.Tensor:
    return torch.randn(number, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("runtime", list(RUNTIMES))
@pytest.mark.parametrize("name", TOWERS)
def test_every_runtime_gives_open_clips_features(name: str, runtime: str) -> None:
    if runtime == "openvino":
        pytest.importorskip("openvino")
    if (name, runtime) == ("a vision transformer", "fused") and not kernels.works():
        pytest.skip("this torch has no oneDNN linear operator")
    tower = TOWERS[name]()
    before = {key: one.clone() for key, one in tower.state_dict().items()}
    pixels = images()
    with torch.inference_mode():
        expected = tower(pixels)
        found = ImageForwards(tower, (SIZE, SIZE)).get(runtime)(pixels.clone())
    assert (found.shape, found.dtype) == (expected.shape, torch.float32)
    assert float((found - expected).abs().max() / expected.abs().max()) < AGREEMENT
    assert all(torch.equal(one, before[key]) for key, one in tower.state_dict().items())


@pytest.mark.parametrize("name", TOWERS)
def test_features_do_not_depend_on_how_many_threads_call(name: str) -> None:
    forwards, pixels = ImageForwards(TOWERS[name](), (SIZE, SIZE)), images(3)
    threads = torch.get_num_threads()
    try:
        for runtime in forwards.names:
            torch.set_num_threads(1)
            with torch.inference_mode():
                alone = forwards.get(runtime)(pixels)
            with ThreadPoolExecutor(3, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                found = list(pool.map(torch.inference_mode()(forwards.get(runtime)), [pixels] * 6))
            assert all(torch.equal(one, alone) for one in found), runtime
    finally:
        torch.set_num_threads(threads)


def test_a_forward_is_made_once_for_all_threads(monkeypatch) -> None:
    made = []
    row = Runtime(lambda tower: True, lambda tower, pixels: made.append(tower) or tower)
    monkeypatch.setitem(RUNTIMES, "openvino", row)
    forwards = ImageForwards(vit(), (SIZE, SIZE))
    with ThreadPoolExecutor(4) as pool:
        found = set(map(id, pool.map(forwards.get, ["openvino"] * 16)))
    assert len(made) == len(found) == 1


@pytest.mark.parametrize("wrong", [1 + 1e-4, float("nan")], ids=["too far off", "not a number"])
def test_a_runtime_with_other_features_is_refused(monkeypatch, wrong: float) -> None:
    row = Runtime(lambda tower: True, lambda tower, pixels: lambda x: wrong * tower(x))
    monkeypatch.setitem(RUNTIMES, "openvino", row)
    with pytest.raises(Unavailable, match="--runtime openvino: features differ from open_clip's by"):
        ImageForwards(vit(), (SIZE, SIZE)).get("openvino")


def test_a_fold_in_another_order_than_the_computations_is_refused() -> None:
    class Crossed(nn.Module):
        """Its normalisation follows the convolution in the list of children, but not in the forward."""

        def __init__(self) -> None:
            super().__init__()
            self.convolution, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.convolution(self.norm(x)).mean(dim=(2, 3))

    with pytest.raises(Unavailable, match="--runtime fused: features differ"):
        ImageForwards(moved(Crossed()), (SIZE, SIZE)).get("fused")


def test_what_a_tower_can_be_computed_by() -> None:
    assert set(ImageForwards(vit(), (SIZE, SIZE)).names) >= {"torch"}
    half: Any = vit().bfloat16()
    assert ImageForwards(half, (SIZE, SIZE)).names == ("torch",)
    with pytest.raises(Unavailable, match="--runtime fused: it does not compute this image tower"):
        ImageForwards(half, (SIZE, SIZE)).get("fused")
    with pytest.raises(UsageError, match="one of auto, torch, fused, openvino, found 'jax'"):
        ImageForwards(half, (SIZE, SIZE)).get("jax")


def test_openvino_is_not_chosen_and_says_how_to_install_it(monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    forwards = ImageForwards(vit(), (SIZE, SIZE))
    assert "openvino" not in forwards.names
    with pytest.raises(Unavailable, match="OpenVINO is not installed") as caught:
        forwards.get("openvino")
    assert caught.value.hint == "pip install 'lsncli[openvino]'"


def test_a_few_images_of_a_transformer_are_computed_by_torch_and_of_a_convnet_fused(tiny_backbone) -> None:
    assert runtime_of(tiny_backbone) == "torch"
    mini = load_backbone("mini", device="cpu")
    assert runtime_of(mini) == "fused"
    assert isinstance(mini.forwards.get("fused"), FusedConvnet)


def test_a_runtime_that_was_asked_for_is_the_only_one(tiny_model) -> None:
    asked = load_backbone(tiny_model, device="cpu", runtime="torch")
    assert (runtime_of(asked), runtimes_of(asked)) == ("torch", ("torch",))
    with pytest.raises(UsageError, match="--runtime: expected one of"):
        load_backbone(tiny_model, device="cpu", runtime="jax")


@pytest.mark.skipif(not kernels.works(), reason="this torch has no oneDNN linear operator")
def test_a_loaded_clip_has_the_fused_forward_to_choose(tiny_backbone) -> None:
    assert "fused" in runtimes_of(tiny_backbone)
    chosen = on_runtime(tiny_backbone, "fused")
    assert isinstance(chosen.forwards.get(chosen.runtime), FusedVit)
    assert chosen.fingerprint == tiny_backbone.fingerprint
