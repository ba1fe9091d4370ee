"""Stores that were made to harm whoever opens them, and stores that a bit was flipped in."""

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from store_samples import fingerprint, split

from lsncli.errors import LsnError
from lsncli.store.reader import list_splits, read_fingerprint, read_split, read_text
from lsncli.store.verify import verify
from lsncli.store.writer import write_split
from tests.robustness.hostile import STORES, make_hostile

HARMLESS = {"hard link loop"}


@pytest.mark.parametrize("name", STORES)
def test_a_hostile_store_is_found_out_and_gives_rows_or_a_sentence(store: Path, name: str) -> None:
    make_hostile(store, STORES[name])
    assert (verify(store) == []) == (name in HARMLESS)
    for read in (read_fingerprint, list_splits, lambda path: read_split(path, "train")):
        with suppress(LsnError):
            read(store)
    before = store.read_bytes()
    try:
        write_split(store, split("new"), fingerprint())
    except LsnError:
        assert store.read_bytes() == before


def content(path: Path) -> list[object]:
    found: list[object] = [read_fingerprint(path)]
    for name in list_splits(path):
        one = read_split(path, name)
        found += [name, one.features.tobytes(), one.labels.tobytes(), tuple(one.keys), one.classes]
        found += [one.failures, one.source, one.listing]
    return found


def test_a_flipped_bit_is_found_wherever_it_says_anything(store: Path) -> None:
    sound, expected, text = store.read_bytes(), content(store), str(read_text(store))
    for place in range(0, len(sound), 131):
        store.write_bytes(sound[:place] + bytes([sound[place] ^ 1 << place % 8]) + sound[place + 1 :])
        if verify(store) == []:
            assert content(store) == expected, place
            # In the name of the group it makes them unknown, and whoever needs them says that there are none.
            assert read_text(store) is None or str(read_text(store)) == text, place


@pytest.mark.parametrize("text", [b"cat", b"photos", b"an empty file", b"somewhere"])
def test_damage_to_what_is_said_of_a_split_is_found(store: Path, text: bytes) -> None:
    data = store.read_bytes().replace("cät".encode(), b"c\xc3\xa5t") if text == b"cat" else store.read_bytes()
    store.write_bytes(data.replace(text, text[:-1] + b"!"))
    problems = verify(store)
    assert any("was changed after it was written" in problem for problem in problems), problems


def test_damage_to_text_features_is_found_and_copied(store: Path) -> None:
    data = store.read_bytes()
    ones = np.ones(8, "<f4").tobytes()
    store.write_bytes(data.replace(ones, ones[:-1] + b"\x40"))
    assert verify(store) == ["Text features: they were changed after they were written."]
    write_split(store, split("new"), fingerprint())
    assert verify(store) == ["Text features: they were changed after they were written."]
