"""Which words are kept: the published numbers, loops in their place, and real CLIP text features."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from later_vectors import arrays

from lsncli.errors import UsageError
from lsncli.methods import words
from lsncli.methods.text_recipes import RECIPES, WordPool, wordnet_pool
from lsncli.methods.word_selection import (
    farther_from_images,
    farthest,
    quantile_similarity,
    without_classes,
)
from lsncli.methods.words import WordChoice, select_words
from lsncli.metrics import auroc
from lsncli.scores.neglabel import VOCABULARY, NegLabel
from lsncli.types import Head, unit


def test_neglabels_quantiles_are_those_of_the_authors_code() -> None:
    known = arrays()
    found = quantile_similarity(known.w, known.t)
    expected = [0.22251536, 0.54403858, 0.67896882, 0.59643388, -0.13033566, 0.26192534, -0.22433523]
    np.testing.assert_allclose(found, expected, atol=1e-8)
    assert np.argsort(found).tolist() == [6, 4, 0, 5, 1, 3, 2]


@given(st.integers(0, 2**32 - 1))
def test_quantiles_are_those_of_a_loop(seed: int) -> None:
    random = np.random.default_rng(seed)
    words, classes = unit(random.normal(size=(9, 4))), unit(random.normal(size=(random.integers(1, 6), 4)))
    found = quantile_similarity(words, classes, quantile=0.7, equal=0.9)
    for word, value in zip(words, found, strict=True):
        cosines = sorted(float(word @ each) for each in classes)
        if cosines[-1] > 0.9:
            assert value == np.inf
            continue
        place = 0.7 * (len(cosines) - 1)
        low = int(place)
        high = min(low + 1, len(cosines) - 1)
        assert value == pytest.approx(cosines[low] + (place - low) * (cosines[high] - cosines[low]))


def test_the_share_is_of_adjectives_and_of_nouns() -> None:
    similarity = np.array([0.5, 0.1, 0.9, 0.3, 0.8, 0.2, 0.7, np.inf, 0.4, 0.2])
    assert farthest(similarity, 4, share=0.5).tolist() == [1, 3, 5, 8, 9]
    assert farthest(similarity, 4, share=1.0).tolist() == [0, 1, 2, 3, 4, 5, 6, 8, 9]  # never infinity
    assert farthest(similarity, 0, share=0.2).tolist() == [1, 5]  # of equal words the earlier


def test_words_nearer_to_a_class_than_its_name_are_no_negatives() -> None:
    classes, images = np.eye(3)[:2], unit(np.array([[0.9, 0.1, 0.1], [0.1, 0.8, 0.3]]))
    words = unit(np.array([[0, 0, 1.0], [1, 1, 0], [0.95, 0.02, 0.1], [-1, -1, 0], [0, 0.1, 1.0]]))
    found = farther_from_images(words, classes, images, adjectives=1, count=3)
    eligible = [w for w in range(5) if all(words[w] @ images[c] < classes[c] @ images[c] for c in range(2))]
    assert eligible == [0, 1, 3, 4]
    gap = [np.mean([classes[c] @ images[c] - words[w] @ images[c] for c in range(2)]) for w in range(5)]
    nouns = sorted([w for w in eligible if w >= 1], key=lambda w: -gap[w])[:2]
    assert found.tolist() == sorted([0, *nouns])


WORDS = ("wild", "cats", "Siamese", "dog", "hot-dog", "paris", "branches", "glass", "cat box")


def test_images_select_names_of_imagenet_too() -> None:
    classes = ["dog", "truck"]

    class Encoder:
        """A feature for each text, the same every time."""

        def encode(self, texts: list[list[str]]) -> np.ndarray:
            return unit(
                np.array([np.random.default_rng(list(text[0].encode())).normal(size=6) for text in texts])
            )

        def __call__(self, texts: list[list[str]], progress: object) -> np.ndarray:
            return self.encode(texts)

    choice, encoder = WordChoice("imagenet1k", mine="images"), Encoder()
    own = encoder.encode(choice.class_texts(classes))
    images = unit(own + 0.3)
    found = select_words(choice, classes, encoder, lambda: images)  # type: ignore[arg-type]
    assert 0 < len(found.words) < 1000
    assert ((found.features @ images.T) < np.einsum("cd,cd->c", own, images)).all()
    with pytest.raises(UsageError, match="labelled training images"):
        select_words(choice, classes, encoder)  # type: ignore[arg-type]


def test_words_that_spell_a_class_or_are_a_kind_of_it_are_dropped_and_said() -> None:
    found = without_classes(WORDS, ["cat", "hot dog", "branch"])
    assert found.rows.tolist() == [0, 2, 3, 5, 7, 8]
    assert found.dropped == {"spells a class": ("cats", "hot-dog", "branches")}
    found = without_classes(WORDS, ["cat"], keep_kinds=False, keep_proper=False)
    assert found.rows.tolist() == [0, 3, 4, 6, 7, 8]
    assert found.dropped == {
        "spells a class": ("cats",),
        "kind of a class": ("Siamese",),
        "proper noun": ("paris",),
    }
    with pytest.raises(UsageError, match="No word is left"):
        without_classes(("cat", "Cats"), ["cat"])


def test_wordnet_without_animals_and_food_is_neglabels_list() -> None:
    """70,000 words of theirs, 13,091 of them adjectives; theirs lacks a thousand heads of adjectives."""
    pool = wordnet_pool()
    assert (pool.adjectives, len(pool.words) - pool.adjectives) == (14_021, 56_838)
    assert len(set(pool.words)) == len(pool.words)
    assert int(0.15 * 14_021) + int(0.15 * 56_838) == pytest.approx(10_499, rel=0.02)
    csp = wordnet_pool(RECIPES["csp"].left_out)
    assert len(csp.words) == pytest.approx(56_620, rel=0.02)


def test_openoods_variant_takes_a_rank_and_a_number_of_words() -> None:
    random = np.random.default_rng(3)
    words, classes = unit(random.normal(size=(50, 6))), unit(random.normal(size=(7, 6)))
    found = quantile_similarity(words, classes, interpolated=False)
    np.testing.assert_array_equal(found, np.sort(words @ classes.T, axis=1)[:, int(0.95 * 7)])
    one = quantile_similarity(words, classes[:1], interpolated=False)
    np.testing.assert_allclose(one, words @ classes[0])
    kept = farthest(found, 20, total=11)
    assert (len(kept), int((kept < 20).sum())) == (11, int(11 * 20 / 50))
    pool = wordnet_pool(nouns_first=True)
    assert set(pool.words) == set(wordnet_pool().words)
    assert pool.adjectives == 12_290
    recipe = RECIPES["openood"]
    assert recipe.texts(WordPool(("wooden", "table"), 1)) == [["The nice wooden."], ["The nice table."]]
    assert recipe.mined_adjective == ("This is a {} photo.",)


def test_adjectives_of_openoods_variant_are_mined_by_other_texts(tiny_backbone, monkeypatch) -> None:
    pool = WordPool(("wooden", "green", "big", "table", "sea", "house"), 3)
    monkeypatch.setattr(words, "wordnet_pool", lambda left_out, nouns_first: pool)
    monkeypatch.setattr(words, "OPENOOD_WORDS", 4)
    encoder = words.word_encoder(tiny_backbone)
    found = words.select_words(words.WordChoice("openood"), ["cat", "dog"], encoder)
    own = encoder.encode([["The nice cat."], ["The nice dog."]])
    mined = encoder.encode([[f"This is a {word} photo."] for word in pool.words[:3]])
    nouns = encoder.encode([[f"The nice {word}."] for word in pool.words[3:]])
    rows = farthest(quantile_similarity(np.concatenate([mined, nouns]), own, interpolated=False), 3, total=4)
    assert found.words == tuple(pool.words[row] for row in rows)
    expected = encoder.encode([[f"The nice {word}."] for word in found.words])
    np.testing.assert_allclose(found.features, expected, atol=1e-6)


def test_recipes_make_the_published_texts() -> None:
    pool = WordPool(("wooden", "table"), 1)
    assert RECIPES["neglabel"].texts(pool) == [["This is a wooden photo"], ["the nice table"]]
    assert RECIPES["neglabel"].class_texts(["tench"]) == [["the nice tench"]]
    adjective, noun = RECIPES["csp"].texts(pool)
    phrase = adjective[0]
    assert phrase.split()[0] == "wooden"
    assert phrase.split()[1] in RECIPES["csp"].superclasses
    assert adjective[1:] == [
        f"a nice photo of {phrase}",
        f"a good photo of {phrase}",
        f"a close-up photo of {phrase}",
    ]
    assert (len(noun), noun[4]) == (8, "table")
    assert RECIPES["csp"].texts(pool) == RECIPES["csp"].texts(pool)  # the draw is seeded
    assert len(RECIPES["csp"].superclasses) == 14


CLIP_TEXT = Path(os.environ.get("LSN_IMAGES", "")) / "clip-text"


@pytest.mark.skipif(
    not (CLIP_TEXT / "names.json").is_file(), reason="LSN_IMAGES must name a folder with clip-text"
)
def test_on_real_clip_features_the_published_rule_keeps_names_of_classes_and_ours_drops_them() -> None:
    """Names of LVIS, OpenImages and Objects365 as words, ImageNet's as classes; ViT-B/32's text features.

    With 1,000 classes the quantile does not see the one class that a word spells.
    """
    names = json.loads((CLIP_TEXT / "names.json").read_text())
    features = {name: unit(np.load(CLIP_TEXT / f"{name}.npy").astype(np.float64)) for name in names}
    classes = [name.lower() for name in names["imagenet1k"]]
    found = {
        word.lower(): row
        for name in ("lvis", "oid", "o365")
        for word, row in zip(names[name], features[name], strict=True)
    }

    def kept(words: tuple[str, ...]) -> set[str]:
        rows = np.array([found[word] for word in words])
        return {words[i] for i in farthest(quantile_similarity(rows, features["imagenet1k"]), 0)}

    published = kept(tuple(found))
    assert len(found) == 1609
    assert len(published) == int(0.15 * 1609)
    assert len(published & set(classes)) == 48
    words = tuple(found)
    ours = without_classes(words, classes)
    assert len(ours.dropped["spells a class"]) == 285
    assert kept(tuple(words[row] for row in ours.rows)).isdisjoint(classes)
    rows = np.array(list(found.values()))
    equal = np.isinf(quantile_similarity(rows, features["imagenet1k"], equal=0.95))
    same = np.array([word in set(classes) for word in found])
    assert (int(equal.sum()), int((equal & same).sum())) == (337, 250)


@pytest.mark.skipif(
    not (CLIP_TEXT / "names.json").is_file(), reason="LSN_IMAGES must name a folder with clip-text"
)
def test_on_real_clip_features_words_that_are_classes_score_higher_than_others() -> None:
    """LVIS' names as if they were images: a fifth of them are ImageNet's classes."""
    names = json.loads((CLIP_TEXT / "names.json").read_text())
    features = {name: unit(np.load(CLIP_TEXT / f"{name}.npy").astype(np.float64)) for name in names}
    classes = {name.lower() for name in names["imagenet1k"]}
    words = [word.lower() for name in ("oid", "o365") for word in names[name]]
    rows = without_classes(words, sorted(classes)).rows
    pool = np.concatenate([features["oid"], features["o365"]])[rows]
    kept = pool[farthest(quantile_similarity(pool, features["imagenet1k"]), 0, share=0.5)]
    head = Head(tuple(map(str, range(1000))), features["imagenet1k"], 100.0)
    scores = NegLabel(groups=1).scorer(head, {VOCABULARY: kept})(features["lvis"])
    inside = np.array([name.lower() in classes for name in names["lvis"]])
    outside = ~inside & np.array([name.lower() not in set(words) for name in names["lvis"]])
    assert (inside.sum(), outside.sum()) == (209, 800)
    assert auroc(scores[inside], scores[outside]) > 0.9
