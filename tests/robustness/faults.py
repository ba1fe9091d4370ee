"""What can go wrong, done on purpose to real commands: what each of them then says, and that nothing is lost.

    python -m tests.robustness.faults [--only WORDS] [--record]

Every fault is a trial in a folder of its own: other writers, full and read-only disks, clocks, images and
stores that change, damaged and hostile files. It is met if there is one sentence and the right exit code, no
hang, no more than 2 GiB of memory, and if all that was committed is still there. Prints a table; ends with 1
if one was not met. --record writes results/faults.json. Where root may mount, disks are really full; where
not, the size of files is limited. Needs fork (not Windows).
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.records import record
from tests.robustness import faults_files, faults_parts, faults_running  # noqa: F401  (they add their trials)
from tests.robustness.faultlab import FAULTS, Lab, Wrong


def run(folder: Path, only: str = "") -> list[dict[str, object]]:
    """Try every fault whose name holds ``only``; prints a line as each is done."""
    torch.set_num_threads(1)
    lab = Lab(folder).prepare()
    rows: list[dict[str, object]] = []
    for name, trial in FAULTS.items():
        if only not in name:
            continue
        place, began = folder / name.replace(" ", "-").replace("/", "-"), time.monotonic()
        place.mkdir()
        try:
            happened, met = trial(lab, place), True
            happened = happened.replace(f"{place}/", "").replace(f"{folder}/", "")
        except Wrong as wrong:
            happened, met = str(wrong), False
        finally:
            lab.tidy()
        rows.append({"fault": name, "met": met, "happened": happened, "seconds": time.monotonic() - began})
        print(f"{'met' if met else 'NOT MET':<8}{name:<42}{' '.join(happened.split())}", flush=True)
    return rows


def main() -> None:
    """Try, print, and record on demand."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", default="", help="faults whose name holds these words")
    parser.add_argument("--record", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = run(Path(folder), given.only)
    met = sum(bool(row["met"]) for row in rows)
    print(f"{met} of {len(rows)} faults met as they should be")
    if given.record:
        record("faults", "faults done to real commands: what was said, and whether all was kept", rows=rows)
    raise SystemExit(0 if met == len(rows) else 1)


if __name__ == "__main__":
    main()
