"""What belongs under a measured table: whose images, which models, how often."""

from collections.abc import Sequence
from itertools import groupby

from lsncli.bench.results import Record
from lsncli.bench.suite import Suite, TableSpec
from lsncli.reference.datasets import published


def papers_own(suite: Suite, name: str) -> bool:
    """Whether a set of the suite is one of the paper's."""
    return name in published() and name in suite.sets


def stand_ins(suite: Suite, spec: TableSpec, names: Sequence[str]) -> list[str]:
    """What takes the place of the paper's images."""
    chosen = dict.fromkeys(row.id for row in spec.rows if row.id and row.name in names)
    ids = [suite.ids[name] for name in chosen]
    found = [f"ID: {one.title}" for one in ids if not papers_own(suite, one.test)]
    return found + [
        f"{group.name}: {suite.sets[group.ood].title}"
        for group in spec.groups
        if group.ood and not papers_own(suite, group.ood)
    ]


def notes_of(suite: Suite, spec: TableSpec, records: Sequence[Record], names: Sequence[str]) -> list[str]:
    """A paragraph each."""
    notes = [suite.note.strip(), spec.note.strip()]
    if stands := stand_ins(suite, spec, names):
        notes.append(f"Measured on stand-ins. {'; '.join(stands)}.")
    noted = sorted((row.note.strip(), row.name) for row in spec.rows if row.note and row.name in names)
    for note, rows in groupby(noted, lambda pair: pair[0]):
        notes.append(f"{', '.join(name for _, name in rows)}: {note}.")
    if records:
        models = " and ".join(sorted({record["model"] for record in records}))
        seeds = len({record["seed"] for record in records})
        modes = sorted(
            {one["settings"]["mode"] for r in records for one in r["learned"].values() if "settings" in one}
        )
        learned = f" Prompts learned in mode {' and '.join(modes)}." if modes else ""
        last = max(record["date"] for record in records)[:10]
        notes.append(
            f"Measured by {models}, {seeds} seed{'s' if seeds > 1 else ''}, last on {last}.{learned} "
            "FPR95: ID is the positive class."
        )
    return [note for note in notes if note]
