"""A table of a suite as lines: what is measured where, what is learned for it, by which model."""

from collections.abc import Sequence
from dataclasses import replace

from lsncli.bench.jobs import Line
from lsncli.bench.learning import Learning
from lsncli.bench.places import Part, Place
from lsncli.bench.suite import Choice, Group, IdSet, Row, Step, Suite, TableSpec
from lsncli.errors import UsageError
from lsncli.prompts.dualcoop import dual_settings
from lsncli.prompts.settings import preset


def lines_of(
    suite: Suite,
    table: TableSpec,
    *,
    rows: Sequence[str] = (),
    splits: int | None = None,
    mode: str = "",
    model: str = "",
) -> tuple[Line, ...]:
    """The lines of a table, or those named by ``rows``; at most ``splits`` splits of every ID set.

    ``mode`` takes the place of the mode of every learning. ``model`` takes the place of the suite's model, of
    the only model of a table, and of one of the same architecture that a row names. Raises UsageError for a
    row that is not there, for settings that cannot be meant and for less than one split.
    """
    if splits is not None and splits < 1:
        raise UsageError(f"--splits: expected 1 or more, found {splits}.")
    names = {plain(row.name): row for row in table.rows}
    unknown = [name for name in rows if plain(name) not in names]
    if unknown:
        known = ", ".join(f"'{row.name}'" for row in table.rows)
        raise UsageError(
            f"--rows: table {table.key} of the suite '{suite.name}' has no row '{unknown[0]}'.",
            f"Expected one of {known}.",
        )
    chosen = [names[plain(name)] for name in dict.fromkeys(rows)] or list(table.rows)
    return tuple(_line(suite, table, row, splits, mode, model) for row in table.rows if row in chosen)


def _line(suite: Suite, table: TableSpec, row: Row, splits: int | None, mode: str, model: str) -> Line:
    alone = {one.model for one in table.rows} == {row.model} and not row.unavailable
    same = row.model == suite.model or _architecture(row.model) == _architecture(model)
    given = bool(model) and (alone or same)
    name = model if given else row.model
    return Line(
        name=row.name,
        method=row.method,
        places=_places(suite, table.groups, row, splits),
        learnings=tuple(_learning(step, row.shots, mode) for step in row.learn),
        shots=row.shots,
        model="" if name == (model or suite.model) else name,
        vocabulary=row.vocabulary,
        unavailable="" if given else row.unavailable,
    )


def _places(suite: Suite, groups: Sequence[Group], row: Row, splits: int | None) -> tuple[Place, ...]:
    """Those of the row's ID set against every OOD set; or those of every group's ID set against its rest."""
    found: list[Place] = []
    outside = {group.name: Part(group.ood) for group in groups if group.ood}
    if outside:
        ids = suite.ids[row.id]
        found += [
            _place(ids, ids.title, number, choice, outside)
            for number, choice in enumerate(ids.choices[:splits])
        ]
    for group in groups:
        if group.id:
            ids = suite.ids[group.id]
            for number, choice in enumerate(ids.choices[:splits]):
                rest = {f"{len(choice.outside)} other classes": Part(ids.rest, choice.outside)}
                found.append(_place(ids, group.name, number, choice, rest))
    return tuple(found)


def _place(ids: IdSet, name: str, number: int, choice: Choice, ood: dict[str, Part]) -> Place:
    test = Part(ids.test, choice.inside, choice.names if choice.names != choice.inside else ())
    return Place(name, number, replace(test, set=ids.train) if ids.train else None, test, ood)


def _learning(step: Step, shots: int | None, mode: str) -> Learning:
    settings = dict(step.settings)
    if step.kind in ("positive", "negative"):
        settings |= {"mode": mode} if mode else {}
        made = preset("positive" if step.kind == "positive" else "negative", **settings)
        return Learning(step.kind, made, shots)
    return Learning(step.kind, dual_settings(**settings) if step.kind == "dualcoop" else None, shots)


def _architecture(model: str) -> str:
    return model.partition(":")[0].removesuffix("-quickgelu")


def plain(name: str) -> str:
    """A row's name as users type it: case, blanks and "(ours)" do not matter."""
    return "".join(name.casefold().replace("(ours)", "").split())
