"""Choose the words that are far from all classes, by the published rules, and drop those that are classes.

Cosines are between unit text features, words (V, D) and classes (C, D).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lsncli.errors import UsageError
from lsncli.reference.wordnet import is_proper, nouns, words_by_file
from lsncli.types import Float64Array, FloatArray

CHUNK = 4096
SPELLED, KIND, PROPER = "spells a class", "kind of a class", "proper noun"
"""Reasons to drop a word."""
QUANTILE = 0.95
SHARE = 0.15
"""NegLabel keeps this fraction of the nouns and of the adjectives."""
EQUAL = 0.95
"""CSP drops a word whose cosine with a class is above this: it is a class by another name."""
OPENOOD_WORDS = 10_000
"""The number of words of OpenOOD-VLM's variant."""
IMAGE_WORDS = 2000
"""InterNeg's number of words."""


def quantile_similarity(
    words: FloatArray,
    classes: FloatArray,
    *,
    quantile: float = QUANTILE,
    equal: float | None = None,
    interpolated: bool = True,
) -> Float64Array:
    """Return the ``quantile`` (V,) of each word's cosines with the classes: low = far from the classes.

    Quantiles are interpolated linearly, as in NegLabel, or else the cosine of rank int(``quantile`` C) from
    0, as in OpenOOD-VLM. With ``equal`` (CSP) a word with a larger cosine than that gets infinity.
    """
    found = np.empty(len(words))
    for start in range(0, len(words), CHUNK):
        cosine = np.asarray(words[start : start + CHUNK], np.float64) @ np.asarray(classes, np.float64).T
        if interpolated:
            part = np.quantile(cosine, quantile, axis=1)
        else:
            rank = min(int(quantile * cosine.shape[1]), cosine.shape[1] - 1)
            part = np.partition(cosine, rank, axis=1)[:, rank]
        if equal is not None:
            part[cosine.max(axis=1) > equal] = np.inf
        found[start : start + CHUNK] = part
    return found


def farthest(
    similarity: Float64Array, adjectives: int, share: float = SHARE, total: int = 0
) -> NDArray[np.int64]:
    """Return the ``share`` of the adjectives and of the nouns with the lowest similarity, ascending numbers.

    With ``total`` that many words are taken, adjectives in proportion (OpenOOD-VLM). The first
    ``adjectives`` of the words are adjectives. Of equal words the earlier is taken. Words of infinite
    similarity are never taken.
    """
    kept = []
    counts = [int(share * adjectives), int(share * (len(similarity) - adjectives))]
    if total:
        of_adjectives = int(total * adjectives / len(similarity))
        counts = [of_adjectives, total - of_adjectives]
    for start, stop, count in ((0, adjectives, counts[0]), (adjectives, len(similarity), counts[1])):
        part = similarity[start:stop]
        order = np.argsort(part, kind="stable")[:count]
        kept.append(start + order[np.isfinite(part[order])])
    return np.sort(np.concatenate(kept))


def farther_from_images(
    words: FloatArray,
    classes: FloatArray,
    images: FloatArray,
    adjectives: int,
    count: int = IMAGE_WORDS,
) -> NDArray[np.int64]:
    """Return words that are farther from the images of each class than its name is (InterNeg).

    ``images`` (C, D) are unit means of the images of each class, v_c. A word w is eligible if w . v_c <
    t_c . v_c for every class c. Of these ``count`` are taken, adjectives in proportion, by the largest mean
    of t_c . v_c - w . v_c. Ascending numbers.

    Paper: InterNeg, CVPR 2026; its half that needs no gradients at test time.
    """
    own = np.einsum("cd,cd->c", np.asarray(classes, np.float64), np.asarray(images, np.float64))
    gap = np.empty(len(words))
    for start in range(0, len(words), CHUNK):
        margin = own - np.asarray(words[start : start + CHUNK], np.float64) @ np.asarray(images, np.float64).T
        gap[start : start + CHUNK] = np.where((margin > 0).all(axis=1), margin.mean(axis=1), -np.inf)
    of_adjectives = round(count * adjectives / max(1, len(words)))
    kept = []
    for start, stop, most in (
        (0, adjectives, of_adjectives),
        (adjectives, len(words), count - of_adjectives),
    ):
        order = np.argsort(-gap[start:stop], kind="stable")[:most]
        kept.append(start + order[np.isfinite(gap[start:stop][order])])
    return np.sort(np.concatenate(kept))


@dataclass(frozen=True)
class Filtered:
    """The numbers (V,) of the words that filters leave, ascending, and the words that they drop by reason."""

    rows: NDArray[np.int64]
    dropped: dict[str, tuple[str, ...]]


def without_classes(
    words: Sequence[str], classes: Sequence[str], *, keep_proper: bool = True, keep_kinds: bool = True
) -> Filtered:
    """Drop words that spell the name of a class, also in another number or with hyphens.

    ``keep_proper`` = False drops words that WordNet writes with a capital letter, ``keep_kinds`` = False
    synonyms and kinds of a class (hyponyms in WordNet, of every sense of its name). These stand in for
    NegRefine's two filters, which ask a language model. Raises UsageError if no word is left.
    """
    spelled = {_spelling(name) for name in classes}
    kinds_of_classes = frozenset() if keep_kinds else nouns().kinds(classes)
    names = frozenset() if keep_proper else _proper_words()
    dropped: dict[str, list[str]] = {SPELLED: [], KIND: [], PROPER: []}
    rows: list[int] = []
    for number, word in enumerate(words):
        if _spelling(word) in spelled:
            dropped[SPELLED].append(word)
        elif word.lower() in kinds_of_classes:
            dropped[KIND].append(word)
        elif word.lower() in names:
            dropped[PROPER].append(word)
        else:
            rows.append(number)
    if not rows:
        raise UsageError("No word is left: every one spells a class or is dropped by a filter.")
    return Filtered(np.array(rows), {why: tuple(some) for why, some in dropped.items() if some})


def _proper_words() -> frozenset[str]:
    """Return the words, in lower case, that WordNet writes with a capital letter and never without."""
    proper: set[str] = set()
    others: set[str] = set()
    for words in words_by_file().values():
        for word in words:
            (proper if is_proper(word) else others).add(word.lower())
    return frozenset(proper - others)


def _spelling(name: str) -> str:
    """Return a name in lower case and in the singular, with blanks for hyphens and underscores."""
    words = name.casefold().replace("-", " ").replace("_", " ").split()
    return " ".join(_singular(word) for word in words)


def _singular(word: str) -> str:
    for end, singular in (("ies", "y"), ("ses", "s"), ("xes", "x"), ("ches", "ch"), ("shes", "sh")):
        if word.endswith(end) and len(word) > len(end) + 1:
            return word.removesuffix(end) + singular
    return word.removesuffix("s") if word.endswith("s") and not word.endswith("ss") else word


def stems_of(name: str) -> set[str]:
    """Return the words of a name, in lower case and without a plural's s."""
    return {word.removesuffix("s") for word in name.casefold().replace("-", " ").split()}
