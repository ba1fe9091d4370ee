"""Times of variants that take turns in one process, so that load and clock speed affect them alike."""

import os
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

Rows = dict[str, dict[str, float]]
"""The figures of every variant, such as ``{"wall_s": 1.5, "cpu_s": 1.4, "ratio": 1.0}``."""


def interleaved(
    variants: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    clock: Literal["wall", "cpu"] = "wall",
    warm: bool = True,
    budget: float | None = None,
) -> Rows:
    """Run every variant once per round, in alternating order.

    ``warm`` adds a round that does not count. With a ``budget`` in seconds, a round after the first begins
    only if it is likely to end in time. Returns for each variant its median wall and CPU seconds, its
    ``ratio`` (median over rounds of the first variant's time by ``clock`` over its own: above 1 = faster than
    the first), the ``lowest`` and ``highest`` of the ratios, and the number of ``rounds`` that count.
    """
    began = time.perf_counter()
    seconds: dict[str, dict[str, list[float]]] = {
        which: {name: [] for name in variants} for which in ("wall", "cpu")
    }
    for turn in range(-1 if warm else 0, rounds):
        if budget is not None and turn >= 1:
            elapsed = time.perf_counter() - began
            if elapsed * (1 + 1 / (turn + warm)) > budget:
                break
        for name in variants if turn % 2 == 0 else reversed(variants):
            wall_start, cpu_start = time.perf_counter(), cpu_seconds()
            variants[name]()
            if turn >= 0:
                seconds["wall"][name].append(time.perf_counter() - wall_start)
                seconds["cpu"][name].append(cpu_seconds() - cpu_start)
    base = seconds[clock][next(iter(variants))]
    rows = {}
    for name in variants:
        ratios = [first / own for first, own in zip(base, seconds[clock][name], strict=True)]
        rows[name] = {
            "wall_s": statistics.median(seconds["wall"][name]),
            "cpu_s": statistics.median(seconds["cpu"][name]),
            "ratio": statistics.median(ratios),
            "lowest": min(ratios),
            "highest": max(ratios),
            "rounds": len(ratios),
        }
    return rows


def cpu_seconds() -> float:
    """Return the CPU time of this process and of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def others_seconds() -> float | None:
    """Return the CPU seconds, since the start of the machine, of all but this process; None without Linux.

    Children that have not ended count as others. Time that a virtual machine waited for its host is included.
    """
    stat = Path("/proc/stat")
    if not stat.is_file():
        return None
    user, nice, system, _, _, irq, soft_irq, steal = map(int, stat.read_text().split()[1:9])
    ticks = user + nice + system + irq + soft_irq + steal
    return ticks / os.sysconf("SC_CLK_TCK") - cpu_seconds()


def table(title: str, rows: Mapping[str, Mapping[str, float]]) -> None:
    """Print times, ratios and their range."""
    print(f"\n{title}")
    print(f"  {'variant':<34}{'wall s':>10}{'CPU s':>10}{'ratio':>8}{'range':>14}")
    for variant, row in rows.items():
        spread = f"{row['lowest']:.1f}..{row['highest']:.1f}"
        print(f"  {variant:<34}{row['wall_s']:>10.3f}{row['cpu_s']:>10.3f}{row['ratio']:>8.2f}{spread:>14}")
