"""Models whose weights are loaded are created exactly, without random numbers or a copy of the file."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.overrides import TorchFunctionMode

from lsncli.backbones import creation, load_backbone, openclip
from lsncli.backbones.creation import ALIGNMENT, create_loaded, in_memory
from lsncli.backbones.loading import ensure_torchvision
from lsncli.prompts.text_features import text_features

ensure_torchvision()
import open_clip  # noqa: E402


def plainly(name: str, monkeypatch: pytest.MonkeyPatch) -> openclip.OpenClip:
    """The model created as open_clip does, with random numbers and a copy of all weights."""
    with monkeypatch.context() as patch:
        patch.setattr(openclip, "create_loaded", lambda create: create())
        return load_backbone(name, device="cpu")


@pytest.mark.parametrize("name", ["mini", "tiny"])
def test_weights_digest_and_features_are_those_of_a_plain_creation(name, tiny_model, monkeypatch) -> None:
    name = tiny_model if name == "tiny" else name
    created: list[str] = []
    create = open_clip.create_model_and_transforms
    monkeypatch.setattr(
        open_clip,
        "create_model_and_transforms",
        lambda name, **options: created.append(name) or create(name, **options),
    )
    fast = load_backbone(name, device="cpu")
    assert len(created) == 1
    slow = plainly(name, monkeypatch)
    assert fast.fingerprint == slow.fingerprint
    weights, expected = fast.model.state_dict(), slow.model.state_dict()
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[key], expected[key]) for key in expected)
    assert dict(fast.model.named_buffers()).keys() == dict(slow.model.named_buffers()).keys()
    for ours, theirs in zip(fast.model.buffers(), slow.model.buffers(), strict=True):
        assert torch.equal(ours, theirs)
    size = fast.fingerprint.image_size
    pixels = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(0))
    assert (fast.encode(pixels) == slow.encode(pixels)).all()
    towers = [backbone.text_tower(kernel="torch") for backbone in (fast, slow)]
    assert torch.equal(*(text_features(tower, ["a photo of a cat", "a dog"]) for tower in towers))


class Drawn(TorchFunctionMode):
    """Notes the random functions that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.functions = set()

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in creation.RANDOM:
            self.functions.add(function)
        return function(*args, **kwargs or {})


def test_no_random_number_is_drawn_for_weights_that_are_loaded(tiny_model, monkeypatch) -> None:
    with Drawn() as fast:
        openclip.load(tiny_model, "", "cpu", "fp32")
    with Drawn() as slow:
        plainly(tiny_model, monkeypatch)
    assert not fast.functions
    assert {nn.init.normal_, nn.init.kaiming_uniform_} <= slow.functions


def test_the_text_encoder_stays_in_the_file_until_a_text_is_encoded(tmp_path: Path, tiny_model) -> None:
    path = Path(tiny_model.partition(":")[2]) / "open_clip_model.safetensors"
    backbone = openclip.load(tiny_model, "", "cpu", "fp32")
    mapped = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/" in line}
    assert str(path) in mapped
    model = backbone.model
    assert any(parameter.data_ptr() % ALIGNMENT for parameter in model.transformer.parameters())
    assert not any(parameter.data_ptr() % ALIGNMENT for parameter in model.visual.parameters())
    backbone.text_tower()
    assert not any(parameter.data_ptr() % ALIGNMENT for parameter in model.parameters())


def test_what_a_creation_leaves_without_weights_is_initialised_as_usual() -> None:
    def create() -> nn.Linear:
        torch.manual_seed(3)
        layer = nn.Linear(8, 4)
        layer.load_state_dict({"weight": torch.ones(4, 8)}, strict=False)
        return layer

    with torch.random.fork_rng(devices=[]):
        created, expected = create_loaded(create), create()
    assert torch.equal(created.bias, expected.bias)
    assert torch.equal(created.weight, torch.ones(4, 8))


@pytest.mark.parametrize("kind", ["half", "view", "twice"])
def test_only_memory_that_is_nobody_elses_is_adopted(kind: str) -> None:
    many = torch.arange(64.0).view(2, 4, 8)
    values = {"half": many[0].clone().half(), "view": many[1], "twice": many[0].clone()}[kind]

    def create() -> list[nn.Linear]:
        layers = [nn.Linear(8, 4, bias=False) for _ in range(2)]
        for layer in layers:
            layer.load_state_dict({"weight": values})
        return layers

    first, second = create_loaded(create)
    assert first.weight.dtype == torch.float32
    assert torch.equal(first.weight, values.float())
    assert torch.equal(second.weight, values.float())
    assert first.weight.data_ptr() != second.weight.data_ptr()
    for layer in (first, second):
        assert layer.weight.untyped_storage().nbytes() == layer.weight.nbytes


def test_weights_that_lie_elsewhere_are_copied_into_memory(tmp_path: Path) -> None:
    save_file({"a": torch.ones(1), "weight": torch.arange(32.0).view(4, 8)}, tmp_path / "file.safetensors")
    stored = load_file(tmp_path / "file.safetensors")["weight"]
    assert stored.data_ptr() % ALIGNMENT, "the file was to put it where torch would not"
    layer = nn.Linear(8, 4, bias=False)
    layer.weight.data = stored
    assert in_memory(layer).weight.data_ptr() % ALIGNMENT == 0
    assert torch.equal(layer.weight, stored)
    here = layer.weight.data_ptr()
    assert in_memory(layer).weight.data_ptr() == here, "what is in memory stays there"


def test_the_functions_that_are_left_out_exist_and_return_their_first_argument() -> None:
    for function in creation.RANDOM:
        tensor = nn.Parameter(torch.zeros(4, 4), requires_grad=False)
        assert function(tensor) is tensor, function


def test_a_random_architecture_keeps_its_random_weights() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = openclip.untrained("ViT-S-32-alt", "cpu")
    assert model is not None
    assert all(float(block.mlp.c_fc.weight.std()) > 0 for block in model.model.visual.transformer.resblocks)
    assert "ViT-S-32-alt" in open_clip.list_models()
