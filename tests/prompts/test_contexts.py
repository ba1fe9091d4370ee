"""New contexts, random or from words, and the text features of plain texts."""

import pytest
import torch
from tower_samples import CLASSES, VOCABULARY, WIDTH, plain_features, tower, weights

from lsncli.device import seeded
from lsncli.errors import LsnError, UsageError
from lsncli.prompts.layout import text_layout
from lsncli.prompts.text_features import new_contexts, text_features


@pytest.mark.parametrize("shape", [(2, 300), (2, 3, 100)])
def test_random_contexts_are_small_repeatable_and_never_alike(shape) -> None:
    first = new_contexts(VOCABULARY, shape, "", seeded(1))
    assert (first.shape, first.dtype) == ((*shape, WIDTH), torch.float32)
    assert first.std().item() == pytest.approx(0.02, rel=0.05)
    assert first.mean().abs().item() < 0.002
    assert torch.equal(first, new_contexts(VOCABULARY, shape, "", seeded(1)))
    assert not torch.equal(first, new_contexts(VOCABULARY, shape, "", seeded(2)))
    assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize("shape", [(1, 3), (1, 4, 3)])
def test_a_context_from_words_is_their_embeddings(shape) -> None:
    found = new_contexts(VOCABULARY, shape, "hen", seeded(0))
    words = VOCABULARY.embed(VOCABULARY.tokenize("hen"))
    assert torch.equal(found, words.expand(*shape, WIDTH))
    found += 1  # memory of its own: learning must not move the vocabulary
    assert torch.equal(words, VOCABULARY.embed(VOCABULARY.tokenize("hen")))


@pytest.mark.parametrize("shape", [(3, 3), (3, 2, 3)])
def test_several_sets_from_the_same_words_are_near_them_and_not_alike(shape) -> None:
    found = new_contexts(VOCABULARY, shape, "hen", seeded(0))
    away = found - VOCABULARY.embed(VOCABULARY.tokenize("hen"))
    assert away.std().item() == pytest.approx(0.02, rel=0.3)
    for i in range(3):
        for j in range(i):
            assert not torch.equal(found[i], found[j])


def test_words_of_another_length_are_a_sentence() -> None:
    with pytest.raises(UsageError) as caught:
        new_contexts(VOCABULARY, (1, 4), "hen", seeded(0))
    assert caught.value.message == "--init 'hen' is 3 tokens, but the context has 4 vectors."
    assert caught.value.hint == "Use --context-length 3."


def test_plain_texts_are_encoded_as_a_plain_transformer_does(monkeypatch) -> None:
    model, texts = tower(), [f"a photo of a {name}" for name in CLASSES]
    nothing = torch.empty(1, 0, WIDTH)
    expected = plain_features(weights(), text_layout(VOCABULARY, texts), nothing)[0]
    found = text_features(model, texts)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(3))
    assert not found.requires_grad
    monkeypatch.setattr("lsncli.prompts.text_features.TEXT_MEMORY", 1)  # one text at a time
    torch.testing.assert_close(text_features(model, texts), expected, rtol=0, atol=1e-6)


def test_a_text_that_does_not_fit_is_named() -> None:
    with pytest.raises(LsnError, match=r"the text 'aaaa.*' needs 32 tokens, but it reads at most 20"):
        text_features(tower(), ["short", "a" * 30])
