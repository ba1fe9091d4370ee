"""What can be tuned of each kind of image tower, and the checkpoint that comes of it."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.numpy import load_file

from lsncli.artefacts.files import write_artefact
from lsncli.backbones import load_again, load_backbone
from lsncli.backbones.loading import ensure_torchvision
from lsncli.backbones.trainable_image_tower import last_blocks
from lsncli.errors import Unavailable, UsageError
from lsncli.training.finetune import KIND

ensure_torchvision()
import open_clip  # noqa: E402
from open_clip.modified_resnet import ModifiedResNet  # noqa: E402
from open_clip.timm_model import TimmModel  # noqa: E402
from open_clip.transformer import VisionTransformer  # noqa: E402


@pytest.fixture(scope="module")
def mini():
    return load_backbone("mini", device="cpu")


def tuned_names(tower: torch.nn.Module) -> set[str]:
    chosen = {id(one) for one in last_blocks(tower)}
    return {name for name, one in tower.named_parameters() if id(one) in chosen}


def starting_with(tower: torch.nn.Module, *starts: str) -> set[str]:
    return {name for name, _ in tower.named_parameters() if name.startswith(starts)}


def test_a_vision_transformer_tunes_two_blocks_and_what_follows() -> None:
    tower = VisionTransformer(32, 8, 16, 4, 2, 4.0, output_dim=8)
    last = ("transformer.resblocks.2.", "transformer.resblocks.3.", "ln_post", "proj")
    assert tuned_names(tower) == starting_with(tower, *last)


def test_clips_resnet_tunes_its_last_stage_and_attention_pool() -> None:
    tower = ModifiedResNet((1, 1, 1, 1), 8, 4, image_size=32, width=8)
    assert tuned_names(tower) == starting_with(tower, "layer4.", "attnpool.")


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("vit_tiny_patch16_224", ("trunk.blocks.10.", "trunk.blocks.11.", "trunk.norm.", "head.")),
        ("resnet10t", ("trunk.layer4.", "head.")),
        ("convnext_atto", ("trunk.stages.3.", "trunk.norm_pre", "trunk.head", "head.")),
        ("mobilenetv2_050", ("trunk.blocks.6.", "trunk.conv_head.", "trunk.bn2.", "head.")),
    ],
)
def test_timms_networks_tune_their_last_blocks_or_stage(name: str, last: tuple[str, ...]) -> None:
    tower = TimmModel(name, 8, pool="", proj="linear")
    assert tuned_names(tower) == starting_with(tower, *last)


def test_another_network_can_only_be_tuned_whole() -> None:
    with pytest.raises(UsageError, match="which blocks of a Linear are the last") as caught:
        list(last_blocks(torch.nn.Linear(2, 2)))
    assert "--tune all" in caught.value.hint
    trunk = TimmModel("resnet10t", 8, pool="", proj="linear")
    trunk.trunk = torch.nn.Sequential(torch.nn.Linear(2, 2))
    with pytest.raises(UsageError, match="which blocks of a Sequential are the last"):
        list(last_blocks(trunk))


def test_half_precision_is_refused(tiny_model: str) -> None:
    half = load_backbone(tiny_model, device="cpu", precision="bf16")
    with pytest.raises(UsageError, match="--tune needs the model in fp32; found --precision bf16"):
        half.image_tower("all")


def test_the_frozen_part_keeps_no_graph_and_features_are_those_of_encode(tiny_backbone) -> None:
    tower = tiny_backbone.image_tower("last-blocks")
    pixels = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    features = tower(pixels)
    torch.testing.assert_close(
        features.detach().half().numpy(), tiny_backbone.encode(pixels), rtol=1e-2, atol=1e-3
    )
    features.sum().backward()
    assert all(one.grad is not None for one in tower.parameters.values())
    others = set(dict(tower.module.named_parameters())) - {
        name.removeprefix("visual.") for name in tower.parameters
    }
    assert others
    assert all(tower.module.get_parameter(name).grad is None for name in others)


def saved(tower, path: Path) -> Path:
    state = {name: tensor.numpy() for name, tensor in tower.state().items()}
    write_artefact(path, KIND, state, {"preprocessing": tower.preprocessing})
    return path


def test_mini_loads_a_tuned_checkpoint_as_another_model(mini, tmp_path: Path) -> None:
    tower = mini.image_tower("last-blocks")
    untouched = load_backbone(
        "mini", pretrained=str(saved(tower, tmp_path / "same.safetensors")), device="cpu"
    )
    assert untouched.fingerprint.digest == mini.fingerprint.digest
    with torch.no_grad():
        next(iter(tower.parameters.values())).mul_(1.01)
    path = saved(tower, tmp_path / "tower.safetensors")
    again = load_backbone("mini", pretrained=str(path), device="cpu")
    assert again.fingerprint.pretrained == str(path)
    assert again.fingerprint.digest != mini.fingerprint.digest
    pixels = torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(again.model.visual(pixels), tower(pixels))


def test_a_checkpoint_of_another_model_does_not_load_into_mini(tiny_backbone, tmp_path: Path) -> None:
    path = saved(tiny_backbone.image_tower("all"), tmp_path / "tower.safetensors")
    with pytest.raises(Unavailable, match=r"tower\.safetensors does not load into mini"):
        load_backbone("mini", pretrained=str(path), device="cpu")


def test_a_checkpoint_brings_the_pixels_that_it_was_tuned_with(tiny_model: str, tmp_path: Path) -> None:
    folder = Path(tiny_model.partition(":")[2])
    config = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    (tmp_path / "lsn-test-tuned.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "lsn-test-tuned.json")
    theirs = folder / "open_clip_model.safetensors"
    pixels = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "image_resize_mode": "squash"}
    ours = tmp_path / "ours.safetensors"
    write_artefact(ours, KIND, load_file(theirs), {"preprocessing": pixels})
    tuned, plain = (
        load_backbone("lsn-test-tuned", pretrained=str(path), device="cpu").fingerprint
        for path in (ours, theirs)
    )
    assert tuned.weights == plain.weights
    assert (tuned.mean, tuned.std, tuned.resize_mode) == ((0.5,) * 3, (0.25,) * 3, "squash")
    assert (plain.resize_mode, plain.interpolation) == ("shortest", "bicubic")


def test_a_checkpoint_takes_the_place_of_a_folders_weights(tiny_backbone, tiny_model, tmp_path: Path) -> None:
    tower = tiny_backbone.image_tower("all")
    assert tower.model == tiny_model
    with torch.no_grad():
        tower.parameters["visual.proj"].mul_(2)
    tuned = load_backbone(tower.model, pretrained=str(saved(tower, tmp_path / "t.safetensors")), device="cpu")
    assert tuned.fingerprint.model == tiny_model
    assert tuned.fingerprint.mean == tiny_backbone.fingerprint.mean
    assert torch.equal(tuned.model.visual.proj, 2 * tiny_backbone.model.visual.proj)
    assert load_again(tuned.fingerprint, device="cpu").fingerprint == tuned.fingerprint
    assert tuned.image_tower("all").model == tiny_model  # and can be tuned again
