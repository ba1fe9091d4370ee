"""The text tower of an open_clip model: exact where it can be, refused where it cannot."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lsncli.backbones._torchvision import ensure_torchvision
from lsncli.backbones.text import text_tower
from lsncli.errors import LsnError
from lsncli.prompts.contexts import text_features

ensure_torchvision()
import open_clip  # noqa: E402

TEXTS = ["a photo of a cat", "a photo of a small red bird on a wire", "dog."]


@pytest.fixture(scope="module")
def custom(tiny_model: str) -> Callable[..., torch.nn.Module]:
    """Makes a small CustomTextCLIP: the text encoder is a module of its own, as in SigLIP."""
    path = Path(tiny_model.partition(":")[2]) / "open_clip_config.json"
    config = json.loads(path.read_text())["model_cfg"]

    def make(**changes: object) -> torch.nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(3)
            return open_clip.CustomTextCLIP(**config | {"text_cfg": config["text_cfg"] | changes}).eval()

    return make


@pytest.fixture(scope="module")
def tokenizer():
    return open_clip.SimpleTokenizer(context_length=40)


@pytest.mark.parametrize("changes", [{}, {"proj_bias": True}, {"proj_type": "none", "width": 32}])
def test_a_custom_causal_tower_gives_its_own_features(custom, tokenizer, changes) -> None:
    model = custom(**changes)
    tower = text_tower(model, tokenizer)
    assert (tower.width, tower.longest) == (32, 40)
    with torch.no_grad():
        expected = model.encode_text(tokenizer(TEXTS), normalize=True)
    torch.testing.assert_close(text_features(tower, TEXTS), expected, rtol=0, atol=1e-6)


def test_a_tower_without_a_causal_mask_is_refused_in_a_sentence(custom, tokenizer) -> None:
    model = custom(no_causal_mask=True, pool_type="last")
    with pytest.raises(LsnError, match="it lacks a causal mask and pooling at the end of text") as caught:
        text_tower(model, tokenizer)
    assert caught.value.message.startswith("Prompts cannot be learned for this text tower")
    assert "ViT-B-16-quickgelu:openai" in caught.value.hint


def test_a_tower_that_appends_a_class_token_is_refused(custom, tokenizer) -> None:
    with pytest.raises(LsnError, match=r"lacks .*no extra class token"):
        text_tower(custom(embed_cls=True, pad_id=0), tokenizer)


def test_another_tokenizer_is_refused(custom) -> None:
    class SentencePiece:
        def encode(self, text: str) -> list[int]:
            return []

    with pytest.raises(LsnError, match="lacks CLIP's byte-pair tokenizer"):
        text_tower(custom(), SentencePiece())


def test_something_that_is_no_clip_is_refused(tokenizer) -> None:
    with pytest.raises(LsnError, match=r"lacks a causal mask and .* token embeddings"):
        text_tower(torch.nn.Linear(2, 2), tokenizer)
