"""``measured``: a table of a suite, as far as it can be had."""

from collections.abc import Sequence
from pathlib import Path
from shlex import quote

from lsncli.bench.check import check_methods
from lsncli.bench.desk import Desk
from lsncli.bench.fold import MeasuredTable, fold
from lsncli.bench.lines import lines_of
from lsncli.bench.plan import Plan, make_plan
from lsncli.bench.runner import Run, run
from lsncli.bench.suite import Suite, TableSpec


def measured(
    suite: Suite,
    spec: TableSpec,
    *,
    named: tuple[str, str] | None = None,
    work: Path,
    data: Path | None = None,
    rows: Sequence[str] = (),
    seeds: int | None = None,
    splits: int | None = None,
    mode: str = "",
    model: str = "",
    pretrained: str = "",
    device: str = "auto",
    batch_size: int = 16,
    workers: int = 1,
    jobs: int = 1,
    dry: bool = False,
    quiet: bool = False,
) -> tuple[MeasuredTable, Plan]:
    """Measure what is missing of a table (nothing if ``dry``) and fold what is known; the plan has the jobs.

    ``named`` are suite and table as the user wrote them (their own names otherwise), for commands that
    fill cells in. ``data`` is the folder of the images; without it, features must be in the workspace
    ``work`` already. ``rows`` are names of rows, ``seeds`` and ``splits`` how many; ``mode``, ``model`` and
    ``pretrained`` take the place of the suite's. Raises UsageError as ``lines_of`` does, and LsnError if
    another process works on the suite.
    """
    check_methods(suite, spec)
    lines = lines_of(suite, spec, rows=rows, splits=splits, mode=mode, model=model)
    used = model or suite.model
    bundle = suite.features if used == suite.model and not pretrained else None
    desk = Desk(work, suite.name, used, data, pretrained, device, batch_size, workers, bundle, suite.sets)
    about = {"suite": suite.name, "table": spec.key}
    count = suite.seeds if seeds is None else seeds
    if dry:
        done = Run(desk, about, make_plan(desk, lines, count))
    else:
        done = run(desk, lines, about=about, seeds=count, jobs=jobs, quiet=quiet)
    written = named or (suite.name, spec.key)
    given: dict[str, object] = {
        "table": written[1],
        "suite": written[0],
        "data": data,
        "mode": mode,
        "model": model,
    }
    given |= {"pretrained": pretrained, "seeds": seeds, "splits": splits}
    options = (f"--{name} {quote(str(value))}" for name, value in given.items() if value)
    command = " ".join(["lsn bench", *options])
    table = fold(suite, spec, done, done.plan, command, [line.name for line in lines])
    return table, done.plan
