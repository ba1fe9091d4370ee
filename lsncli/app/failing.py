"""How many images may fail before a command says that it went wrong (``--max-failure-rate``)."""

from collections.abc import Sequence
from pathlib import Path

from lsncli.console import printable
from lsncli.errors import TooManyFailures
from lsncli.store.format import SplitInfo
from lsncli.types import Failure

SHOWN = 3


def check_failures(
    failed: int,
    total: int,
    allowed: float,
    *,
    things: str = "images",
    examples: Sequence[Failure] = (),
    hint: str,
) -> None:
    """Raise TooManyFailures if more than the fraction ``allowed`` of ``total`` things ``failed``.

    The sentence names up to three ``examples``; ``hint`` says what became of the others, and what to do.
    """
    if failed <= allowed * total:
        return
    first = "; ".join(f"{one.key}: {one.reason}" for one in examples[:SHOWN])
    more = "; ..." if len(examples) > SHOWN else ""
    raise TooManyFailures(
        f"{failed} of {total} {things} failed, more than the allowed {allowed:.1%}"
        f"{f' ({printable(first)}{more})' if first else ''}.",
        hint,
    )


def check_split(info: SplitInfo, allowed: float, store: Path) -> None:
    """The same for a split that is finished in ``store`` whatever failed."""
    check_failures(
        len(info.failures),
        info.rows + len(info.failures),
        allowed,
        examples=info.failures,
        hint=f"The other {info.rows} are in {store}. Repair the images and run `lsn extract` again with "
        "--retry-failed, or raise --max-failure-rate.",
    )
