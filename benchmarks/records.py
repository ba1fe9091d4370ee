"""Keep results/*.json, and quote the goals whose runs take too long for ``benchmarks.all`` from them.

A file holds the records of several machines side by side, keyed by the name of the machine; a machine's new
record replaces its old one. A missing file gives a row without a figure that names the script to run.
"""

import json
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.goals import Row, Sense
from benchmarks.machines import machine, name_of

RESULTS = Path(__file__).parent / "results"


def record(
    name: str, what: str, *, folder: Path | None = None, for_all_machines: bool = False, **parts: object
) -> None:
    """Write what was measured, and where, to ``results/<name>.json``, beside the records of other machines.

    ``for_all_machines`` replaces them: for results that are the same on every machine.
    """
    write((folder or RESULTS) / f"{name}.json", {"what": what, **parts}, for_all_machines=for_all_machines)


def write(
    path: Path, content: dict[str, Any], *, for_all_machines: bool = False, indent: int | None = 1
) -> None:
    """Write ``content`` and this machine's facts to a file of records, as ``record`` does."""
    here = machine()
    others = {} if for_all_machines else _all(path)
    others.pop(name_of(here), None)
    path.parent.mkdir(parents=True, exist_ok=True)
    every = {**others, name_of(here): {"machine": here, **content}}
    separators = (",", ":") if indent is None else None
    path.write_text(json.dumps(every, indent=indent, separators=separators) + "\n", encoding="utf-8")


def read(name: str, here: dict[str, Any] | None = None) -> tuple[dict[str, Any] | None, str]:
    """Return a record, or None without a file, and where and when it was made.

    It is the record of this machine (or ``here``); else the newest of a machine of this kind; else the
    newest.
    """
    here = here or machine()

    def nearness(entry: tuple[str, dict[str, Any]]) -> tuple[bool, bool, str]:
        facts = entry[1]["machine"]
        return entry[0] == name_of(here), facts.get("kind") == here["kind"], facts["date"]

    every = _all(RESULTS / f"{name}.json")
    if not every:
        return None, ""
    found, content = max(every.items(), key=nearness)
    made = f"recorded {content['machine']['date']}"
    return content, made if found == name_of(here) else f"{made}, {found}"


def own(name: str) -> dict[str, Any] | None:
    """Return the record of this machine, or None."""
    return _all(RESULTS / f"{name}.json").get(name_of(machine()))


def _all(path: Path) -> dict[str, dict[str, Any]]:
    """Return the records of a file by the name of their machine."""
    every: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return every


def rows() -> list[Row]:
    """Return the rows of all recorded figures that have a goal."""
    return [*fast_preset(), *every_method(), *kills(), *engines(), *million(), *gpu()]


def fast_preset() -> list[Row]:
    """Compare `--mode fast` with `--mode paper` on the mini suite: FPR95 of LSN over the columns of both."""
    speed, of = read("study-fast")
    paper, fast = read("study-confirm-paper")[0], read("study-confirm-fast")[0]
    if speed is None or paper is None or fast is None:
        script = "python -m benchmarks.accuracy.prompt_study fast|confirm"
        return [_missing("preset fast", "points", 0, "at most", script)]
    runs = speed["rows"]
    chosen = runs["batch 128, epochs 50/100, rates 0.03/0.01"]
    times = runs["paper"]["learning_cpu_seconds"] / chosen["learning_cpu_seconds"]
    before, after = paper["rows"]["paper"]["lsn"], fast["rows"]["fast"]["lsn"]
    columns = [column for column in before if column in after and column != "mean"]
    worse = mean(mean(after[c]["fpr95"]) - mean(before[c]["fpr95"]) for c in columns)
    return [
        Row("preset fast, CPU time to learn, against paper", times, "x", of=of),
        Row("preset fast, FPR95 above that of paper, 3 seeds", worse, "points", 0, "at most", of),
    ]


def every_method() -> list[Row]:
    """Return the most memory that a method needs at the size of ImageNet."""
    content, of = read("methods")
    what = "every method, 1,000 classes, 128,000 rows: process"
    if content is None:
        return [_missing(what, "GiB", 24, "at most", "python -m benchmarks.speed.methods")]
    largest = max(row["process_mib"] for row in content["rows"].values())
    return [Row(what, largest / 1024, "GiB", 24, "at most", of)]


def kills() -> list[Row]:
    """Return how many runs ended identical after kills at random moments, and how much was lost."""
    content, of = read("kills")
    if content is None:
        what = "kill -9 at random moments: ended identical"
        return [_missing(what, "%", 100, "at least", "python -m tests.robustness.kills --record")]
    kinds = ("kills", "finished", "identical", "lost")
    total = {kind: sum(row[kind] for row in content["rows"].values()) for kind in kinds}
    same = 100 * total["identical"] / total["finished"]
    what = f"{total['kills']} kills -9 at random moments"
    return [
        Row(f"{what}: ended identical", same, "%", 100, of=of),
        Row(f"{what}: committed work lost", total["lost"], "", 0, "at most", of),
    ]


def engines() -> list[Row]:
    """Return the share of stores of all engines, also after kills, whose bytes are those of one process."""
    content, of = read("engines")
    what = "stores of two processes by each engine, identical"
    if content is None:
        return [_missing(what, "%", 100, "at least", "python -m tests.robustness.engines --record")]
    counts = content["engines"].values()
    same = 100 * sum(count["identical"] for count in counts) / sum(count["stores"] for count in counts)
    return [Row(what, same, "%", 100, of=of)]


def million() -> list[Row]:
    """Return the memory of one more row, from 250,000 to a million rows of 1,024 bytes: the worst step."""
    content, of = read("million")
    what = "1,000,000 rows: memory for a row more, worst step"
    if content is None:
        return [_missing(what, "bytes", 256, "at most", "python -m tests.robustness.million --record")]
    worst = max(row["bytes_a_row"] for row in content["rows"].values())
    return [Row(what, worst, "bytes", 256, "at most", of)]


def gpu() -> list[Row]:
    """Return the ratios of the training steps on a GPU, if one has been measured."""
    content, of = read("gpu")
    what = "on a GPU"
    if content is None:
        return [Row(what, None, "x", of="no record: python -m benchmarks.speed.gpu")]
    return [
        Row(f"{title}, {name}, on {content['machine']['gpu']}", row["ratio"], "x", of=f"wall, {of}")
        for title, variants in content.items()
        if " step" in title
        for name, row in variants.items()
        if name.startswith("lsn") and "ratio" in row
    ]


def _missing(what: str, unit: str, goal: float | None, sense: Sense, script: str) -> Row:
    return Row(what, None, unit, goal, sense, of=f"no record: {script}")
