"""``shards/{000..127}.tar`` as the names it stands for. They need not exist: a shard that is missing is an
error, which a pattern with ``*`` would pass over."""

import itertools
import re

from lsncli.errors import UsageError

GROUP = re.compile(r"\{(?:(\d{1,18})\.\.(\d{1,18})|([^{}]*,[^{}]*))\}")
MOST = 1_000_000
"""Names that are made of one text."""


def expanded(text: str) -> list[str]:
    """Every name that ``text`` stands for, in order; ``text`` alone if it has no braces to expand.

    ``{8..11}`` counts, with leading zeros if a bound has some (or from 3 down to 1), and ``{a,b}`` names
    each. Raises UsageError for more than MOST names.
    """
    pieces, choices, at, count = [], [], 0, 1
    for group in GROUP.finditer(text):
        pieces.append(text[at : group.start()])
        at = group.end()
        low, high, names = group.groups()
        # A group may be long: it is counted before it is written out.
        count *= abs(int(high) - int(low)) + 1 if names is None else names.count(",") + 1
        if count > MOST:
            raise UsageError(f"'{text}' stands for more than {MOST:,} names.", "Write fewer in the {...}.")
        choices.append(_counted(low, high) if names is None else names.split(","))
    rest = text[at:]
    return [
        "".join(itertools.chain(*zip(pieces, chosen, strict=True), [rest]))
        for chosen in itertools.product(*choices)
    ]


def _counted(low: str, high: str) -> list[str]:
    padded = low.startswith("0") or high.startswith("0")
    width = max(len(low), len(high)) if padded else 0
    first, last = int(low), int(high)
    step = 1 if first <= last else -1
    return [f"{number:0{width}d}" for number in range(first, last + step, step)]
