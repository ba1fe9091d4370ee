"""WordNet's words and nouns: counts, order, kinds, and the builder on a small dictionary."""

from importlib.resources import files

import pytest

from benchmarks import wordnet_lists
from lsncli.reference.wordnet import is_proper, nouns, words_by_file


def test_there_are_the_words_of_wordnet_3_1() -> None:
    words = words_by_file()
    assert sum(map(len, words.values())) == 90_562
    assert len(words) == 29
    assert (len(words["noun.animal"]), len(words["noun.food"])) == (7366, 2480)
    outside = {w.lower() for name, some in words.items() if name.startswith("noun") for w in some}
    assert {"wooden spoon", "telescope", "mammal"} & outside
    for some in words.values():
        assert list(some) == sorted(set(some))
        assert all(word and word == word.strip() and "_" not in word for word in some)


def test_the_lists_are_small_and_the_licence_is_beside_them() -> None:
    folder = files("lsncli.reference") / "words"
    assert len((folder / "words.txt.xz").read_bytes()) < 400_000
    assert "WordNet 3.1 Copyright 2011 by Princeton University" in (folder / "LICENSE").read_text()


def test_proper_nouns_are_those_with_a_capital() -> None:
    nouns = [w for name, some in words_by_file().items() if name.startswith("noun.") for w in some]
    assert sum(map(is_proper, nouns)) == PROPER
    assert not is_proper("telescope")
    assert is_proper("Paris")


def test_kinds_are_synonyms_and_all_that_is_below() -> None:
    kinds = nouns().kinds(["dog"])
    assert {"dog", "domestic dog", "beagle", "english springer", "poodle", "frank"} <= kinds  # every sense
    assert "cat" not in kinds
    assert "animal" not in kinds
    assert {"telescope", "paris"} <= nouns().kinds(["Entity"])
    assert nouns().kinds(["no such thing"]) == frozenset()
    assert nouns().kinds(["  Domestic   Dog "]) >= {"beagle"}


def test_a_synset_with_two_hypernyms_is_a_kind_of_both() -> None:
    """A person is an organism and a causal agent."""
    assert "sailor" in nouns().kinds(["organism"])
    assert "sailor" in nouns().kinds(["causal agent"])


PROPER = 18_477

DATA = """\
  1 This is the licence.
  2
00000001 03 n 01 entity 0 002 ~ 00000002 n 0000 ~ 00000003 n 0000 | what is
00000002 05 n 02 cat 0 true_cat 0 002 @ 00000001 n 0000 ~ 00000004 n 0000 | a cat
00000003 18 n 01 Person 0 001 @ 00000001 n 0000 | a person
00000004 05 n 01 Tom 0 002 @i 00000002 n 0000 @ 00000003 n 0000 | both
"""
ADJECTIVES = "00000009 00 a 02 able(p) 0 fit 0 001 ! 00000010 a 0101 | able\n"


def test_the_builder_reads_wordnets_own_files(tmp_path) -> None:
    (tmp_path / "data.noun").write_text(DATA)
    (tmp_path / "data.adj").write_text(ADJECTIVES)
    read = list(wordnet_lists.synsets(tmp_path / "data.noun"))
    assert [synset.words for synset in read] == [("entity",), ("cat", "true cat"), ("Person",), ("Tom",)]
    assert wordnet_lists.noun_tree(read) == "0\tentity\n1\tPerson\n1\tcat|true cat\n2\tTom\t1\n"
    every = [*wordnet_lists.synsets(tmp_path / "data.adj"), *read]
    assert wordnet_lists.word_list(every) == (
        "# adj.all\nable\n# noun.Tops\nentity\n# noun.animal\nTom\ncat\n# noun.person\nPerson\n"
    )
    assert wordnet_lists.licence(tmp_path / "data.noun") == "This is the licence.\n"


@pytest.mark.parametrize("name", ["adj.all", "adj.pert", "adj.ppl", "noun.Tops", "noun.time"])
def test_the_ends_of_the_file_numbers_are_right(name: str) -> None:
    assert name in wordnet_lists.LEXICOGRAPHER_FILES.values()
    assert wordnet_lists.LEXICOGRAPHER_FILES[28] == "noun.time"
    assert words_by_file()[name]
