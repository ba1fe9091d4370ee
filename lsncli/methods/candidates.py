"""Candidate labels of each image, for the score ZOC, and lists of words.

The candidate labels of a split are a file of JSON lines, ``<work>/candidates/<split>.jsonl``, one object for
each image: ``key``, ``candidates`` (a list of words) and the ``caption`` if a decoder proposed them. They are
imported, come from a decoder, or are the words of a list whose features are nearest to the image's.
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
from lsncli.files import write_atomic
from lsncli.images.columns import is_path_name
from lsncli.images.names_file import read_name_lines
from lsncli.methods.workspace import Workspace
from lsncli.prompts.layout import TextTower
from lsncli.prompts.text_features import text_features
from lsncli.reference.classes import class_list, class_lists
from lsncli.scores.common import CHUNK, cosines
from lsncli.scores.zoc import PROMPT, Candidates, zoc_scores
from lsncli.store.format import Split
from lsncli.types import Float64Array, Head
from lsncli.validation import parse_json

AT_ONCE = 1024
"""Words encoded between two calls of ``progress``."""


def read_candidates(work: Workspace, split: Split) -> Candidates:
    """Read the candidate labels of the images of ``split``, in the order of its rows.

    Raises LsnError if the file is missing, is damaged, or lacks images of the split.
    """
    path = work.candidates(split.name)
    if not path.is_file():
        raise LsnError(
            f"There are no candidate labels for split '{split.name}' ({path}).",
            f"Make them with `lsn candidates IMAGES --split {split.name}`, or import your own with --from.",
        )
    words_of = dict(_from_jsonl(path))
    check_complete(words_of, split, path)
    number: dict[str, int] = {}
    rows = [[number.setdefault(word, len(number)) for word in words_of[key]] for key in split.keys]
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows], dtype=np.int64)]).astype(np.int64)
    flat = np.fromiter((index for row in rows for index in row), dtype=np.int64, count=int(indptr[-1]))
    return Candidates(tuple(number), indptr, flat)


def import_candidates(work: Workspace, split: Split, path: Path) -> Mapping[str, Sequence[str]]:
    """Import a user's words for the images of ``split``; return them by key.

    ``path`` is a .csv or .tsv of ``key,word;word;...``, or JSON lines like ours. Words of other images are
    skipped. Raises UsageError for another format, LsnError if images of the split are missing.
    """
    words_of: dict[str, list[str]] = {}
    rows = _from_csv(path) if path.suffix.lower() in (".csv", ".tsv") else _from_jsonl(path)
    for key, words in rows:
        if key in words_of:
            raise UsageError(f"{path} names the image '{key}' twice.")
        words_of[key] = words
    check_complete(words_of, split, path)
    chosen = {key: words_of[key] for key in split.keys}
    write_lines(work.candidates(split.name), (candidate_line(key, words) for key, words in chosen.items()))
    return chosen


class WordFeatures:
    """Unit text features (V, D) of words in ZOC's prompt; each word is encoded once.

    ``progress`` counts encoded words.
    """

    def __init__(self, tower: TextTower, progress: ProgressCallback = silent) -> None:
        self._tower, self._progress = tower, progress
        self._encoded: dict[str, NDArray[np.float32]] = {}

    def __call__(self, words: Sequence[str]) -> NDArray[np.float32]:
        """Return the features of ``words``. Raises LsnError for a word too long for the text tower."""
        new = [word for word in dict.fromkeys(words) if word not in self._encoded]
        for start in range(0, len(new), AT_ONCE):
            part = new[start : start + AT_ONCE]
            with torch.no_grad():
                rows = text_features(self._tower, [PROMPT.format(word) for word in part]).cpu().numpy()
            self._encoded.update(zip(part, rows, strict=True))
            self._progress(len(part), "candidate words")
        return np.stack([self._encoded[word] for word in words]) if words else np.empty((0, 0), np.float32)


def zoc_of_split(
    split: Split, head: Head, candidates: Candidates, words: WordFeatures, *, own_prompt: bool
) -> Float64Array:
    """Return ZOC's scores (N,) of the rows of ``split``; higher = more ID.

    Candidates that are classes of ``head``, in upper or lower case, do not count. With ``own_prompt``, class
    names are put into ZOC's prompt like the candidates, as published and as suits hand-written prompts;
    without it, the head's own prompts are used, such as learned ones. Raises LsnError as ``zoc_scores`` does.
    """
    others = candidates.without(head.classes)
    if own_prompt:
        head = replace(head, weights=words(head.classes).astype(np.float64))
    return zoc_scores(head, split.features, others, words(others.words))


def check_complete(words_of: Mapping[str, Any], split: Split, path: Path) -> None:
    """Raise LsnError if images of ``split`` are not in ``words_of``, with their number and the first."""
    missing = [key for key in split.keys if key not in words_of]
    if missing:
        raise LsnError(
            f"{path} lacks {len(missing)} of the {len(split.keys)} images of split '{split.name}', such as "
            f"'{missing[0]}'.",
            "Keys are paths as `lsn extract` saw them; an image may have no words, but not be left out.",
        )


def candidate_line(key: str, words: Iterable[str], caption: str | None = None) -> str:
    """Return one image as a line of JSON, in ASCII."""
    row: dict[str, Any] = {"key": key, "candidates": list(words)}
    return json.dumps(row if caption is None else row | {"caption": caption})


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write lines of ASCII atomically. Raises LsnError and keeps the old file if that fails."""
    write_atomic(path, "".join(f"{text}\n" for text in lines).encode("ascii"))


def _from_jsonl(path: Path) -> Iterator[tuple[str, list[str]]]:
    for number, text in enumerate(_lines(path), start=1):
        if not text.strip():
            continue
        try:
            row = parse_json(text)
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
    """Strip and join blanks, drop empty words and duplicates that differ in case alone."""
    plain = (" ".join(word.split()) for word in words)
    return list({word.casefold(): word for word in plain if word}.values())


TOP = 35
"""Candidate labels of an image: as many as ZOC keeps at each step of its decoder."""


def read_vocabulary(name: str) -> tuple[str, ...]:
    """Read the words of a class list, or of a UTF-8 file with one word a line, without duplicates.

    Raises UsageError for a file that cannot be read or holds no word.
    """
    if name in class_lists():
        return class_list(name).names
    hint = f"Expected a UTF-8 file with one word a line, or one of {', '.join(class_lists())}."
    lines = read_name_lines(Path(name), "word list", hint)
    words = tuple(_words(lines))
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
    """Write the ``top`` nearest ``words`` of each image of ``split`` as its candidates, nearest first.

    Words are ranked by the cosine of their ``features`` (in ZOC's prompt) with the image's; of equal ones the
    earlier comes first. ``progress`` counts images. Raises UsageError unless ``top`` is 1 to the number of
    words.
    """
    if not 1 <= top <= len(words):
        raise UsageError(f"--top: expected 1 to {len(words)}, the number of words, found {top}.")
    vectors = features(words).astype(np.float64)
    lines: list[str] = []
    for start in range(0, len(split.keys), CHUNK):
        keys = split.keys[start : start + CHUNK]
        near = np.argsort(-cosines(split.features[start : start + CHUNK], vectors), axis=1, kind="stable")
        lines += [
            candidate_line(key, [words[index] for index in row[:top]])
            for key, row in zip(keys, near.tolist(), strict=True)
        ]
        progress(len(keys))
    write_lines(work.candidates(split.name), lines)
