"""The words that an image of no class may be: which a score uses for given classes, with their features.

``wordnet`` is NegLabel's selection from WordNet, ``csp`` the one of CSP, ``openood`` that of OpenOOD-VLM's
variant of NegLabel, ``imagenet1k`` (for models that know few words, such as the bundled one) ImageNet's names
that are far from the classes. Any other name is a class
list or a file with one word a line, of which all words are used.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lsncli.backbones import Backbone, loader_of, with_text
from lsncli.console import ProgressCallback, announcing, duration, silent
from lsncli.errors import UsageError
from lsncli.methods.cache import digest
from lsncli.methods.candidates import read_vocabulary
from lsncli.methods.text_recipes import RECIPES, TEMPLATE, Recipe, WordPool, wordnet_pool
from lsncli.methods.word_features import WordEncoder
from lsncli.methods.word_selection import (
    EQUAL,
    OPENOOD_WORDS,
    Filtered,
    farther_from_images,
    farthest,
    quantile_similarity,
    stems_of,
    without_classes,
)
from lsncli.scores.common import VOCABULARY
from lsncli.types import FloatArray, LearnedArrays

AUTO, WORDNET, CSP, OPENOOD, IMAGENET = "auto", "wordnet", "csp", "openood", "imagenet1k"
MINED = (WORDNET, CSP, OPENOOD)
"""The lists of which the words far from the classes are taken."""
KNOWN_WORDS = {"mini": IMAGENET}
"""The list of ``auto`` for models that do not know most of WordNet's words."""
FAR_SHARE = 0.75
"""Fraction of ImageNet's names that is used: those farthest from all classes. The others are likely kinds or
parts of a class ("beagle" of "dog") that share no word with its name."""

SELECTION = "selection"
"""The name in ``LearnedArrays`` of the digest of the selected words, 32 bytes."""

Rule = Literal["names", "images"]
Filter = Literal["none", "proper", "kinds", "both"]


@dataclass(frozen=True)
class Words:
    """Selected words, their unit text features (V, D), and the words that filters dropped, by reason."""

    words: tuple[str, ...]
    features: NDArray[np.float32]
    classes: NDArray[np.float32]
    """Unit text features (C, D) of the classes, in the texts of the words."""
    pool: int
    """The number of words that they were chosen from."""
    dropped: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Digest of the words and their features."""
        return digest(list(self.words), self.features)


@dataclass(frozen=True)
class WordChoice:
    """Which words a score uses: the list, the rule that mines it, and what is dropped before."""

    name: str = WORDNET
    mine: Rule = "names"
    drop: Filter = "none"

    @property
    def recipe(self) -> str:
        """The texts of classes and words: a recipe, or "hand" for the hand-written prompt."""
        if self.name == IMAGENET:
            return "hand"
        return self.name if self.name in (CSP, OPENOOD) else "neglabel"

    def pool(self) -> WordPool:
        """Return the words to choose from. Raises UsageError as ``read_vocabulary``."""
        if self.name in MINED:
            recipe = RECIPES[self.recipe]
            return wordnet_pool(recipe.left_out, nouns_first=recipe.nouns_first)
        return WordPool(read_vocabulary(self.name))

    def class_texts(self, classes: Sequence[str]) -> list[list[str]]:
        """Return the texts of each class."""
        return _recipe(self.recipe).class_texts(classes)


def pool_texts(choice: WordChoice) -> list[list[str]]:
    """Return the texts of each word that a choice is made from. Raises UsageError as ``choice.pool``."""
    return _recipe(choice.recipe).texts(choice.pool())


def count_texts(choice: WordChoice) -> int:
    """Return how many texts are encoded for the words of a choice. Raises UsageError as ``choice.pool``."""
    return sum(map(len, pool_texts(choice)))


def announcing_words(
    choice: WordChoice, model: str, remark: Callable[[str], None], progress: ProgressCallback = silent
) -> ProgressCallback:
    """Return ``progress`` for ``select_words`` that also says how long a model takes for its first words."""

    def announce(left: int, seconds: float) -> None:
        remark(f"Encoding {left:,} words with {model}, once for this model, takes about {duration(seconds)}.")

    return announcing(progress, len(choice.pool().words), announce)


def choice_for(name: str, model: str, **options: str) -> WordChoice:
    """Return the choice of a list for a model: ``auto`` is WordNet where the model knows its words."""
    if name == AUTO:
        name = KNOWN_WORDS.get(model, WORDNET)
    return WordChoice(name, **options)  # type: ignore[arg-type]


def word_encoder(backbone: Backbone) -> WordEncoder:
    """Return the encoder of words of a model. Raises NoText if it has no text tower."""
    known = backbone.fingerprint
    return WordEncoder(with_text(backbone).text_tower(), known.digest, loader_of(known.model))


def select_words(
    choice: WordChoice,
    classes: Sequence[str],
    encoder: WordEncoder,
    images: Callable[[], FloatArray] | None = None,
    progress: ProgressCallback = silent,
    *,
    banned: Sequence[str] = (),
) -> Words:
    """Return the words of ``choice`` for ``classes``; equal inputs give equal words.

    Words that spell one of the ``banned`` names are dropped like those that spell a class.

    ``images`` returns the unit means (C, D) of the images of each class, for the rule "images". ``progress``
    counts words that are encoded. Raises UsageError if no word is left, and for that rule without images.
    """
    pool, recipe = choice.pool(), _recipe(choice.recipe)
    own = encoder.encode(choice.class_texts(classes))
    names = (*classes, *banned)
    kept = without_classes(
        pool.words,
        names,
        keep_proper=choice.drop not in ("proper", "both"),
        keep_kinds=choice.drop not in ("kinds", "both"),
    )
    if choice.name == IMAGENET and choice.mine == "names":
        return _imagenet_names(pool, kept, names, own, encoder, progress)
    features = encoder(recipe.texts(pool), progress)
    adjectives = int(np.searchsorted(kept.rows, pool.adjectives))
    rows = kept.rows
    if choice.mine == "images":
        if images is None:
            raise UsageError("mine=images needs labelled training images.", "Leave it out, or use lsn eval.")
        rows = rows[farther_from_images(features[rows], own, images(), adjectives)]
    elif choice.name in MINED:
        mined = _mined(recipe, pool, features, encoder)[rows]
        published = choice.name == OPENOOD
        equal = EQUAL if choice.name == CSP else None
        similarity = quantile_similarity(mined, own, equal=equal, interpolated=not published)
        rows = rows[farthest(similarity, adjectives, total=OPENOOD_WORDS if published else 0)]
    if not len(rows):
        raise UsageError(f"No word of '{choice.name}' is far from the classes.", "Name another list.")
    words = tuple(pool.words[row] for row in rows)
    return Words(words, features[rows], own, len(pool.words), kept.dropped)


def _mined(
    recipe: Recipe, pool: WordPool, features: NDArray[np.float32], encoder: WordEncoder
) -> NDArray[np.float32]:
    """Return the features by which words are mined: those of the score, but for some adjectives."""
    if not recipe.mined_adjective:
        return features
    adjectives = pool.words[: pool.adjectives]
    texts = [[form.format(word) for form in recipe.mined_adjective] for word in adjectives]
    return np.concatenate([encoder(texts), features[pool.adjectives :]])


def list_digest(name: str, model: str) -> str:
    """Return the digest of the words of a list, which may be a user's file."""
    return digest(list(choice_for(name, model).pool().words))


def vocabulary_arrays(words: Words) -> LearnedArrays:
    """Return what a detector keeps of selected words: their features, and the digest of the selection."""
    return {VOCABULARY: words.features, SELECTION: np.frombuffer(bytes.fromhex(words.digest), dtype=np.uint8)}


def _imagenet_names(
    pool: WordPool,
    kept: Filtered,
    avoided: Sequence[str],
    own: NDArray[np.float32],
    encoder: WordEncoder,
    progress: ProgressCallback,
) -> Words:
    """Choose ImageNet's class names that are not near the classes, whose text features are ``own``.

    Names that share a word with one of ``avoided``, in upper or lower case, are dropped, and of the rest the
    quarter whose text features are nearest to a class.
    """
    stems = {word for name in avoided for word in stems_of(name)}
    free = [row for row in kept.rows if stems.isdisjoint(stems_of(pool.words[row]))]
    features = encoder([[TEMPLATE.format(name)] for name in pool.words], progress)[free]
    nearest = (features @ own.T).max(axis=1)
    rows = np.sort(np.argsort(nearest, kind="stable")[: max(1, round(FAR_SHARE * len(free)))])
    dropped = tuple(pool.words[row] for row in np.setdiff1d(kept.rows, free))
    reasons = kept.dropped | {"shares a word": dropped}
    return Words(tuple(pool.words[free[row]] for row in rows), features[rows], own, len(pool.words), reasons)


def _recipe(name: str) -> Recipe:
    return RECIPES[name] if name in RECIPES else Recipe((TEMPLATE,), (TEMPLATE,))
