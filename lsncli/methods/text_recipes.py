"""WordNet's words, and the texts by which a model reads classes and words: a recipe of one or several.

A recipe says how classes and words become texts: NegLabel's one template each, CSP's eight, with adjectives
in phrases such as "wooden structure", or those of OpenOOD-VLM's variant of NegLabel.

NegLabel: Jiang et al., "Negative label guided OOD detection with pretrained vision-language models", ICLR
2024. CSP: Chen et al., "Conjugated semantic pool improves OOD detection with pre-trained vision-language
models", NeurIPS 2024.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from lsncli.reference.wordnet import words_by_file

TEMPLATE = "a photo of a {}"
"""The prompt of MCM (Ming et al., NeurIPS 2022), without a full stop."""

LEFT_OUT = frozenset({"noun.animal", "noun.food"})
"""Files of WordNet that NegLabel leaves out: ImageNet has many animals and much food."""


@dataclass(frozen=True)
class WordPool:
    """Distinct words, adjectives first, and how many of them are adjectives."""

    words: tuple[str, ...]
    adjectives: int = 0


@dataclass(frozen=True)
class Recipe:
    """The texts of words and classes, of which the unit mean is taken, and the files of WordNet to use."""

    noun: tuple[str, ...]
    """Templates of nouns and of classes."""
    adjective: tuple[str, ...]
    """Templates of adjectives, or of their phrases."""
    left_out: frozenset[str] = LEFT_OUT
    superclasses: tuple[str, ...] = ()
    """Nouns of which one is drawn for each adjective; none leaves adjectives alone."""
    mined_adjective: tuple[str, ...] = ()
    """Templates by which adjectives are mined, where they are not those of the score."""
    nouns_first: bool = False
    """Whether a word that is an adjective and a noun is a noun."""

    def texts(self, pool: WordPool) -> list[list[str]]:
        """Return the texts of each word."""
        adjectives = list(pool.words[: pool.adjectives])
        if self.superclasses:
            draw = random.Random(0)
            adjectives = [f"{word} {draw.choice(self.superclasses)}" for word in adjectives]
        return [[form.format(word) for form in self.adjective] for word in adjectives] + [
            [form.format(word) for form in self.noun] for word in pool.words[pool.adjectives :]
        ]

    def class_texts(self, classes: Sequence[str]) -> list[list[str]]:
        """Return the texts of each class."""
        return [[form.format(name) for form in self.noun] for name in classes]


SUPERCLASSES = (
    *("environment", "space", "object", "scene", "place", "item", "area"),
    *("view", "thing", "pattern", "structure", "landscape", "vista", "creature"),
)
"""CSP's nouns for adjectives."""

RECIPES = {
    "neglabel": Recipe(("the nice {}",), ("This is a {} photo",)),
    "csp": Recipe(
        (
            "a close-up photo of the nice {}.",
            "a photo with the nice {}.",
            "a good photo with the nice {}.",
            "a photo of the nice {}.",
            "{}",
            "the {}",
            "the good {}",
            "the nice {}",
        ),
        ("{}", "a nice photo of {}", "a good photo of {}", "a close-up photo of {}"),
        LEFT_OUT | {"noun.person", "noun.quantity", "noun.group", "adj.pert"},
        SUPERCLASSES,
    ),
    "openood": Recipe(
        ("The nice {}.",),
        ("The nice {}.",),
        mined_adjective=("This is a {} photo.",),
        nouns_first=True,
    ),
}
"""Recipes by name, as published."""


ADJECTIVE = "adj."


@cache
def wordnet_pool(left_out: frozenset[str] = LEFT_OUT, *, nouns_first: bool = False) -> WordPool:
    """Return WordNet's words without some lexicographer files, in lower case, each part sorted.

    A word that is an adjective and a noun is an adjective, with ``nouns_first`` a noun. NegLabel's order
    depends on how its authors' disk listed files; with adjectives first theirs has 13,091 + 56,909 words,
    ours a thousand adjectives more, which are missing in theirs.
    """
    adjectives: set[str] = set()
    nouns: set[str] = set()
    for name, words in words_by_file().items():
        if name not in left_out:
            (adjectives if name.startswith(ADJECTIVE) else nouns).update(word.lower() for word in words)
    if nouns_first:
        adjectives -= nouns
    else:
        nouns -= adjectives
    return WordPool((*sorted(adjectives), *sorted(nouns)), len(adjectives))
