"""WordNet's nouns and adjectives: words by lexicographer file, and the kinds of a noun.

The lists are of WordNet 3.1 (Fellbaum, ed., "WordNet: an electronic lexical database", 1998), made by
``benchmarks/wordnet_lists.py``; the licence is beside them. ``words.txt.xz`` has the first word of each
synset, upper and lower case kept, ``nouns.txt.xz`` all words of the noun synsets and their hypernyms.
"""

import lzma
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType

FOLDER = "words"


@cache
def words_by_file() -> Mapping[str, tuple[str, ...]]:
    """Return the sorted words of each lexicographer file, such as ``noun.plant``."""
    found: dict[str, tuple[str, ...]] = {}
    for block in _lines("words.txt.xz").removeprefix("# ").split("\n# "):
        name, *words = block.strip("\n").split("\n")
        found[name] = tuple(words)
    return MappingProxyType(found)


def is_proper(word: str) -> bool:
    """Return whether WordNet writes a word with a capital letter, as it does proper nouns."""
    return word != word.lower()


@dataclass(frozen=True)
class Nouns:
    """The noun synsets, by number: their words and the synsets directly below them."""

    words: tuple[tuple[str, ...], ...]
    below: Mapping[int, tuple[int, ...]]
    named: Mapping[str, tuple[int, ...]]
    """The synsets of a word in lower case."""

    def kinds(self, names: Iterable[str]) -> frozenset[str]:
        """Return the words, in lower case, of all that ``names`` can mean and of all kinds of it.

        ``names`` without a synset add nothing. A word of several synsets is taken in every sense.
        """
        left = [synset for name in names for synset in self.named.get(" ".join(name.lower().split()), ())]
        seen: set[int] = set()
        while left:
            synset = left.pop()
            if synset not in seen:
                seen.add(synset)
                left += self.below.get(synset, ())
        return frozenset(word.lower() for synset in seen for word in self.words[synset])


@cache
def nouns() -> Nouns:
    """Read the noun synsets; takes about half a second, once."""
    words: list[tuple[str, ...]] = []
    below: dict[int, list[int]] = defaultdict(list)
    named: dict[str, list[int]] = defaultdict(list)
    path: list[int] = []  # the synset of each depth above the present line
    for number, line in enumerate(_lines("nouns.txt.xz").splitlines()):
        depth, lemmas, *others = line.split("\t")
        del path[int(depth) :]
        for above in (*path[-1:], *map(int, others)):
            below[above].append(number)
        path.append(number)
        words.append(tuple(lemmas.split("|")))
        for word in words[-1]:
            named[word.lower()].append(number)
    return Nouns(
        tuple(words),
        MappingProxyType({above: tuple(numbers) for above, numbers in below.items()}),
        MappingProxyType({word: tuple(numbers) for word, numbers in named.items()}),
    )


def _lines(name: str) -> str:
    return lzma.decompress((files("lsncli.reference") / FOLDER / name).read_bytes()).decode()
