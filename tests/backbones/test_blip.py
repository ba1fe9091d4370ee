"""BLIP: what transformers itself computes, from a small model with random weights in a folder."""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

from lsncli.backbones import load_again, load_backbone, with_image_tower
from lsncli.backbones.loading import ensure_torchvision
from lsncli.errors import FingerprintMismatch, Unavailable, UsageError
from lsncli.prompts.layout import context_layout
from lsncli.prompts.plain_tower import PlainTower
from lsncli.prompts.text_features import text_features

ensure_torchvision()
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "photo", "of", "cat", "dog", "bird", "small", "red", "on"]
WORDS += ["wire", ".", "##s"]
TEXTS = ["a photo of a cat", "A small red BIRD on a wire.", "dogs", ""]
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
SMALL |= {"initializer_range": 0.3}
TEXT = SMALL | {"vocab_size": len(WORDS), "encoder_hidden_size": 32, "max_position_embeddings": 40}
TEXT |= {"pad_token_id": 0, "bos_token_id": 2, "sep_token_id": 3, "eos_token_id": 3}
VISION = SMALL | {"image_size": 32, "patch_size": 8}


@pytest.fixture(scope="module")
def transformers() -> Any:
    return pytest.importorskip("transformers", reason="needs transformers (pip install 'lsncli[blip]')")


def save(transformers, folder: Path, kind: str) -> None:
    config = transformers.BlipConfig(text_config=TEXT, vision_config=VISION, image_text_hidden_size=24)
    torch.manual_seed(1)
    model = getattr(transformers, kind)(config)
    with torch.no_grad():
        for parameter in model.parameters():  # nothing stays zero or one
            parameter += 0.05 * torch.randn(parameter.shape)
    transformers.utils.logging.disable_progress_bar()
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))


@pytest.fixture(scope="module")
def folder(transformers, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("blip")
    save(transformers, root, "BlipForImageTextRetrieval")
    return root


@pytest.fixture(scope="module")
def blip(folder: Path) -> Any:
    return load_backbone(f"blip:{folder}", device="cpu")


@pytest.fixture(scope="module")
def original(transformers, folder: Path) -> Any:
    return transformers.BlipForImageTextRetrieval.from_pretrained(folder).eval()


def test_texts_that_it_reads_alike_have_the_same_ids(blip) -> None:
    one, same, other = blip.text_ids(["a photo", "A  Photo", "the photo"])
    assert one == same != other


def picture(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (50, 37, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def pixels(blip) -> torch.Tensor:
    return torch.stack([blip.preprocess(picture(seed)) for seed in range(3)])


def test_cosines_are_those_of_blips_contrast(blip, original, pixels) -> None:
    ids = blip.tokenizer(TEXTS)
    assert ids[0, :7].tolist() == [2, 4, 5, 6, 4, 7, 3]  # [CLS] a photo of a cat [SEP]
    with torch.no_grad():
        expected = original(
            input_ids=ids, attention_mask=(ids != 0).long(), pixel_values=pixels, use_itm_head=False
        ).itm_score
    tower = blip.text_tower()
    assert isinstance(tower, PlainTower)
    assert tower.path == "plain (an encoder of transformers)"
    text = text_features(tower, TEXTS)
    image = normalize(torch.from_numpy(blip.encode(pixels)).float(), dim=-1)
    torch.testing.assert_close(image @ text.T, expected, rtol=0, atol=2e-3)  # features are stored in float16
    torch.testing.assert_close(normalize(blip.differentiable(pixels), dim=-1) @ text.T, expected)
    assert expected.std() > 0.02


def test_features_are_raw(blip, original, pixels) -> None:
    with torch.no_grad():
        expected = original.vision_proj(original.vision_model(pixel_values=pixels).last_hidden_state[:, 0])
    np.testing.assert_allclose(blip.encode(pixels), expected.numpy(), rtol=2e-3, atol=2e-3)
    assert blip.encode(pixels).dtype == np.float16
    assert (expected.norm(dim=-1) - 1).abs().min() > 0.1


def test_images_are_prepared_as_transformers_prepares_them(transformers, blip) -> None:
    module = pytest.importorskip("transformers.models.blip.image_processing_pil_blip")
    theirs = module.BlipImageProcessorPil(size={"height": 32, "width": 32})
    expected = theirs(images=picture(), return_tensors="pt")["pixel_values"][0]
    found = blip.preprocess(picture())
    assert found.shape == (3, 32, 32)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_learned_vectors_stand_where_word_embeddings_would(blip, original) -> None:
    tower = blip.text_tower()
    layout = context_layout(tower.vocabulary, ["cat", "small bird"], 2)
    words = torch.tensor([WORDS.index("on"), WORDS.index("wire")])
    contexts = tower.vocabulary.embedding[words].clone().requires_grad_()
    found = tower.encoder(layout)(contexts[None])[0]
    expected = text_features(tower, ["on wire cat.", "on wire small bird."])
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)
    direction = torch.randn(found.shape, generator=torch.Generator().manual_seed(2))
    (found * direction).sum().backward()
    with torch.no_grad():
        nudge = torch.randn(contexts.shape, generator=torch.Generator().manual_seed(3))
        ends = [tower.encoder(layout)((contexts + step * nudge)[None])[0] for step in (1e-2, -1e-2)]
    slope = ((ends[0] - ends[1]) * direction).sum() / 2e-2
    assert float((contexts.grad * nudge).sum()) == pytest.approx(float(slope), rel=2e-2)
    assert all(weight.grad is None for weight in blip.model.parameters())


def test_the_text_tower_is_a_function_of_its_weights(blip) -> None:
    function = blip.text_function()
    ids = function.tokenize(TEXTS)
    nothing = torch.zeros(len(TEXTS), function.longest, function.width)
    weights = {name: one.clone().requires_grad_() for name, one in function.weights.items()}
    found = function.run(weights, ids, nothing)
    torch.testing.assert_close(normalize(found, dim=-1), text_features(blip.text_tower(), TEXTS))
    gradients = torch.autograd.grad(found.square().sum(), list(weights.values()), allow_unused=True)
    assert all(one is not None for one in gradients)
    assert not torch.equal(function.run(function.weights, ids, nothing + 1), found)


def test_pixels_have_gradients(blip, pixels) -> None:
    given = pixels.clone().requires_grad_()
    blip.differentiable(given).square().sum().backward()
    assert given.grad.abs().sum(dim=(1, 2, 3)).min() > 0


def test_half_precision_is_close_in_direction(folder, blip, pixels) -> None:
    half = load_backbone(f"blip:{folder}", device="cpu", precision="bf16")
    full, found = (torch.from_numpy(one.encode(pixels)).float() for one in (blip, half))
    assert (torch.cosine_similarity(full, found) > 0.99).all()
    assert half.fingerprint.digest != blip.fingerprint.digest
    text = text_features(half.text_tower(precision="bf16"), TEXTS)
    assert ((text * text_features(blip.text_tower(), TEXTS)).sum(-1) > 0.98).all()
    assert half.model.text_proj.weight.dtype == torch.float32


def test_the_fingerprint_says_how_images_are_prepared_and_finds_the_model_again(folder, blip) -> None:
    found = blip.fingerprint
    assert (found.model, found.pretrained, found.dim) == ("blip", str(folder), 24)
    assert (found.image_size, found.interpolation, found.resize_mode) == (32, "bicubic", "squash")
    assert found.logit_scale == pytest.approx(1 / 0.07, rel=1e-4)
    assert load_again(found, device="cpu").fingerprint.digest == found.digest


def test_other_weights_are_another_model(folder, blip, tmp_path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, tmp_path / "other")
    weights = load_file(tmp_path / "other" / "model.safetensors")
    weights["text_proj.bias"][0] += 1
    save_file(weights, tmp_path / "other" / "model.safetensors", {"format": "pt"})
    with pytest.raises(FingerprintMismatch, match="of another model"):
        load_again(blip.fingerprint, pretrained=str(tmp_path / "other"), device="cpu")


def test_a_blip_without_the_contrast_is_refused(transformers, tmp_path, capfd) -> None:
    save(transformers, tmp_path, "BlipForConditionalGeneration")
    capfd.readouterr()
    with pytest.raises(Unavailable, match=r"lacks \d+ of the weights of an image-text retrieval model"):
        load_backbone(f"blip:{tmp_path}", device="cpu")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("where", ["nowhere/at-all", "./nowhere"])
def test_a_model_that_is_not_there_is_unavailable(transformers, where: str) -> None:
    with pytest.raises(Unavailable, match=f"blip:{where} does not load as transformers' BlipFor") as caught:
        load_backbone(f"blip:{where}", device="cpu")
    assert "blip:Salesforce" in caught.value.hint


def test_another_kernel_than_torchs_is_refused(blip) -> None:
    with pytest.raises(UsageError, match="--kernel onednn"):
        blip.text_tower(kernel="onednn")


def test_its_image_tower_is_not_tuned(blip) -> None:
    with pytest.raises(UsageError, match="--tune: the image tower of the model blip is not fine-tuned"):
        with_image_tower(blip)


@pytest.mark.parametrize("model", ["blip", "blip:"])
def test_weights_must_be_named(model: str) -> None:
    with pytest.raises(UsageError, match="no weights named") as caught:
        load_backbone(model, device="cpu")
    assert "blip:Salesforce/blip-itm-base-coco" in caught.value.hint


def test_without_transformers_it_says_which_extra_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(Unavailable, match="needs transformers, which is not installed") as caught:
        load_backbone(f"blip:{os.curdir}", device="cpu")
    assert "lsncli[blip]" in caught.value.hint
    assert caught.value.exit_code == 5


def test_it_can_be_looked_into(blip, pixels) -> None:
    text = text_features(blip.text_tower(), TEXTS[:2])
    found = blip.relevance(pixels[:1], text)
    assert found.shape == (2, 4, 4)
    assert (found >= 0).all()
    assert found.sum() > 0
    torch.testing.assert_close(blip.relevance(pixels[:1], text), found, rtol=0, atol=0)
