"""Prompts made of real words must give exactly what open_clip's own text encoder gives for the sentence."""

import pytest
import torch
from torch.nn.functional import normalize

from lsncli.errors import LsnError
from lsncli.prompts.contexts import new_context, prompt_features, slots, text_features

CLASSES = ["tench", "English springer", "a rather long class name of many words", "x"]


@pytest.fixture(scope="module")
def tower(tiny_backbone):
    return tiny_backbone.text_tower()


def plain(backbone, texts):
    """open_clip's own full-length pass."""
    return backbone.model.encode_text(backbone.tokenizer(texts), normalize=True)


def full_length(backbone, context, classes):
    """The plain reference: every prompt padded to the full context length, context written over X tokens."""
    model, length = backbone.model, context.shape[-2]
    tokens = backbone.tokenizer([" ".join(["X"] * length) + f" {name}." for name in classes])
    embedded = model.token_embedding(tokens)
    middle = context.expand(len(classes), -1, -1)
    embedded = torch.cat([embedded[:, :1], middle, embedded[:, 1 + length :]], dim=1)
    hidden = model.transformer(embedded + model.positional_embedding, attn_mask=model.attn_mask)
    hidden = model.ln_final(hidden)[torch.arange(len(classes)), tokens.argmax(-1)]
    return normalize(hidden @ model.text_projection, dim=-1)


def test_texts_encode_as_open_clip_encodes_them(tiny_backbone, tower) -> None:
    texts = [f"a photo of a {name}" for name in CLASSES]
    torch.testing.assert_close(text_features(tower, texts), plain(tiny_backbone, texts), rtol=0, atol=2e-6)


def test_texts_in_small_chunks_give_the_same(tower) -> None:
    texts = [f"a {name}." for name in CLASSES]
    torch.testing.assert_close(
        text_features(tower, texts, chunk=1), text_features(tower, texts), rtol=0, atol=2e-6
    )


def test_a_context_of_word_embeddings_is_the_sentence(tiny_backbone, tower) -> None:
    context = tower.embed(tower.tokenize("a photo of a"))
    features = prompt_features(tower, slots(tower, CLASSES, len(context)), context)
    expected = plain(tiny_backbone, [f"a photo of a {name}." for name in CLASSES])
    torch.testing.assert_close(features, expected, rtol=0, atol=2e-6)


def test_class_specific_contexts_of_words_are_their_sentences(tiny_backbone, tower) -> None:
    starts = ["a photo of a", "not a big red", "one of the many", "this is no small"]
    context = torch.stack([tower.embed(tower.tokenize(start)) for start in starts])
    features = prompt_features(tower, slots(tower, CLASSES, context.shape[1]), context)
    expected = plain(tiny_backbone, [f"{start} {name}." for start, name in zip(starts, CLASSES, strict=True)])
    torch.testing.assert_close(features, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("specific", [False, True])
@pytest.mark.parametrize("length", [1, 16])
@pytest.mark.parametrize("count", [1, 4])
def test_features_and_gradients_match_the_full_length_reference(
    tiny_backbone, tower, specific: bool, length: int, count: int
) -> None:
    generator = torch.Generator().manual_seed(length + count)
    shape = (count, length, tower.width) if specific else (length, tower.width)
    weights = torch.randn(count, 32, generator=generator)
    start = new_context(shape, generator) * 20
    classes = CLASSES[:count]
    found, expected = start.clone().requires_grad_(), start.clone().requires_grad_()
    ours = prompt_features(tower, slots(tower, classes, length), found)
    theirs = full_length(tiny_backbone, expected, classes)
    (ours * weights).sum().backward()
    (theirs * weights).sum().backward()
    assert torch.dist(ours, theirs) <= 2e-5 * theirs.norm()
    assert torch.dist(found.grad, expected.grad) <= 2e-5 * expected.grad.norm()


def test_a_prompt_that_does_not_fit_is_named(tower) -> None:
    with pytest.raises(LsnError, match=r"class 'a rather long.*needs 43 tokens.*at most 40"):
        slots(tower, CLASSES[2:], 32)
    with pytest.raises(LsnError, match="the text 'many"):
        text_features(tower, ["short", "many " * 50])


def test_new_contexts_are_small_and_repeatable() -> None:
    first = new_context((200, 100), torch.Generator().manual_seed(1))
    assert torch.equal(first, new_context((200, 100), torch.Generator().manual_seed(1)))
    assert first.std().item() == pytest.approx(0.02, rel=0.05)
