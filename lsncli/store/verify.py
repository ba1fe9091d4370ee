"""Whether a store is what it claims to be, to the last bit."""

from pathlib import Path

import h5py

from lsncli.errors import LsnError
from lsncli.store.container import attribute, group_at
from lsncli.store.format import Checksum, RowCheck, about_of, about_text, check_split_name, text_problems
from lsncli.store.reader import about_stored, fingerprint_of, info_of, opened, text_of
from lsncli.store.spread import rows_in_blocks
from lsncli.types import Fingerprint


def verify(path: Path) -> list[str]:
    """Everything that is wrong with the store at ``path``, one sentence each; empty if it is sound.

    Checks links and dataset kinds, the digest of the fingerprint, and of every split its counts, checksum,
    labels and keys and that each row is finite and not zero. Never raises for a bad store.
    """
    found: list[str] = []
    try:
        with opened(path) as file:
            found += _links(file)
            fingerprint = fingerprint_of(file)
            if attribute(file, "digest", str) != fingerprint.digest:
                found.append("The digest is not that of the fingerprint.")
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
        stored, about, info = attribute(group, "checksum", str), about_stored(group), info_of(group, name)
        checksum, check, keys = Checksum(), RowCheck(len(info.classes)), list[str]()
        for chunk in rows_in_blocks(group):
            checksum.add(*chunk)
            check.add(*chunk[:2])
            keys += chunk[2]
    except LsnError as error:
        return [error.message.removesuffix(".")]
    if info.dim != fingerprint.dim:
        return [f"features must be ({info.rows}, {fingerprint.dim}), found ({info.rows}, {info.dim})"]
    found = check.problems()
    found += text_problems(keys, info.classes, info.failures, info.source, info.listing)
    if checksum.hexdigest() != stored:
        found.append("the checksum does not match: the rows were changed after they were written")
    if about and about != about_of(info, fingerprint):
        found.append("what is said of it (classes, failures, source) was changed after it was written")
    return found


def _of_text(file: h5py.File, fingerprint: Fingerprint) -> list[str]:
    try:
        text = text_of(file)
        about = about_stored(group_at(file, "text")) if text is not None else ""
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
    if about and about != about_text(classes, features):
        found.append("Text features: they were changed after they were written.")
    return found


def _links(group: h5py.Group) -> list[str]:
    """Every soft or external link, at any depth; each object is visited once, so circles end."""
    found: list[str] = []
    todo, seen = [group], set()
    while todo:
        here = todo.pop()
        for name in here:
            where = f"{here.name.rstrip('/')}/{name}"
            if not isinstance(here.get(name, getlink=True), h5py.HardLink):
                found.append(f"{where} is a link to somewhere else.")
                continue
            child = here[name]
            address = h5py.h5o.get_info(child.id).addr
            if isinstance(child, h5py.Group) and address not in seen:
                seen.add(address)
                todo.append(child)
    return found
