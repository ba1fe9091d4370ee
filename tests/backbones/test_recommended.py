"""The recommended models: sizes are those of the architectures, and every name can be loaded."""

from importlib.resources import files

import pytest
import torch

from lsncli.backbones import DEFAULT_MODEL, openclip
from lsncli.backbones.catalogue import architectures
from lsncli.backbones.loading import ensure_torchvision
from lsncli.backbones.recommended import RECOMMENDED

ensure_torchvision()
import open_clip  # noqa: E402


def test_the_bundled_model_comes_first_then_the_default() -> None:
    assert [one.model for one in RECOMMENDED[:2]] == ["mini", DEFAULT_MODEL]


@pytest.mark.parametrize("one", RECOMMENDED, ids=lambda one: one.model)
def test_its_numbers_are_those_of_the_catalogue(one) -> None:
    (known,) = [
        each
        for listed in architectures(one.model.partition(":")[0]).values()
        for each in listed
        if one.model in each.models
    ]
    assert (known.dim, known.image_size) == (one.dim, one.image_size)


@pytest.mark.parametrize("one", RECOMMENDED[1:], ids=lambda one: one.model)
def test_its_parameters_are_those_of_the_architecture(one) -> None:
    name, _, tag = one.model.partition(":")
    openclip.check_name(name, tag)  # raises for weights that are not there
    with torch.device("meta"):
        model = open_clip.create_model(name, device="meta")
    assert sum(parameter.numel() for parameter in model.parameters()) == one.parameters


def test_the_size_of_the_bundled_model_is_that_of_its_file() -> None:
    file = files("lsncli.backbones") / "mini_weights" / "open_clip_model.safetensors"
    assert RECOMMENDED[0].megabytes == round(len(file.read_bytes()) / 1e6)
