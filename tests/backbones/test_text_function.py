"""The text encoder as a function of its weights: the same features, the model left alone."""

import pytest
import torch
from test_text import TEXTS, clip, coca, custom, tokenizer  # noqa: F401 (a fixture)
from torch.nn.functional import normalize

from lsncli.backbones.text import text_function
from lsncli.prompts.clipn import text_rows

MODELS = {
    "CLIP": clip,
    "custom": custom,
    "CoCa": coca,
    "SigLIP": lambda: custom(no_causal_mask=True, pool_type="last"),
}


@pytest.fixture(params=list(MODELS), scope="module")
def model(request):
    return MODELS[request.param]()


@torch.no_grad()
def test_its_own_weights_give_the_models_features(model, tokenizer) -> None:  # noqa: F811
    expected = normalize(model.encode_text(tokenizer(TEXTS)), dim=-1)
    function = text_function(model, tokenizer)
    torch.testing.assert_close(text_rows(function, function.weights, TEXTS), expected, rtol=0, atol=1e-6)


def test_all_weights_that_texts_depend_on_learn_and_no_others(model, tokenizer) -> None:  # noqa: F811
    function = text_function(model, tokenizer)
    assert not [name for name in function.weights if "visual" in name or "logit" in name or "decoder" in name]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    weights = {name: tensor.clone().requires_grad_() for name, tensor in function.weights.items()}
    added = torch.zeros(2, function.longest, function.width, requires_grad=True)
    answer = function.run(weights, function.tokenize(TEXTS[:2]), added)
    gradients = torch.autograd.grad(answer.square().sum(), [*weights.values(), added])
    assert all(gradient.abs().sum() > 0 for gradient in gradients)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(parameter.grad is not None for parameter in model.parameters())


@torch.no_grad()
def test_what_is_added_stands_beside_the_position(tokenizer) -> None:  # noqa: F811
    model = clip()
    function = text_function(model, tokenizer)
    added = torch.randn(1, 20, 32, generator=torch.Generator().manual_seed(1))
    found = function.run(function.weights, function.tokenize(TEXTS), added)
    model.positional_embedding += added[0]
    torch.testing.assert_close(found, model.encode_text(tokenizer(TEXTS)), rtol=0, atol=1e-5)


def test_a_long_text_is_cut(tokenizer) -> None:  # noqa: F811
    function = text_function(clip(), tokenizer)
    assert function.tokenize(["word " * 100, "a"]).shape == (2, 20)


def test_a_backbone_brings_it_along(tiny_backbone) -> None:
    function = tiny_backbone.text_function()
    assert (function.longest, function.width) == (40, 32)
    assert all(tensor.dtype == torch.float32 for tensor in function.weights.values())
