"""Captions of a small CoCa: one image at a time by plain calls of the model, and what counts as a word."""

import builtins
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lsncli.backbones import load_backbone
from lsncli.backbones.captioner import WORD, Captioner, load_captioner
from lsncli.errors import Unavailable, UsageError
from lsncli.prompts.text_features import text_features


@pytest.fixture(scope="module")
def captioner(tiny_coca: str) -> Captioner:
    return load_captioner(tiny_coca, top=35, steps=9, device="cpu")


@pytest.fixture(scope="module")
def pixels(captioner) -> torch.Tensor:
    noise = np.random.default_rng(4).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    return torch.stack([captioner.coca.preprocess(Image.fromarray(image)) for image in noise])


def naive(captioner: Captioner, image: torch.Tensor, top: int, steps: int) -> tuple[list[int], list[int]]:
    """Tokens of the caption, and the likeliest of every step: ZOC's loop, the whole model at each step."""
    model, end = captioner.coca.model, captioner.coca.tokenizer.eot_token_id
    said, likely = [captioner.coca.tokenizer.sot_token_id], []
    for _ in range(steps):
        with torch.no_grad():
            logits = model(image[None], torch.tensor([said]), output_labels=False)["logits"][0, -1]
        order = logits.argsort(descending=True)[:top].tolist()
        likely += order
        if order[0] == end:
            break
        said.append(order[0])
    return said[1:], likely


@pytest.mark.parametrize(("top", "steps"), [(35, 9), (4, 2), (1, 1)])
def test_words_are_the_likeliest_of_every_greedy_step(tiny_coca, pixels, top: int, steps: int) -> None:
    captioner = load_captioner(tiny_coca, top=top, steps=steps, device="cpu")
    tokenizer = captioner.coca.tokenizer
    found = captioner.captions(pixels)
    for image, caption in zip(pixels, found, strict=True):
        said, likely = naive(captioner, image, top, steps)
        assert caption.text == " ".join(tokenizer.decode(said).split())
        words = [tokenizer.decode([token]) for token in likely]
        expected = [word.strip() for word in words if word.endswith(" ") and WORD.fullmatch(word.strip())]
        assert list(caption.words) == list(dict.fromkeys(expected))
    if steps == 9:
        assert len({caption.words for caption in found}) == len(pixels)  # images are told apart at all
        assert min(len(caption.words) for caption in found) > 20


def test_an_image_whose_caption_has_ended_proposes_no_more(captioner, pixels, monkeypatch) -> None:
    """A model that says "cat", then "cats dog", then ends the first caption and goes on with the second."""
    encoder = captioner.coca.tokenizer.encoder
    end = captioner.coca.tokenizer.eot_token_id
    script = [("cat", "cat"), (None, "dog"), ("sofa", None), ("tree", "tree")]
    steps: list[int] = []

    def forward(image, text=None, *, image_latent=None, image_embs=None, output_labels=True):
        if text is None:
            return {"image_features": None, "image_embs": None}
        logits = torch.zeros(2, text.shape[1], 49408)
        for row, word in enumerate(script[text.shape[1] - 1]):
            logits[row, -1, end if word is None else encoder[f"{word}</w>"]] = 1
        steps.append(text.shape[1])
        return {"logits": logits}

    monkeypatch.setattr(captioner.coca.model, "forward", forward)
    found = Captioner(captioner.coca, top=1, steps=9).captions(pixels[:2])
    assert [(one.text, one.words) for one in found] == [("cat", ("cat",)), ("cat dog", ("cat", "dog"))]
    assert steps == [1, 2, 3]


@pytest.mark.parametrize("text", ["dog", "ox", "café", "фото"])
def test_words_name_things(text: str) -> None:
    assert WORD.fullmatch(text)


@pytest.mark.parametrize("text", ["", "a", ".", "7", "the end", "'s", "2nd", "dog_cat", "🐶"])
def test_fragments_numbers_and_punctuation_do_not(text: str) -> None:
    assert not WORD.fullmatch(text)


def test_transformers_is_not_needed(captioner, pixels, monkeypatch) -> None:
    real = builtins.__import__

    def refuse(name, *rest):
        if name.split(".")[0] == "transformers":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    assert len(captioner.captions(pixels[:1])) == 1


def test_what_decides_about_the_words_is_in_the_identity(tiny_coca, captioner) -> None:
    assert captioner.identity == {"captioner": captioner.coca.fingerprint.digest, "top": 35, "steps": 9}
    assert load_captioner(tiny_coca, top=34, steps=9, device="cpu").identity != captioner.identity


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"top": 0, "steps": 9}, "--top: expected 1 to 49408 for this captioner, found 0"),
        ({"top": 35, "steps": 21}, "--steps: expected 1 to 20 for this captioner, found 21"),
    ],
)
def test_numbers_that_cannot_be_meant_are_refused(tiny_coca, settings, message) -> None:
    with pytest.raises(UsageError, match=message):
        load_captioner(tiny_coca, device="cpu", **settings)


def test_a_model_that_writes_no_captions_is_refused(tiny_model, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected a CoCa") as caught:
        load_captioner(tiny_model, top=35, steps=9, device="cpu")
    assert "coca_ViT-B-32" in caught.value.hint
    with pytest.raises(UsageError, match="no architecture"):
        load_captioner("coca_ViT-nothing:laion", top=35, steps=9, device="cpu")
    with pytest.raises(Unavailable, match="could not be fetched"):
        load_captioner("coca_ViT-B-32:laion2b_s13b_b90k", top=35, steps=9, device="cpu")


def test_a_coca_is_a_backbone_too(tiny_coca, pixels) -> None:
    backbone = load_backbone(tiny_coca, device="cpu")
    with torch.no_grad():
        expected = backbone.model.encode_image(pixels, normalize=False)
    np.testing.assert_allclose(backbone.encode(pixels), expected.half(), rtol=1e-2, atol=1e-3)
    assert backbone.encode(pixels).shape == (5, 32)
    torch.testing.assert_close(backbone.differentiable(pixels), expected)
    assert text_features(backbone.text_tower(), ["a cat"]).shape == (1, 32)
