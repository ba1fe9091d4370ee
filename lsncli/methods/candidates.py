"""Candidate labels of every image of a split, for ZOC: read, imported, or chosen from a list of words.

Those of a split are a file of JSON lines, ``<work>/candidates/<split>.jsonl``, one object an image: ``key``,
``candidates`` (a list of words) and, where a decoder proposed them, its ``caption``. Where no decoder reads
the image, they are the words of a list that its features are nearest to.
"""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lsncli.console import ProgressCallback, silent
from lsncli.errors import LsnError, UsageError
from lsncli.files import write_whole
from lsncli.images.columns import is_path_name
from lsncli.images.names_file import read_name_lines
from lsncli.methods.heads import TEMPLATE
from lsncli.methods.workspace import Workspace
from lsncli.prompts.layout import TextTower
from lsncli.prompts.text_features import text_features
from lsncli.reference.classes import class_list, class_lists
from lsncli.scores.common import CHUNK, cosines
from lsncli.scores.zoc import PROMPT, Candidates, zoc_scores
from lsncli.store.format import Split
from lsncli.types import Float64Array, Head, unit
from lsncli.validation import parsed

AT_ONCE = 1024
"""Words to encode before ``progress`` counts them."""


def read_candidates(work: Workspace, split: Split) -> Candidates:
    """The candidate labels of every image of ``split``, in the order of its rows.

    Raises LsnError if there is no such file, if it is damaged, and if images of the split are not in it, with
    their count and the first.
    """
    path = work.candidates(split.name)
    if not path.is_file():
        raise LsnError(
            f"There are no candidate labels for split '{split.name}' ({path}).",
            f"Make them with `lsn candidates IMAGES --split {split.name}`, or import your own with --from.",
        )
    found = dict(_from_jsonl(path))
    check_complete(found, split, path)
    number: dict[str, int] = {}
    rows = [[number.setdefault(word, len(number)) for word in found[key]] for key in split.keys]
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows], dtype=np.int64)]).astype(np.int64)
    flat = np.fromiter((index for row in rows for index in row), dtype=np.int64, count=int(indptr[-1]))
    return Candidates(tuple(number), indptr, flat)


def import_candidates(work: Workspace, split: Split, path: Path) -> Mapping[str, Sequence[str]]:
    """Keep a user's words for the images of ``split``: a .csv of ``key,word;word;...``, the same as .tsv, or
    JSON lines as ours.

    Returns the words by key. Words of other images are skipped. Raises UsageError for a file that is not
    such a list, LsnError if images of the split are not in it.
    """
    found: dict[str, list[str]] = {}
    rows = _from_csv(path) if path.suffix.lower() in (".csv", ".tsv") else _from_jsonl(path)
    for key, words in rows:
        if key in found:
            raise UsageError(f"{path} names the image '{key}' twice.")
        found[key] = words
    check_complete(found, split, path)
    chosen = {key: found[key] for key in split.keys}
    write_lines(work.candidates(split.name), (candidate_line(key, words) for key, words in chosen.items()))
    return chosen


class WordFeatures:
    """Unit text features (V, D) of words in ZOC's prompt; a word is encoded once, whatever asks for it.

    ``progress`` counts words encoded.
    """

    def __init__(self, tower: TextTower, progress: ProgressCallback = silent) -> None:
        self._tower, self._progress = tower, progress
        self._known: dict[str, NDArray[np.float32]] = {}

    def __call__(self, words: Sequence[str]) -> NDArray[np.float32]:
        """Raises LsnError for a word that does not fit the text tower."""
        new = [word for word in dict.fromkeys(words) if word not in self._known]
        for start in range(0, len(new), AT_ONCE):
            part = new[start : start + AT_ONCE]
            with torch.no_grad():
                rows = text_features(self._tower, [PROMPT.format(word) for word in part]).cpu().numpy()
            self._known.update(zip(part, rows, strict=True))
            self._progress(len(part), "candidate words")
        return np.stack([self._known[word] for word in words]) if words else np.empty((0, 0), np.float32)


def zoc_of_split(
    split: Split, head: Head, candidates: Candidates, words: WordFeatures, *, own_prompt: bool
) -> Float64Array:
    """ZOC's scores (N,) of the rows of ``split``; higher = more ID.

    Candidates that are classes of ``head``, in any case, do not count. With ``own_prompt`` classes stand in
    ZOC's prompt as the candidates do, whatever the head's was: as published, and right for hand-written
    prompts. Without it they are the head's own, such as learned ones. Raises LsnError as ``zoc_scores``.
    """
    left = candidates.without(head.classes)
    if own_prompt:
        head = replace(head, weights=words(head.classes).astype(np.float64))
    return zoc_scores(head, split.features, left, words(left.words))


def check_complete(found: Mapping[str, Any], split: Split, path: Path) -> None:
    """LsnError with the count and the first of the images of ``split`` that are not in ``found``."""
    missing = [key for key in split.keys if key not in found]
    if missing:
        raise LsnError(
            f"{path} lacks {len(missing)} of the {len(split.keys)} images of split '{split.name}', such as "
            f"'{missing[0]}'.",
            "Keys are paths as `lsn extract` saw them; an image may have no words, but not be left out.",
        )


def candidate_line(key: str, words: Iterable[str], caption: str | None = None) -> str:
    """One image as a line of JSON, in ASCII."""
    row: dict[str, Any] = {"key": key, "candidates": list(words)}
    return json.dumps(row if caption is None else row | {"caption": caption})


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write lines of ASCII, all or nothing. Raises LsnError; an old file then stays."""
    write_whole(path, "".join(f"{text}\n" for text in lines).encode("ascii"))


def _from_jsonl(path: Path) -> Iterator[tuple[str, list[str]]]:
    for number, text in enumerate(_lines(path), start=1):
        if not text.strip():
            continue
        try:
            row = parsed(text)
            key, words = row["key"], row["candidates"]
            if not (isinstance(words, list) and all(isinstance(text, str) for text in (key, *words))):
                raise TypeError("not a text and a list of texts")
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(
                f'{path}, line {number}: expected {{"key": "...", "candidates": ["word", ...]}} '
                f"({type(error).__name__}: {error})."
            ) from error
        yield key, _words(words)


def _from_csv(path: Path) -> Iterator[tuple[str, list[str]]]:
    reader = csv.reader(_lines(path), delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
    try:
        for row in reader:
            if not row or (reader.line_num == 1 and is_path_name(row[0])):
                continue
            if len(row) != 2:
                raise UsageError(
                    f"{path}, line {reader.line_num}: expected a key and words, found {len(row)} columns.",
                    'Words are separated by ";"; a key or words with a comma must be in "double quotes".',
                )
            yield row[0], _words(row[1].split(";"))
    except csv.Error as error:
        raise UsageError(f"{path}, line {reader.line_num}: {error}.") from error


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            yield from file
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}.") from error


def _words(words: Iterable[str]) -> list[str]:
    """Without blanks around and between, without empty ones, each once in whatever case."""
    plain = (" ".join(word.split()) for word in words)
    return list({word.casefold(): word for word in plain if word}.values())


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
    work: Workspace,
    split: Split,
    words: Sequence[str],
    features: WordFeatures,
    top: int,
    progress: ProgressCallback = silent,
) -> None:
    """Keep the ``top`` nearest ``words`` of every image of ``split`` as its candidates, nearest first.

    ``features`` are those of the words in ZOC's prompt; the cosine decides, and the earlier word where two
    are equal. ``progress`` counts images. Raises UsageError unless ``top`` is 1 to the number of words.
    """
    if not 1 <= top <= len(words):
        raise UsageError(f"--top: expected 1 to {len(words)}, the number of words, found {top}.")
    vectors = features(words).astype(np.float64)
    lines: list[str] = []
    for start in range(0, len(split.keys), CHUNK):
        keys = split.keys[start : start + CHUNK]
        near = np.argsort(-cosines(split.features[start : start + CHUNK], vectors), axis=1, kind="stable")
        lines += [
            candidate_line(key, [words[i] for i in row[:top]])
            for key, row in zip(keys, near.tolist(), strict=True)
        ]
        progress(len(keys))
    write_lines(work.candidates(split.name), lines)


WORDS = "imagenet1k"
"""The class list whose names are the vocabulary."""
KEPT = 0.75
"""Fraction of the vocabulary that stays: the words farthest from every class. The others are likely kinds or
parts of a class ("beagle" of "dog"), which no shared word gives away."""


def negative_label_features(classes: Sequence[str], tower: TextTower) -> NDArray[np.float32]:
    """Unit text features (V, D) of words that are no class: ImageNet's names, less those near ``classes``.

    Near is a name that shares a word with a class, in any case, and of the rest the quarter whose text
    features are nearest to those of a class.
    """
    own = {word for name in classes for word in _stems(name)}
    free = [name for name in class_list(WORDS).names if own.isdisjoint(_stems(name))]
    features = encode_class_names(tower, free).astype(np.float32)
    nearest = (features @ encode_class_names(tower, classes).T).max(axis=1)
    kept = np.argsort(nearest, kind="stable")[: max(1, round(KEPT * len(free)))]
    found: NDArray[np.float32] = features[np.sort(kept)]
    return found


def encode_class_names(tower: TextTower, names: Sequence[str]) -> Float64Array:
    """Unit text features (C, D) of ``names`` in the hand-written prompt."""
    return unit(text_features(tower, [TEMPLATE.format(name) for name in names]).cpu().numpy())


def _stems(name: str) -> set[str]:
    """The words of a name, in lower case and without a plural's s."""
    return {word.removesuffix("s") for word in name.casefold().replace("-", " ").split()}
