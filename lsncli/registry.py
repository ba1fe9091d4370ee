"""Load rows of registries, which are written as ``module:name``, so that each is imported on first use.

Installed packages add rows by entry points of the groups ``GROUPS``; see docs/add-a-score.md.
"""

from collections.abc import Collection
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from lsncli.errors import LsnError

GROUPS = ("lsncli.scores", "lsncli.backbones")
OWN = "lsncli"


def load(reference: str) -> Any:
    """Import the object ``module:name``. Raises LsnError if another package's cannot be imported."""
    module, _, name = reference.partition(":")
    try:
        return getattr(import_module(module), name)
    except Exception as error:
        if module.partition(".")[0] == OWN:
            raise
        raise LsnError(
            f"'{reference}', which an installed package adds, cannot be imported: {error}.",
            "Update that package, or uninstall it.",
        ) from error


def additions(group: str, own: Collection[str]) -> dict[str, str]:
    """Return the rows that installed packages add to a registry: name -> ``module:name``.

    Raises LsnError for a name that two packages add, or that is one of ``own``.
    """
    rows: dict[str, str] = {}
    for point in _entry_points(group):
        if point.name in own or point.name in rows:
            package = point.dist.name if point.dist else point.value
            raise LsnError(
                f"The installed package {package} adds '{point.name}' to {group}, where it is already.",
                "Uninstall one of the two.",
            )
        rows[point.name] = point.value
    return rows


@cache
def added_packages() -> frozenset[str]:
    """Return the top-level names of the packages that add rows."""
    return frozenset(point.module.partition(".")[0] for group in GROUPS for point in _entry_points(group))


def _entry_points(group: str) -> list[EntryPoint]:
    return sorted(entry_points(group=group), key=lambda point: (point.name, point.value))
