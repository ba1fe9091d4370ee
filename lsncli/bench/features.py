"""The features of a suite's sets: those that came with it, or extracted from its data folder under the
published class names."""

import json
from collections.abc import Mapping
from pathlib import Path

from lsncli.app.candidates import write_lines
from lsncli.app.extract import extract
from lsncli.bench.plan import Extract
from lsncli.console import Tick, silent
from lsncli.errors import LsnError
from lsncli.facts.classes import class_list
from lsncli.facts.datasets import Dataset
from lsncli.images.sources import list_images
from lsncli.store.format import SplitInfo
from lsncli.store.reader import read_fingerprint, read_split
from lsncli.store.writer import write_split


def extract_set(job: Extract, known: Mapping[str, Dataset], tick: Tick = silent) -> int:
    """Put one set into the store of its model; returns how many images there are. Resumes after a kill.

    Raises LsnError if the images are not there or more than a twentieth of them cannot be read.
    """
    desk = job.desk
    store = desk.workspace(job.model).features
    if job.bundle:
        there = read_split(job.bundle, job.set)
        write_split(store, there, read_fingerprint(job.bundle))
        return len(there.labels)
    if job.images is None:
        raise LsnError(f"There are {job.blocked}.")
    listing = list_images([job.images], follow_links=True)
    extract(
        listing,
        source=job.images.name,
        store=store,
        split=job.set,
        backbone=desk.backbone(job.model),
        batch_size=desk.batch_size,
        workers=desk.workers,
        names_file=published_names(
            store.with_name("names") / f"{job.set}.json", listing.folders, known.get(job.set)
        ),
        tick=tick,
    )
    return len(listing.items)


def outdated(name: str, images: Path | None, there: SplitInfo) -> str:
    """Why the features of a set are not those of the images in the data folder; empty if they may be."""
    if images is None or not there.listing:
        return ""
    listing = list_images([images], follow_links=True)
    if listing.digest == there.listing:
        return ""
    return (
        f"the features of '{name}' were made from {there.rows + len(there.failures)} images, and "
        f"{images} now holds {len(listing.items)} that are not the same"
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
