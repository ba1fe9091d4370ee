"""Whether a store is what it claims to be, to the last bit."""

from pathlib import Path

import h5py

from lsncli.errors import LsnError
from lsncli.store.container import attribute, group_at
from lsncli.store.external_rows import rows_in_blocks
from lsncli.store.format import Checksum, RowCheck, check_split_name, text_problems
from lsncli.store.integrity import (
    CHANGED_ROWS,
    CHANGED_TEXT,
    index_problems,
    is_text_changed,
    metadata_problems,
)
from lsncli.store.reader import fingerprint_of, info_of, open_store, text_of
from lsncli.types import Fingerprint

MAX_DEPTH = 8
"""Groups in one another; ours have three."""


def verify(path: Path) -> list[str]:
    """Everything that is wrong with the store at ``path``, one sentence each; empty if it is sound.

    Checks links and dataset kinds, the digest of the fingerprint, and of every split its counts, checksum,
    labels and keys and that each row is finite and not zero. Never raises for a bad store.
    """
    found: list[str] = []
    try:
        with open_store(path, check=False) as file:
            found += _links(file) + index_problems(file)
            fingerprint = fingerprint_of(file)
            splits = group_at(file, "splits")
            for name in sorted(splits):
                found += [f"Split '{name}': {problem}." for problem in _of_split(splits, name, fingerprint)]
            found += _of_text(file, fingerprint)
    except LsnError as error:
        found.append(error.message)
    return found


def _of_split(splits: h5py.Group, name: str, fingerprint: Fingerprint) -> list[str]:
    try:
        check_split_name(name)
        group = group_at(splits, name)
        stored, info = attribute(group, "checksum", str), info_of(group, name)
        described = metadata_problems(group, info, fingerprint)
        checksum, check, keys = Checksum(), RowCheck(len(info.classes)), list[str]()
        for block in rows_in_blocks(group):
            checksum.add(*block)
            check.add(*block[:2])
            keys += block[2]
    except LsnError as error:
        return [error.message.removesuffix(".")]
    if info.dim != fingerprint.dim:
        return described
    found = check.problems()
    found += text_problems(keys, info.classes, info.failures, info.source, info.listing)
    if checksum.hexdigest() != stored:
        found.append(CHANGED_ROWS)
    return found + described


def _of_text(file: h5py.File, fingerprint: Fingerprint) -> list[str]:
    try:
        text = text_of(file)
        changed = text is not None and is_text_changed(group_at(file, "text"), *text)
    except LsnError as error:
        return [error.message]
    if text is None:
        return []
    classes, features = text
    found = []
    if features.shape[1] != fingerprint.dim:
        found.append(f"Text features: expected dimension {fingerprint.dim}, found {features.shape[1]}.")
    if not (features == features).all() or (abs(features) == float("inf")).any():
        found.append("Text features: some are not finite.")
    if len(set(classes)) < len(classes):
        found.append("Text features: a class occurs twice.")
    if changed:
        found.append(CHANGED_TEXT)
    return found


def _links(group: h5py.Group) -> list[str]:
    """Every soft or external link, and groups that lie deeper than any of ours; each object is visited once,
    so circles end."""
    found: list[str] = []
    todo, seen = [(group, "", 0)], set()
    while todo:
        here, path, depth = todo.pop()
        if depth > MAX_DEPTH:  # to find one takes HDF5 as many steps as it is deep
            found.append(
                f"{path} lies {depth} groups deep, and nothing in a store lies deeper than {MAX_DEPTH}."
            )
            continue
        for name in here:
            where = f"{path}/{name}"
            if not isinstance(here.get(name, getlink=True), h5py.HardLink):
                found.append(f"{where} is a link to somewhere else.")
                continue
            child = here[name]
            address = h5py.h5o.get_info(child.id).addr
            if isinstance(child, h5py.Group) and address not in seen:
                seen.add(address)
                todo.append((child, where, depth + 1))
    return found
