"""Candidate labels from a list of words: for every image those that its features are nearest to.

This is what is left of ZOC where no decoder reads the image: the words come from a list, not from a caption.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lsncli.app.candidates import WordFeatures, line, write_lines
from lsncli.app.workspace import Workspace
from lsncli.console import Tick, silent
from lsncli.errors import UsageError
from lsncli.facts.classes import class_list, class_lists
from lsncli.images.namefile import read_name_lines
from lsncli.scores.common import CHUNK, cosines
from lsncli.store.format import Split

TOP = 35
"""Words of an image: as many as ZOC keeps of each step of its decoder."""


def read_vocabulary(name: str) -> tuple[str, ...]:
    """The words of a class list, or of a UTF-8 file with one a line; each once in whatever case.

    Raises UsageError for a file that cannot be read or holds no word.
    """
    if name in class_lists():
        return class_list(name).names
    hint = f"Expected a UTF-8 file with one word a line, or one of {', '.join(class_lists())}."
    lines = read_name_lines(Path(name), "word list", hint)
    plain = (" ".join(text.split()) for text in lines)
    words = tuple({word.casefold(): word for word in plain if word}.values())
    if not words:
        raise UsageError(f"The word list {name} holds no word.")
    return words


def propose(
    work: Workspace, split: Split, words: Sequence[str], features: WordFeatures, top: int, tick: Tick = silent
) -> None:
    """Keep the ``top`` nearest ``words`` of every image of ``split`` as its candidates, nearest first.

    ``features`` are those of the words in ZOC's prompt; the cosine decides, and the earlier word where two
    are equal. ``tick`` hears of images. Raises UsageError unless ``top`` is 1 to the number of words.
    """
    if not 1 <= top <= len(words):
        raise UsageError(f"--top: expected 1 to {len(words)}, the number of words, found {top}.")
    vectors = features(words).astype(np.float64)
    lines: list[str] = []
    for start in range(0, len(split.keys), CHUNK):
        keys = split.keys[start : start + CHUNK]
        near = np.argsort(-cosines(split.features[start : start + CHUNK], vectors), axis=1, kind="stable")
        lines += [
            line(key, [words[i] for i in row[:top]]) for key, row in zip(keys, near.tolist(), strict=True)
        ]
        tick(len(keys))
    write_lines(work.candidates(split.name), lines)
