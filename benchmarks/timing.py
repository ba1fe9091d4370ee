"""Fair ratios: variants take turns in one process, medians are compared, the machine is named."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def interleaved(variants: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, dict[str, float]]:
    """Run every variant once a round, in turn, after one round that does not count.

    Returns median wall and CPU seconds of each, and its ``ratio``: median over rounds of the first
    variant's wall time over its own (above 1 = faster than the first).
    """
    wall: dict[str, list[float]] = {name: [] for name in variants}
    cpu: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(rounds + 1):
        for name, run in variants.items():
            wall_start, cpu_start = time.perf_counter(), time.process_time()
            run()
            if turn:
                wall[name].append(time.perf_counter() - wall_start)
                cpu[name].append(time.process_time() - cpu_start)
    base = wall[next(iter(variants))]
    return {
        name: {
            "wall_s": statistics.median(wall[name]),
            "cpu_s": statistics.median(cpu[name]),
            "ratio": statistics.median(b / own for b, own in zip(base, wall[name], strict=True)),
        }
        for name in variants
    }


def machine() -> dict[str, Any]:
    """What ran the benchmark: processor, cores, versions, date."""
    import torch

    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "date": date.today().isoformat(),
    }


def report(name: str, what: str, rows: Mapping[str, Mapping[str, float]]) -> None:
    """Print the rows as a table and write them to ``results/<name>.json``."""
    print(f"\n{what}")
    print(f"  {'variant':<34}{'wall s':>10}{'CPU s':>10}{'ratio':>8}")
    for variant, row in rows.items():
        print(f"  {variant:<34}{row['wall_s']:>10.3f}{row['cpu_s']:>10.3f}{row['ratio']:>8.2f}")
    RESULTS.mkdir(exist_ok=True)
    record = {"what": what, "machine": machine(), "rows": rows}
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
