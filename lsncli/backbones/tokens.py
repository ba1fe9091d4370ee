"""How a tokenizer lays out a text: start, words, end, padding."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lsncli.backbones._torchvision import ensure_torchvision
from lsncli.errors import LsnError

ensure_torchvision()
from open_clip.tokenizer import get_clean_fn  # noqa: E402  (needs a torchvision that imports)

PROBES = ("A photo of a cat.", "dog")
"""Texts on which our layout must give the tokenizer's own ids."""


@dataclass(frozen=True)
class Tokens:
    """A text is ``start``, its words, ``end``, and ``pad`` up to full length."""

    tokenize: Callable[[str], list[int]]
    """The ids of the words alone. Raises LsnError for a text that spells out a start or an end."""
    start: tuple[int, ...]
    end: tuple[int, ...]
    pad: int


def read_tokens(tokenizer: Any, length: int) -> Tokens:
    """Read the layout off one of open_clip's tokenizers, and check it on two texts of ``length`` tokens.

    Raises LsnError if texts are laid out in another way, for then no vector can stand where a word would.
    """
    try:
        tokens = _clip(tokenizer) if hasattr(tokenizer, "sot_token_id") else _transformers(tokenizer)
        rows = [[*tokens.start, *tokens.tokenize(probe), *tokens.end] for probe in PROBES]
        padded = [row + [tokens.pad] * (length - len(row)) for row in rows]
        right = padded == tokenizer(list(PROBES), context_length=length).tolist()
    except (AttributeError, TypeError, ValueError):
        right = False
    if not right:
        raise LsnError(
            f"Prompts cannot be learned for this model: its tokenizer ({type(tokenizer).__name__}) does not "
            "lay out a text as start, words, end and padding.",
            "Use another model; `lsn models` lists them.",
        )
    return tokens


def _clip(tokenizer: Any) -> Tokens:
    """CLIP's byte pairs; open_clip fills up with 0, which is also the "!" within a word."""
    start, end = (tokenizer.sot_token_id,), (tokenizer.eot_token_id,)
    return Tokens(_words(tokenizer.encode, start + end), start, end, 0)


def _transformers(tokenizer: Any) -> Tokens:
    """A tokenizer of transformers inside: what it puts around words is seen by leaving it out."""
    inner = tokenizer.tokenizer
    # open_clip's older class for SigLIP has the one cleaning built in, the newer a setting.
    clean = tokenizer.clean_fn if hasattr(tokenizer, "clean_fn") else get_clean_fn("canonicalize")

    def ids(text: str, special: bool) -> list[int]:
        found: list[int] = inner(clean(text), add_special_tokens=special).input_ids
        return found

    whole, words = ids(PROBES[0], True), ids(PROBES[0], False)
    first = [whole[i : i + len(words)] for i in range(len(whole))].index(words)
    start, end = tuple(whole[:first]), tuple(whole[first + len(words) :])
    if getattr(tokenizer, "strip_sep_token", False):
        end = tuple(0 if token == inner.sep_token_id else token for token in end)
    return Tokens(_words(lambda text: ids(text, False), start + end), start, end, inner.pad_token_id)


def _words(encode: Callable[[str], list[int]], special: tuple[int, ...]) -> Callable[[str], list[int]]:
    def tokenize(text: str) -> list[int]:
        ids = encode(text)
        if not set(special).isdisjoint(ids):
            raise LsnError(
                f"The text '{text}' spells out the start or the end of a text.", "Rename the class."
            )
        return ids

    return tokenize
