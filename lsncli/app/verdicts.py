"""Verdicts as ``lsn score`` shows them: which, in which order, and how many of each kind and class."""

import heapq
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, Literal

from lsncli.app.detect import Verdict
from lsncli.images.sources import ImageItem
from lsncli.types import Failure

Kind = Literal["ood", "id", "failed"]
Order = Literal["score", "path"]

Found = tuple[Verdict | Failure, ImageItem | None]
"""A verdict, or the reason why there is none, and the image it is about where there is one."""


def kind_of(one: Verdict | Failure) -> Kind:
    """What an image turned out to be."""
    if isinstance(one, Failure):
        return "failed"
    return "ood" if one.is_ood else "id"


def select(
    found: Iterable[Found], kinds: Collection[str], order: Order | None, top: int | None
) -> Iterator[Found]:
    """Those of ``kinds`` in ``order``; None is the order they come in, and only then they come at once.

    By score the lowest, which belongs least, comes first, and failures last. With ``top``, which needs an
    order, no more rows than that are held, whatever the number of images; ``found`` is always read to its
    end.
    """
    kept = (pair for pair in found if kind_of(pair[0]) in kinds)
    if order is None:
        yield from kept
    elif top is None:
        yield from sorted(kept, key=KEYS[order])
    else:
        yield from heapq.nsmallest(top, kept, key=KEYS[order])


def _by_score(pair: Found) -> tuple[bool, float]:
    one = pair[0]
    return (True, 0.0) if isinstance(one, Failure) else (False, one.score)


def _by_path(pair: Found) -> str:
    one = pair[0]
    return one.key if isinstance(one, Failure) else one.path


KEYS: dict[Order, Callable[[Found], Any]] = {"score": _by_score, "path": _by_path}


def row_of(one: Verdict | Failure) -> dict[str, Any]:
    """The fields of a row; a failure has only two."""
    return {"path": one.key, "error": one.reason} if isinstance(one, Failure) else dict(vars(one))


class Tally:
    """How many images were ID, OOD and unreadable, and of which predicted classes."""

    def __init__(self) -> None:
        self.kinds: Counter[Kind] = Counter()
        self._classes: dict[Kind, Counter[str]] = {"id": Counter(), "ood": Counter()}

    @property
    def total(self) -> int:
        """All images."""
        return self.kinds.total()

    def count(self, one: Verdict | Failure) -> None:
        """Take an image into account."""
        kind = kind_of(one)
        self.kinds[kind] += 1
        if not isinstance(one, Failure):
            self._classes[kind][one.predicted] += 1

    def by_class(self, shown: int = 20) -> list[dict[str, Any]]:
        """``class``, ``id``, ``ood`` of the classes with most images, and of the others in one row."""
        both = self._classes["id"] + self._classes["ood"]
        names = [name for name, _ in sorted(both.items(), key=lambda pair: (-pair[1], pair[0]))]
        rows = [self._row(name, [name]) for name in names[:shown]]
        rest = names[shown:]
        return rows + ([self._row(f"({len(rest)} more)", rest)] if rest else [])

    def _row(self, title: str, names: list[str]) -> dict[str, Any]:
        return {"class": title} | {
            kind: sum(of[name] for name in names) for kind, of in self._classes.items()
        }
