"""Which images of a set a table looks at: some classes, some images of each, chosen the same everywhere.

ImageNet-100 from 128 shots needs 16,000 of ImageNet's 1.28 million training images. A subset is a split of
its own in the suite's store, under a name that says all of it, and never changes: what was learned from it
stays known when a later table adds other images.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from lsncli.bench.tasks import HELD_OUT
from lsncli.errors import LsnError
from lsncli.images.class_names import class_names
from lsncli.images.dataset_layouts import DatasetLayout
from lsncli.images.item import Listing
from lsncli.images.listing import take_shots
from lsncli.reference.classes import class_list
from lsncli.reference.datasets import Dataset
from lsncli.store.format import SplitInfo
from lsncli.types import UNLABELLED

NAME = re.compile(r"(?P<set>.+)\.(?:all|(?P<each>\d+)-(?P<seed>\d+))\.[0-9a-f]{12}")
LONGEST = 30
"""Characters of a set's name in the name of a split of it."""


@dataclass(frozen=True)
class Subset:
    """Some classes of an image set by their names, () = all, and at most ``each`` images of a class."""

    set: str
    classes: tuple[str, ...] = ()
    each: int | None = None
    seed: int = 0

    @property
    def whole(self) -> bool:
        """Whether it is every image of the set."""
        return not self.classes and self.each is None

    @property
    def split(self) -> str:
        """Its name in the store: the set's own if it is the whole set."""
        if self.whole:
            return self.set
        how = "all" if self.each is None else f"{self.each}-{self.seed}"
        chosen = "\0".join([self.set, how, *sorted(self.classes)])
        code = sha256(chosen.encode("utf-8", "surrogateescape")).hexdigest()[:12]
        return f"{short_name(self.set)}.{how}.{code}"

    def __str__(self) -> str:
        """As people call it: the set, and what is taken of it."""
        said = [f"{len(self.classes)} classes"] if self.classes else []
        said += [f"{self.each} images of each class"] if self.each else []
        said += [f"seed {self.seed}"] if self.each and self.seed else []
        return f"{self.set} ({', '.join(said)})" if said else self.set


def short_name(name: str) -> str:
    """A set's name as its splits begin: cut, with a digest, where it is too long for a store."""
    return name if len(name) <= LONGEST else f"{name[:LONGEST]}-{sha256(name.encode()).hexdigest()[:8]}"


def stored_subset(name: str, info: SplitInfo, image_set: str) -> Subset | None:
    """What part of ``image_set`` a stored split is; None if it is of another set."""
    if name == image_set:
        return Subset(image_set)
    found = NAME.fullmatch(name)
    if found is None or found["set"] != short_name(image_set):
        return None
    each, seed = (int(found["each"]), int(found["seed"])) if found["each"] else (None, 0)
    named, every = (Subset(image_set, classes, each, seed) for classes in (info.classes, ()))
    return next((one for one in (named, every) if one.split == name), None)


def images_per_class(shots: int | None) -> int | None:
    """How many images of a class give ``shots`` to learn from beside those held out; None for all."""
    if shots is None:
        return None
    count = shots + 1
    while count - min(count - 1, max(1, round(HELD_OUT * count))) < shots:
        count += 1
    return count


def names_by_folder(layout: DatasetLayout, known: Dataset | None) -> Mapping[str, str]:
    """The names of the classes that a layout has, by folder; folders of no published class are left out.

    Raises UsageError for two folders of one class.
    """
    if known is not None and known.class_list and known.labelled:
        return class_list(known.class_list).names_of(layout.folders)
    return dict(zip(layout.folders, class_names(layout.folders, None), strict=True))


def list_subset(subset: Subset, layout: DatasetLayout, known: Dataset | None) -> Listing:
    """The images of a subset. Only folders of its classes are looked into.

    Which images are taken depends on the seed, the class folder and the image's own name alone
    (``take_shots``), so more images of a class include the fewer. Raises LsnError if they have no classes.
    """
    only = None
    if subset.classes:
        wanted = set(subset.classes)
        only = [folder for folder, name in names_by_folder(layout, known).items() if name in wanted]
    listing = layout.listing(only)
    if subset.each is None:
        return listing
    if any(item.label == UNLABELLED for item in listing.items):
        raise LsnError(
            f"{layout.path}: expected a folder for each class of '{subset.set}', found images without one."
        )
    return take_shots(listing, subset.each, subset.seed)


def expected_images(subset: Subset, known: Dataset | None) -> int | None:
    """How many images a subset has by the published counts; None where they say nothing."""
    if known is None or known.images is None:
        return None
    if subset.whole:
        return known.images
    if not known.classes:
        return None
    classes = len(subset.classes) or known.classes
    each = known.images / known.classes
    return round(classes * (each if subset.each is None else min(each, subset.each)))


def missing_classes(classes: Sequence[str], layout: DatasetLayout, known: Dataset | None) -> list[str]:
    """The names among ``classes`` that have no folder."""
    there = set(names_by_folder(layout, known).values())
    return [name for name in classes if name not in there]
