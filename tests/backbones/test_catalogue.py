"""The list of models: complete, honest about text towers, and only of weights that load."""

import pytest
import torch

from lsncli.backbones import DEFAULT_MODEL, load_backbone, openclip
from lsncli.backbones.catalogue import PAPER, architectures
from lsncli.backbones.loading import ensure_torchvision
from lsncli.backbones.text_architecture import TextFacts, facts_of_config, facts_of_module
from lsncli.errors import UsageError

ensure_torchvision()
import open_clip  # noqa: E402

VISION = {"layers": 1, "width": 64, "head_width": 32, "patch_size": 16, "image_size": 32}


@pytest.fixture(scope="module")
def everything():
    return {one.name: one for listed in architectures().values() for one in listed}


def test_mini_then_the_papers_backbones_then_all_of_open_clip_then_blip(everything) -> None:
    names = list(everything)
    assert names[:5] == ["mini", *PAPER]
    assert sorted(names[1:-1]) == sorted(open_clip.list_models())
    assert names[-1] == "blip"
    assert all(f"{name}:openai" in everything[name].models for name in PAPER)
    assert DEFAULT_MODEL in everything["ViT-B-16-quickgelu"].models


def test_sizes_are_those_of_the_models(everything) -> None:
    mini, known = load_backbone("mini", device="cpu").fingerprint, everything["mini"]
    assert (known.dim, known.image_size, known.text) == (mini.dim, mini.image_size, "192 x 4")
    rn50x4 = everything["RN50x4-quickgelu"]
    assert (rn50x4.dim, rn50x4.image_size, rn50x4.text) == (640, 288, "640 x 12")
    assert everything["roberta-ViT-B-32"].text is None  # transformers knows
    siglip = everything["ViT-L-16-SigLIP2-512"]
    assert (siglip.dim, siglip.image_size, siglip.text) == (1024, 512, "1024 x 24")


def test_every_model_of_the_list_would_be_loaded(everything) -> None:
    models = [model for one in everything.values() if one.name != "blip" for model in one.models]
    assert models[0] == "mini"
    for model in models[1:]:
        name, _, tag = model.partition(":")
        openclip.check_name(name, tag)  # raises for a name, a tag or an activation that does not fit
    assert "ViT-B-16:openai" not in models  # trained with QuickGELU
    assert len(models) == len(set(models)) > 150


def test_a_part_of_a_name_in_any_case_is_enough(everything) -> None:
    names = [one.name for one in architectures("rn50")["open_clip"]]
    assert names[:2] == ["RN50-quickgelu", "RN50x4-quickgelu"]
    assert set(names) == {name for name in everything if "RN50" in name}
    assert [one.name for one in architectures("MINI")["mini"]] == ["mini"]
    with pytest.raises(UsageError, match="No architecture has 'resnet50' in its name") as caught:
        architectures("resnet50")
    assert "hf-hub:" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "text_path"),
    [
        ("mini", "fast"),
        ("blip", "plain (an encoder of transformers)"),
        ("ViT-B-16-quickgelu", "fast"),
        ("RN50", "fast"),
        ("ViTamin-B", "fast"),
        ("MobileCLIP-B", "fast"),
        ("MobileCLIP-S1", "plain (no causal mask)"),
        ("ViT-B-16-SigLIP", "plain (no causal mask, pooling 'last', another tokenizer)"),
        ("ViT-B-16-SigLIP2", "plain (no causal mask, pooling 'last', another tokenizer, tanh GELU)"),
        ("ViT-H-14-worldwide", "plain (another tokenizer)"),
        ("coca_ViT-B-32", "plain (a class token)"),
        ("roberta-ViT-B-32", "plain (an encoder of transformers)"),
        ("coca_roberta-ViT-B-32", "plain (an encoder of transformers)"),
        ("nllb-clip-base-siglip", "plain (an encoder of transformers)"),
    ],
)
def test_it_says_which_path_a_text_tower_takes_and_why(everything, name: str, text_path: str) -> None:
    assert everything[name].text_path == text_path


def built(name: str) -> tuple[torch.nn.Module, object]:
    """The architecture with its own kind of text tower, one layer deep, behind a small image tower."""
    config = open_clip.get_model_config(name)
    other = "hf_tokenizer_name" in config["text_cfg"]
    words = {"vocab_size": 1000} if other else {}  # some have 900,000
    small = {"vision_cfg": VISION, "text_cfg": config["text_cfg"] | {"layers": 1} | words}
    if "multimodal_cfg" in config:
        small["multimodal_cfg"] = config["multimodal_cfg"] | {"layers": 1}
    # A tokenizer of transformers is a download; that it is none of CLIP's can be seen on anything.
    return open_clip.create_model(name, **small), object() if other else open_clip.get_tokenizer(name)


@pytest.mark.parametrize(
    "name",
    [
        "ViT-B-32",
        "ViT-B-32-quickgelu",
        "RN50",
        "RN50x4-quickgelu",
        "ViT-B-16-SigLIP",
        "ViT-SO400M-14-SigLIP",
        "ViT-L-14-CLIPA",
        "ViT-H-14-worldwide-quickgelu",
        "coca_ViT-B-32",
        "ViTamin-S",
        "MobileCLIP2-S0",
        "MobileCLIP-B",
        "EVA02-B-16",
    ],
)
def test_the_configuration_tells_what_inspection_of_the_built_module_finds(everything, name: str) -> None:
    found = facts_of_module(*built(name))
    assert found == facts_of_config(open_clip.get_model_config(name))
    assert found.why_plain == everything[name].why_plain


def test_the_configuration_of_mini_tells_what_its_module_has(everything) -> None:
    mini = load_backbone("mini", device="cpu")
    assert facts_of_module(mini.model, mini.tokenizer) == TextFacts()
    assert everything["mini"].why_plain == ""


TEXT = {"context_length": 20, "width": 32, "heads": 2, "layers": 1}


@pytest.mark.parametrize(
    "changes",
    [
        {"ls_init_value": 0.1},
        {"qk_norm": True},
        {"scale_fc": True},
        {"block_type": "custom"},
        {"act_kwargs": {"approximate": "tanh"}},
        {"act_kwargs": {"approximate": "none"}},
        {"pool_type": "eos", "eos_id": 49407},
        {"pool_type": "eos"},
        {"pool_type": "first"},
        {"no_causal_mask": True, "pool_type": "last"},
        {"embed_cls": True},
        {"proj_type": "none", "width": 64},
        {"norm_kwargs": {"eps": 1e-3}},
    ],
    ids=str,
)
def test_every_setting_tells_what_the_built_module_has(changes: dict) -> None:
    config = {"embed_dim": 64, "vision_cfg": VISION, "text_cfg": TEXT | changes}
    model = open_clip.CustomTextCLIP(**config)
    assert facts_of_module(model, open_clip.SimpleTokenizer()) == facts_of_config(config)
