"""What lies beside a store unfinished: how many parts are made, and which of them cannot be used."""

from dataclasses import dataclass
from pathlib import Path

from lsncli.errors import LsnError
from lsncli.store.format import Split, problems_of
from lsncli.store.merge import made_parts, read_part
from lsncli.store.parts import parts_folder, read_about
from lsncli.store.pieces import rows_of
from lsncli.store.plan import Plan, read_plan


@dataclass(frozen=True)
class Unfinished:
    """A split in the making: ``made`` of its ``parts`` are there, with ``problems``, a sentence each."""

    split: str
    parts: int
    made: int
    problems: tuple[str, ...]


def unfinished_splits(store: Path) -> list[Unfinished]:
    """Every split in the making, sorted by name; the rows of every part are read and checked.

    Counts, checksums, and that each row is finite and not zero. Never raises for what is damaged.
    """
    folder = parts_folder(store, "x").parent
    names = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    return [one for one in (_look(store, name) for name in names) if one is not None]


def _look(store: Path, split: str) -> Unfinished | None:
    folder = parts_folder(store, split)
    try:
        stored = read_plan(folder)
        if stored is None:
            return None  # removed a moment ago, or about to be planned
        plan, classes = stored.plan, read_about(folder).classes
    except LsnError as error:
        return Unfinished(split, 0, 0, (error.message,))
    made = made_parts(folder, plan)
    problems = tuple(problem for index in made for problem in _of_part(folder, plan, index, classes))
    return Unfinished(split, plan.parts, len(made), problems)


def _of_part(folder: Path, plan: Plan, index: int, classes: tuple[str, ...]) -> list[str]:
    found: list[str] = []
    rows = 0
    try:
        part = read_part(folder, plan, index)
        for features, labels, keys in rows_of(part):
            rows += len(keys)
            problems = problems_of(Split("part", features, labels, tuple(keys), classes), plan.dim)
            found += [f"Part {index} of {plan.parts}: {problem}." for problem in problems]
    except LsnError as error:
        return [error.message]
    if rows != part.rows:
        found.append(f"Part {index} of {plan.parts}: expected {part.rows} rows, found {rows}.")
    return found
