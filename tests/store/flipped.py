"""Stores in which one bit is not what was written, and what is then read."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

from store_samples import same

from lsncli.errors import LsnError
from lsncli.store.format import Split
from lsncli.store.reader import list_splits, read_checksums, read_fingerprint, read_split, read_text


def everything(store: Path, splits: tuple[str, ...]) -> list[object]:
    """All that the readers say of a store; ``splits`` are read by name, as commands do."""
    text = read_text(store)
    return [
        read_fingerprint(store),
        list_splits(store),
        read_checksums(store),
        *(read_split(store, name) for name in splits),
        None if text is None else (text[0], text[1].tobytes()),
    ]


def is_equal(one: list[object], other: list[object]) -> bool:
    return all(
        same(a, b) if isinstance(a, Split) and isinstance(b, Split) else a == b
        for a, b in zip(one, other, strict=True)
    )


def flips(data: bytes, places: Iterator[int]) -> Iterator[tuple[int, bytes]]:
    """``data`` with one bit changed, for each of these bits."""
    for bit in places:
        yield bit, data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]


def unnoticed(
    store: Path, file: Path, places: Iterator[int], read: Callable[[Path], list[object]]
) -> list[int]:
    """The bits of ``file`` whose change makes the store say something else, and nothing reports it.

    Each damaged file is a new one, as a damaged disk or a copy would give it.
    """
    sound, expected = file.read_bytes(), read(store)
    found = []
    try:
        for bit, data in flips(sound, places):
            file.unlink()
            file.write_bytes(data)
            try:
                if not is_equal(read(store), expected):
                    found.append(bit)
            except LsnError:
                continue
    finally:
        file.unlink(missing_ok=True)
        file.write_bytes(sound)
    return found


def some_bits(file: Path, count: int, seed: int) -> Iterator[int]:
    """``count`` of a file's bits."""
    bits = file.stat().st_size * 8
    return iter(random.Random(seed).sample(range(bits), min(count, bits)))
