"""Groups of copies in the splits of a store, what to do about them, and whether they spoil an evaluation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lsncli.console import ProgressCallback, printable, silent
from lsncli.errors import LsnError
from lsncli.evaluation.duplicates import Pairs, find_duplicates, tiles_of
from lsncli.methods.cache import NO_CACHE, Cache, digest
from lsncli.methods.source_digest import code_of
from lsncli.store.format import Split
from lsncli.types import UNLABELLED

QUICK = 400_000_000
"""Most pairs of images that an evaluation compares for near duplicates: about four seconds on one core."""

KEPT = 10_000_000
"""Fewest pairs of images whose duplicates are cached; fewer are compared in a tenth of a second."""

Place = tuple[str, int]
"""The name of a split and a row in it."""


@dataclass(frozen=True)
class Search:
    """What counts as a duplicate: identical features alone, or ``near`` ones, too (see ``duplicates``)."""

    near: bool = True
    cosine: float | None = None
    """The smallest cosine of near duplicates; None for the rule that is relative to other images."""


@dataclass(frozen=True)
class Copy:
    """An image of a group: untrusted ``key``, class ("" if unlabelled), the cosine with its nearest copy."""

    split: str
    row: int
    key: str
    class_name: str
    cosine: float
    exact: bool
    """Its features are those of another image of the group, to the bit."""
    leave_out: bool


@dataclass(frozen=True)
class Group:
    """Images that are copies of one another, those to keep first."""

    copies: tuple[Copy, ...]
    conflict: bool
    """Two of them have different classes."""

    @property
    def across(self) -> bool:
        """Whether the copies are in several splits."""
        return len({copy.split for copy in self.copies}) > 1


def comparisons(splits: Sequence[Split], train: str | None) -> Iterator[tuple[Split, Split | None]]:
    """Yield each split with None (compare its rows with one another), and with the split ``train``."""
    known = next((split for split in splits if split.name == train), None)
    for split in splits:
        yield split, None
        if known is not None and split is not known:
            yield split, known


def tiles(splits: Sequence[Split], train: str | None) -> int:
    """Return the number of tiles that ``find_groups`` counts."""
    return sum(
        tiles_of(len(one.labels), None if two is None else len(two.labels))
        for one, two in comparisons(splits, train)
    )


def find_groups(
    splits: Sequence[Split],
    train: str | None,
    search: Search,
    *,
    cache: Cache = NO_CACHE,
    progress: ProgressCallback = silent,
) -> list[Group]:
    """Return the groups of copies in ``splits``: within each, and between ``train`` and each other one.

    First come groups with different classes, then those in several splits, then the largest. To leave out
    are all images of a group but one; an image of another split than ``train`` is kept first, so that what
    methods are tested on stays the same.
    """
    numbers: dict[Place, int] = {}
    links: list[tuple[int, int]] = []
    best: dict[Place, tuple[float, bool]] = {}
    for one, two in comparisons(splits, train):
        pairs = cached_pairs(one, two, search, cache, progress)
        names = one.name, one.name if two is None else two.name
        for first, second, cosine, exact in zip(
            pairs.first.tolist(),
            pairs.second.tolist(),
            pairs.cosines.tolist(),
            pairs.exact.tolist(),
            strict=True,
        ):
            ends = (names[0], first), (names[1], second)
            one_end, other_end = (numbers.setdefault(place, len(numbers)) for place in ends)
            links.append((one_end, other_end))
            for place in ends:
                best[place] = max(
                    best.get(place, (-1.0, False)), (cosine, exact), key=lambda each: each[::-1]
                )
    by_name = {split.name: split for split in splits}
    order = {split.name: (split.name == train, at) for at, split in enumerate(splits)}
    groups = []
    for places in _connected(list(numbers), links):
        places.sort(key=lambda place: (order[place[0]], place[1]))
        copies = tuple(
            Copy(
                name,
                row,
                by_name[name].keys[row],
                class_of(by_name[name], row),
                *best[name, row],
                leave_out=at > 0,
            )
            for at, (name, row) in enumerate(places)
        )
        groups.append(Group(copies, _conflict(copies, by_name)))
    return sorted(groups, key=lambda group: (not group.conflict, not group.across, -len(group.copies)))


def cached_pairs(
    split: Split,
    other: Split | None,
    search: Search,
    cache: Cache,
    progress: ProgressCallback = silent,
) -> Pairs:
    """Return the duplicates of ``find_duplicates``; of many images from the cache, if they are there."""
    if _comparisons(split, other) < KEPT:
        cache = NO_CACHE
    key = _key(split, other, search, cache)
    stored = cache.get(key)
    if stored is not None:
        progress(tiles_of(len(split.labels), None if other is None else len(other.labels)))
        arrays = stored[0]
        return Pairs(arrays["first"], arrays["second"], arrays["cosines"], arrays["exact"] == 1)
    pairs = find_duplicates(split, other, near=search.near, cosine=search.cosine, progress=progress)
    found = {"first": pairs.first, "second": pairs.second, "cosines": pairs.cosines}
    cache.put(key, found | {"exact": pairs.exact.astype(np.uint8)}, {})
    return pairs


def _comparisons(split: Split, other: Split | None) -> int:
    return len(split.labels) * len((other or split).labels)


def _key(split: Split, other: Split | None, search: Search, cache: Cache) -> str:
    """Return the key of a result in ``cache``; "" without one, as a digest of all rows takes its time."""
    if cache.folder is None:
        return ""
    rows = [split.rows.content, "" if other is None else other.rows.content]
    return digest("duplicates", rows, search.near, search.cosine, code_of(find_duplicates))


def class_of(split: Split, row: int) -> str:
    """Return the class of a row, "" if it has none."""
    label = int(split.labels[row])
    return "" if label == UNLABELLED else split.classes[label]


def _conflict(copies: Sequence[Copy], splits: "dict[str, Split]") -> bool:
    """Return whether two copies differ in their class, of classes that both splits have."""
    labelled = {(copy.class_name, copy.split) for copy in copies if copy.class_name}
    return any(
        name != other and name in splits[split_of_other].classes and other in splits[split].classes
        for name, split in labelled
        for other, split_of_other in labelled
    )


def _connected(places: Sequence[Place], links: Sequence[tuple[int, int]]) -> list[list[Place]]:
    """Return the places of each group that ``links`` of their indices connect, by the first of them."""
    if not places:
        return []
    from scipy.sparse import coo_array  # take long to import, and most stores have no copies
    from scipy.sparse.csgraph import connected_components

    ends = np.array(links).T
    graph = coo_array((np.ones(len(links)), ends), shape=(len(places), len(places)))
    count, labels = connected_components(graph, directed=False)
    found: list[list[Place]] = [[] for _ in range(count)]
    for place, label in zip(places, labels, strict=True):
        found[label].append(place)
    return found


def leak_warnings(
    train: Split, id_split: Split, ood_splits: Sequence[Split], cache: Cache = NO_CACHE
) -> list[str]:
    """Return what to say of tested images that are copies of images in ``train``: a sentence, or none.

    Near copies are looked for where that is quick, or where they were found before; else a sentence says that
    they were not.
    """
    found: list[str] = []
    skipped: list[str] = []
    texts: list[str] = []
    example = ""
    search = f"lsn store duplicates --split {train.name}"
    for split in (id_split, *ood_splits):
        if split.name == train.name or not len(train.labels) or not len(split.labels):
            continue
        near = _comparisons(split, train) <= QUICK or (
            cache.get(_key(split, train, Search(), cache)) is not None
        )
        try:
            pairs = cached_pairs(split, train, Search(near), cache)
        except LsnError as error:  # each method says the same of features that it cannot use
            texts.append(f"{split.name} was not searched for copies of images of {train.name}: {error}")
            continue
        if not near:
            skipped.append(split.name)
        if len(pairs):
            copies = len(set(pairs.first.tolist()))
            found.append(f"{copies:,} of {len(split.labels):,} images of {split.name}")
            keys = split.keys[int(pairs.first[0])], train.keys[int(pairs.second[0])]
            example = example or " of ".join(map(printable, keys))
    if found:
        texts.append(
            f"{_listed(found)} are copies of images of {train.name}, such as {example}. Copies of ID images "
            f"make the numbers too good, copies of OOD images too bad. `{search}` lists them."
        )
    if skipped:
        texts.append(
            f"{_listed(skipped)} and {train.name} have many images: only copies with identical features were "
            f"looked for. `{search}` finds others, and lsn eval knows them from then on."
        )
    return texts


def _listed(texts: Sequence[str]) -> str:
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"
