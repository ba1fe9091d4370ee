"""What a tokenizer puts around words, read off without a tokenizer library."""

from types import SimpleNamespace

import pytest
import torch

from lsncli.backbones.loading import ensure_torchvision
from lsncli.backbones.text import read_tokens
from lsncli.errors import LsnError

ensure_torchvision()
import open_clip  # noqa: E402


class Inner:
    """The part of a tokenizer of transformers that matters: one token a letter, some around them."""

    sep_token_id = 102

    def __init__(self, start: list[int], end: list[int], pad: int | None, lower: bool = True) -> None:
        self.start, self.end, self.pad_token_id, self.lower = start, end, pad, lower

    def __call__(self, text: str, add_special_tokens: bool) -> SimpleNamespace:
        ids = [200 + ord(c) for c in (text.lower() if self.lower else text)]
        ids = [102 if token == 200 + ord("]") else token for token in ids]
        return SimpleNamespace(input_ids=[*self.start, *ids, *self.end] if add_special_tokens else ids)


class HFTokenizer:
    """Shaped like open_clip's class of that name."""

    def __init__(self, inner: Inner, left: bool = False, strip_sep_token: bool = False) -> None:
        self.tokenizer, self.left, self.strip_sep_token = inner, left, strip_sep_token
        self.clean_fn = str.strip

    def __call__(self, texts: list[str], context_length: int) -> torch.Tensor:
        """Padded behind the text, or in front of it where a tokenizer was made for generation."""
        if self.tokenizer.pad_token_id is None:
            raise ValueError("Asking to pad but the tokenizer does not have a padding token.")
        rows = []
        for text in texts:
            ids = self.tokenizer(self.clean_fn(text), add_special_tokens=True).input_ids
            padding = [self.tokenizer.pad_token_id] * (context_length - len(ids))
            rows.append(padding + ids if self.left else ids + padding)
        found = torch.tensor(rows)
        return torch.where(found == 102, 0, found) if self.strip_sep_token else found


def test_clips_tokenizer_has_one_token_at_either_end_and_fills_with_zeros() -> None:
    tokens = read_tokens(open_clip.SimpleTokenizer(), 77)
    assert (tokens.start, tokens.end, tokens.pad) == ((49406,), (49407,), 0)
    assert tokens.tokenize("a photo of a cat.") == [320, 1125, 539, 320, 2368, 269]
    assert 0 in tokens.tokenize("!§")  # what fills up is also the "!" within a word, and no harm is done


@pytest.mark.parametrize(
    ("start", "end", "pad"),
    [([101], [102], 0), ([], [1], 1), ([0], [2], 1), ([256047], [2], 1), ([], [], 0), ([5, 6], [7, 8, 9], 3)],
    ids=["bert", "t5", "roberta", "nllb", "none", "many"],
)
def test_what_stands_around_words_is_found(start: list[int], end: list[int], pad: int) -> None:
    tokens = read_tokens(HFTokenizer(Inner(start, end, pad)), 40)
    assert (tokens.start, tokens.end, tokens.pad) == (tuple(start), tuple(end), pad)
    assert tokens.tokenize(" Ox ") == [200 + ord("o"), 200 + ord("x")]


def test_a_stripped_separator_is_padding_like_open_clip_makes_it() -> None:
    tokens = read_tokens(HFTokenizer(Inner([101], [102], 0), strip_sep_token=True), 40)
    assert (tokens.start, tokens.end, tokens.pad) == ((101,), (0,), 0)


def test_open_clips_older_class_for_siglip_cleans_without_saying_so() -> None:
    from open_clip.tokenizer import basic_clean, canonicalize_text

    tokenizer = HFTokenizer(Inner([], [1], 1, lower=False))
    tokenizer.clean_fn = lambda text: canonicalize_text(basic_clean(text))
    expected = read_tokens(tokenizer, 40).tokenize("A Hen, standing.")

    class SigLipTokenizer:
        tokenizer = Inner([], [1], 1, lower=False)

        def __call__(self, texts: list[str], context_length: int) -> torch.Tensor:
            return HFTokenizer.__call__(tokenizer, texts, context_length)

    assert read_tokens(SigLipTokenizer(), 40).tokenize("A Hen, standing.") == expected


@pytest.mark.parametrize(
    "tokenizer",
    [
        HFTokenizer(Inner([1], [2], 0), left=True),
        HFTokenizer(Inner([1], [2], None)),
        SimpleNamespace(encode=lambda text: []),
        SimpleNamespace(
            tokenizer=lambda text, add_special_tokens: SimpleNamespace(input_ids=[9]), clean_fn=str
        ),
        object(),
    ],
    ids=["padded in front", "no padding", "no layout", "nothing but one token", "no tokenizer"],
)
def test_a_text_laid_out_in_another_way_is_refused_in_a_sentence(tokenizer) -> None:
    with pytest.raises(LsnError, match="does not lay out a text as start, words, end and padding") as caught:
        read_tokens(tokenizer, 40)
    assert type(tokenizer).__name__ in caught.value.message
    assert "lsn models" in caught.value.hint


def test_a_text_that_spells_out_an_end_is_refused() -> None:
    tokens = read_tokens(open_clip.SimpleTokenizer(), 77)
    with pytest.raises(LsnError, match="'a <end_of_text> b' spells out the start or the end"):
        tokens.tokenize("a <end_of_text> b")
    with pytest.raises(LsnError, match="spells out"):
        read_tokens(HFTokenizer(Inner([101], [102], 0)), 40).tokenize("a]")
