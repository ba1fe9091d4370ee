"""The images of a set that a table uses: some classes, some images per class, the same on every machine.

ImageNet-100 with 128 shots needs 16,000 of ImageNet's 1.28 million training images. A subset is a separate
split in the store of the suite, with a name that identifies it, and never changes: prompts learned from it
stay valid when another table adds images.
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
"""Most characters of a set's name in the name of its splits."""


@dataclass(frozen=True)
class Subset:
    """Some classes of an image set by their names, () = all, and at most ``each`` images of a class."""

    set: str
    classes: tuple[str, ...] = ()
    each: int | None = None
    seed: int = 0

    @property
    def whole(self) -> bool:
        """Whether it is the whole set."""
        return not self.classes and self.each is None

    @property
    def split(self) -> str:
        """The name of its split in the store; that of the set for the whole set."""
        if self.whole:
            return self.set
        how = "all" if self.each is None else f"{self.each}-{self.seed}"
        chosen = "\0".join([self.set, how, *sorted(self.classes)])
        code = sha256(chosen.encode("utf-8", "surrogateescape")).hexdigest()[:12]
        return f"{short_name(self.set)}.{how}.{code}"

    def __str__(self) -> str:
        """Return the set and what is taken of it, for messages."""
        parts = [f"{len(self.classes)} classes"] if self.classes else []
        parts += [f"{self.each} images of each class"] if self.each else []
        parts += [f"seed {self.seed}"] if self.each and self.seed else []
        return f"{self.set} ({', '.join(parts)})" if parts else self.set


def short_name(name: str) -> str:
    """Return the prefix of the names of a set's splits: a long name is cut and gets a digest."""
    return name if len(name) <= LONGEST else f"{name[:LONGEST]}-{sha256(name.encode()).hexdigest()[:8]}"


def stored_subset(name: str, info: SplitInfo, image_set: str) -> Subset | None:
    """Return the subset of ``image_set`` that a stored split holds; None if it is of another set."""
    if name == image_set:
        return Subset(image_set)
    match = NAME.fullmatch(name)
    if match is None or match["set"] != short_name(image_set):
        return None
    each, seed = (int(match["each"]), int(match["seed"])) if match["each"] else (None, 0)
    named, every = (Subset(image_set, classes, each, seed) for classes in (info.classes, ()))
    return next((subset for subset in (named, every) if subset.split == name), None)


def images_per_class(shots: int | None) -> int | None:
    """Return how many images per class leave ``shots`` for training after holding out; None for all."""
    if shots is None:
        return None
    count = shots + 1
    while count - min(count - 1, max(1, round(HELD_OUT * count))) < shots:
        count += 1
    return count


def names_by_folder(layout: DatasetLayout, known: Dataset | None) -> Mapping[str, str]:
    """Return the class names of a layout by folder, without folders of no published class.

    Raises UsageError for two folders of one class.
    """
    if known is not None and known.class_list and known.labelled:
        return class_list(known.class_list).names_of(layout.folders)
    return dict(zip(layout.folders, class_names(layout.folders, None), strict=True))


def list_subset(subset: Subset, layout: DatasetLayout, known: Dataset | None) -> Listing:
    """List the images of a subset; only the folders of its classes are read.

    The choice depends on the seed, the class folder and the name of the image (``take_shots``), so a larger
    subset includes the smaller. Raises LsnError if the images have no classes.
    """
    only = None
    if subset.classes:
        classes = set(subset.classes)
        only = [folder for folder, name in names_by_folder(layout, known).items() if name in classes]
    listing = layout.listing(only)
    if subset.each is None:
        return listing
    if any(item.label == UNLABELLED for item in listing.items):
        raise LsnError(
            f"{layout.path}: expected a folder for each class of '{subset.set}', found images without one."
        )
    return take_shots(listing, subset.each, subset.seed)


def expected_images(subset: Subset, known: Dataset | None) -> int | None:
    """Return how many images a subset has by the published counts; None if unknown."""
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
    """Return the names among ``classes`` that have no folder."""
    names = set(names_by_folder(layout, known).values())
    return [name for name in classes if name not in names]
