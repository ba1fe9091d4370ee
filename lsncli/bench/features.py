"""The features of a suite's sets: those that came with it, or extracted from its data folder under the
published class names."""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lsncli.bench.extraction import Extract
from lsncli.bench.subsets import list_subset, stored_subset
from lsncli.bench.suite_workspace import SuiteWorkspace
from lsncli.console import ProgressCallback, silent
from lsncli.errors import LsnError
from lsncli.extraction.extract import extract
from lsncli.images.item import Listing
from lsncli.methods.candidates import write_lines
from lsncli.reference.classes import class_list
from lsncli.reference.datasets import Dataset
from lsncli.store.format import SplitInfo
from lsncli.store.reader import list_splits, read_fingerprint, read_split
from lsncli.store.writer import write_split


def extract_set(job: Extract, progress: ProgressCallback = silent) -> int:
    """Put one set, or a subset, into the store of its model; returns how many images there are.

    Resumes after a kill. Images of which the store has features, in another split of the same set, are not
    encoded again. Raises LsnError if the images are not there or more than a twentieth of them cannot be
    read.
    """
    suite_work = job.suite_work
    store = suite_work.workspace(job.model).features
    if job.bundle:
        there = read_split(job.bundle, job.set)
        write_split(store, there, read_fingerprint(job.bundle))
        return len(there.labels)
    layout, known = suite_work.images(job.set), suite_work.sets.get(job.set)
    if layout is None or job.blocked:
        raise LsnError(f"There are {job.blocked}.")
    listing = list_subset(job.subset, layout, known)
    extract(
        listing,
        source=layout.path.name,
        store=store,
        split=job.split,
        backbone=suite_work.backbone(job.model),
        batch_size=suite_work.batch_size,
        workers=suite_work.workers,
        names_file=published_names(store.with_name("names") / f"{job.split}.json", listing.folders, known),
        known=_stored_features(store, job, listing),
        progress=progress,
    )
    return len(listing.items)


def _stored_features(store: Path, job: Extract, listing: Listing) -> dict[str, NDArray[np.float16]]:
    """Features by key of the images in ``listing`` that other splits hold, if those are of today's images."""
    found: dict[str, NDArray[np.float16]] = {}
    wanted = {item.key for item in listing.items}
    for name, info in list_splits(store).items() if store.is_file() else ():
        part = stored_subset(name, info, job.set)
        if part is None or name == job.split or outdated(name, job.set, job.suite_work, info):
            continue
        split = read_split(store, name)
        found |= {key: split.features[row] for row, key in enumerate(split.keys) if key in wanted}
    return found


def outdated(split: str, image_set: str, suite_work: SuiteWorkspace, there: SplitInfo) -> str:
    """Why a stored split is not of the images in the data folder; empty if it may be."""
    layout, part = suite_work.images(image_set), stored_subset(split, there, image_set)
    if layout is None or part is None or not there.listing:
        return ""
    listing = list_subset(part, layout, suite_work.sets.get(image_set))
    if listing.digest == there.listing:
        return ""
    return (
        f"the features of '{image_set}' were made from {there.rows + len(there.failures)} images, and "
        f"{layout.path} now holds {len(listing.items)} that are not the same"
    )


def published_names(path: Path, folders: tuple[str, ...], known: Dataset | None) -> Path | None:
    """A file with the published name of every folder's class, where the set has a class list."""
    if known is None or not known.class_list or not folders or not known.labelled:
        return None
    names = class_list(known.class_list).names_of(folders)
    if set(names) != set(folders):
        return None  # other folders than published: `lsn datasets verify` says which
    write_lines(path, [json.dumps(names)])
    return path
