"""Verify a whole store, to the last bit."""

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
"""Deepest allowed nesting of groups; a store has three levels."""


def verify(path: Path) -> list[str]:
    """Verify the store at ``path``: return a sentence for each problem, none for a valid store.

    Checks links and dataset kinds, the digest of the fingerprint, and for every split its counts, checksum,
    labels and keys, and that each row is finite and not zero. Never raises for a damaged store.
    """
    problems: list[str] = []
    try:
        with open_store(path, check=False) as file:
            problems += _link_problems(file) + index_problems(file)
            fingerprint = fingerprint_of(file)
            splits = group_at(file, "splits")
            for name in sorted(splits):
                problems += [
                    f"Split '{name}': {problem}." for problem in _split_problems(splits, name, fingerprint)
                ]
            problems += _text_problems(file, fingerprint)
    except LsnError as error:
        problems.append(error.message)
    return problems


def _split_problems(splits: h5py.Group, name: str, fingerprint: Fingerprint) -> list[str]:
    try:
        check_split_name(name)
        group = group_at(splits, name)
        stored, info = attribute(group, "checksum", str), info_of(group, name)
        changed = metadata_problems(group, info, fingerprint)
        checksum, check, keys = Checksum(), RowCheck(len(info.classes)), list[str]()
        for block in rows_in_blocks(group):
            checksum.add(*block)
            check.add(*block[:2])
            keys += block[2]
    except LsnError as error:
        return [error.message.removesuffix(".")]
    if info.dim != fingerprint.dim:
        return changed
    problems = check.problems()
    problems += text_problems(keys, info.classes, info.failures, info.source, info.listing)
    if checksum.hexdigest() != stored:
        problems.append(CHANGED_ROWS)
    return problems + changed


def _text_problems(file: h5py.File, fingerprint: Fingerprint) -> list[str]:
    try:
        text = text_of(file)
        changed = text is not None and is_text_changed(group_at(file, "text"), *text)
    except LsnError as error:
        return [error.message]
    if text is None:
        return []
    classes, features = text
    problems = []
    if features.shape[1] != fingerprint.dim:
        problems.append(f"Text features: expected dimension {fingerprint.dim}, found {features.shape[1]}.")
    if not (features == features).all() or (abs(features) == float("inf")).any():
        problems.append("Text features: some are not finite.")
    if len(set(classes)) < len(classes):
        problems.append("Text features: a class occurs twice.")
    if changed:
        problems.append(CHANGED_TEXT)
    return problems


def _link_problems(group: h5py.Group) -> list[str]:
    """Find links and groups that are too deep; each object is visited once, so cycles end."""
    problems: list[str] = []
    stack, seen = [(group, "", 0)], set()
    while stack:
        parent, path, depth = stack.pop()
        if depth > MAX_DEPTH:  # HDF5 takes as many steps to open a group as it is deep
            problems.append(
                f"{path} lies {depth} groups deep, and nothing in a store lies deeper than {MAX_DEPTH}."
            )
            continue
        for name in parent:
            where = f"{path}/{name}"
            if not isinstance(parent.get(name, getlink=True), h5py.HardLink):
                problems.append(f"{where} is a link to somewhere else.")
                continue
            child = parent[name]
            address = h5py.h5o.get_info(child.id).addr
            if isinstance(child, h5py.Group) and address not in seen:
                seen.add(address)
                stack.append((child, where, depth + 1))
    return problems
