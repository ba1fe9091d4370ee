"""How the presets `fast` and `best` were chosen, and how well they perform.

    python -m benchmarks.accuracy.prompt_study fast     # large batches: which rates give the paper's prompts?
    python -m benchmarks.accuracy.prompt_study losses   # which losses make negative prompts help?
    python -m benchmarks.accuracy.prompt_study choose   # the best of those, three seeds
    python -m benchmarks.accuracy.prompt_study confirm  # every preset on the test columns, three seeds

The first three use validation rows only: classes that are left out of the training images are OOD
(``suite.validation``). Only ``confirm`` uses test rows, after the presets were fixed. An interrupted run
resumes; results go to results/study-<stage>.json.
"""

import argparse
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from benchmarks.accuracy.studies import Cell, Place, Record, measure
from benchmarks.mini import store, suite
from benchmarks.mini.heads import Method
from benchmarks.records import RESULTS, write
from lsncli.console import out, say
from lsncli.prompts.settings import MODES, PromptSettings, preset

Candidate = tuple[str, PromptSettings | None, PromptSettings]
"""A name, positive prompts (None = hand-written), negative prompts."""

TAU_BARS = (20.0, 5.0, 3.0, 2.0, 1.0, 0.5, 0.2, 0.1, 0.05)
PAIRS: tuple[tuple[float, float], ...] = (
    *((1.0, tau_bar) for tau_bar in TAU_BARS),
    (0.1, 0.1),
    (0.05, 0.05),
    (0.02, 0.1),
    (0.02, 0.05),
    (0.01, 0.05),
)
"""Temperatures (tau, tau_bar) of Eq. 14. Equal ones are Eq. 9."""

MCM: Method = ("mcm", {})
COLUMNS = {
    "fast": ("cifar10", "imagenette"),
    "losses": ("cifar10", "imagenette"),
    "choose": ("cifar10", "imagenette", "tinyimagenet", "cifar100"),
    "confirm": suite.columns(),
}
"""Columns of each stage, by default."""

LSN: tuple[Method, ...] = tuple(
    ("lsn", {"form": form, "tau": tau, "tau_bar": tau_bar})
    for form in ("paper", "official")
    for tau, tau_bar in PAIRS
)
LOGIT: tuple[Method, ...] = (
    ("maxlogit", {}),
    *(("lsn", {"form": "logit", "tau": 1.0, "tau_bar": tau_bar}) for tau_bar in TAU_BARS[:5]),
)
NO: tuple[Method, ...] = tuple(("mincm", {"tau_bar": tau_bar}) for tau_bar in TAU_BARS)


def validation_places(seeds: int, columns: Sequence[str]) -> list[Place]:
    """Return two folds of the first split of each column."""
    return [
        Place(column, 0, seed, fold=fold) for seed in range(seeds) for column in columns for fold in (0, 1)
    ]


def test_places(seeds: int, splits: int, columns: Sequence[str]) -> list[Place]:
    """Return the first ``splits`` splits of every column."""
    return [
        Place(column, split, seed)
        for seed in range(seeds)
        for column in columns
        for split in range(min(splits, suite.splits(column)))
    ]


def fast_candidates() -> list[Candidate]:
    """Return the paper's losses in batches of 128 and 256, at several rates and numbers of epochs."""
    paper, no = preset("positive"), preset("negative")
    found: list[Candidate] = [("paper", paper, no)]
    for batch, epochs, yes_rate, no_rate in (
        (128, 50, 0.01, 0.002),
        (128, 50, 0.03, 0.004),
        (128, 50, 0.03, 0.01),
        (128, 100, 0.03, 0.004),
        (256, 50, 0.03, 0.01),
        (256, 100, 0.06, 0.004),
    ):
        changes = {"batch_size": batch}
        name = f"batch {batch}, epochs {epochs}/{2 * epochs}, rates {yes_rate:g}/{no_rate:g}"
        yes = replace(paper, **changes, epochs=epochs, rate=yes_rate)
        found.append((name, yes, replace(no, **changes, epochs=2 * epochs, rate=no_rate)))
    return found


def loss_candidates() -> list[Candidate]:
    """Return the fast preset with one setting changed at a time, and a few combinations."""
    yes, no = preset("positive", "fast"), preset("negative", "fast")
    free, double = replace(no, weight=0.0), replace(no, double_softmax=True)
    twice = replace(double, weight=0.0, tau=0.02)
    negatives: dict[str, PromptSettings] = {
        "paper's loss": no,
        "lambda 0": free,
        "mean |cos|, lambda 1": replace(no, weight=1.0, orthogonality="mean"),
        "signed mean, lambda 1": replace(no, weight=1.0, orthogonality="signed"),
        "K = 1": replace(no, sets=1),
        "lambda 0, K = 5": replace(free, sets=5),
        "lambda 0, tau 0.02": replace(free, tau=0.02),
        "lambda 0, tau 0.1": replace(free, tau=0.1),
        "lambda 0, rate / 4": replace(free, rate=no.rate / 4),
        "lambda 0, epochs / 4": replace(free, epochs=no.epochs // 4),
        "lambda 0, without names": replace(free, names=False),
        "lambda 0, from 'a photo of a'": replace(free, length=4, init="a photo of a"),
        "lambda 0, from 'this is not a photo of a'": replace(free, length=7, init="this is not a photo of a"),
        "lambda 0, shared context": replace(free, specific=False),
        "double softmax": double,
        "double softmax, signed mean, lambda 1": replace(double, weight=1.0, orthogonality="signed"),
        "double softmax, lambda 0": replace(double, weight=0.0),
        "double softmax, lambda 0, without names": replace(double, weight=0.0, names=False),
        "double softmax, lambda 0, tau 0.02": twice,
        "double softmax, lambda 0, tau 0.01": replace(twice, tau=0.01),
        "double softmax, lambda 0, tau 0.02, K = 1": replace(twice, sets=1),
        "double softmax, lambda 0, tau 0.02, without names": replace(twice, names=False),
        "double softmax, mean |cos|, lambda 0.1, tau 0.02": replace(twice, weight=0.1, orthogonality="mean"),
    }
    candidates: list[Candidate] = [(name, yes, settings) for name, settings in negatives.items()]
    positives = {
        "positive: hand-written": None,
        "positive: double softmax": replace(yes, double_softmax=True),
        "positive: tau 0.03": replace(yes, tau=0.03),
        "positive: 4 vectors": replace(yes, length=4),
        "positive: from 'a photo of a'": replace(yes, length=4, init="a photo of a"),
    }
    return candidates + [(name, settings, no) for name, settings in positives.items()]


def finalists() -> list[Candidate]:
    """Return the best of ``loss_candidates``, whose differences are as large as the noise, for more seeds."""
    yes, no = preset("positive", "fast"), preset("negative", "fast")
    free = replace(no, weight=0.0, double_softmax=True, tau=0.02)
    negatives: dict[str, PromptSettings] = {
        "paper's loss": no,
        "paper's loss, K = 1": replace(no, sets=1),
        "lambda 0, tau 0.02": replace(free, double_softmax=False),
        "double softmax, lambda 0, tau 0.02": free,
        "double softmax, lambda 0, tau 0.02, K = 1": replace(free, sets=1),
        "double softmax, lambda 0, tau 0.01": replace(free, tau=0.01),
        "double softmax, lambda 0, tau 0.01, K = 1": replace(free, tau=0.01, sets=1),
        "double softmax, lambda 0, tau 0.02, without names": replace(free, names=False),
        "double softmax, mean |cos|, lambda 0.1, tau 0.02": replace(free, weight=0.1, orthogonality="mean"),
    }
    return [(name, yes, settings) for name, settings in negatives.items()]


def preset_candidates() -> list[Candidate]:
    """Return every preset."""
    return [(mode, preset("positive", mode), preset("negative", mode)) for mode in MODES]


def twin(settings: PromptSettings) -> PromptSettings:
    """Return the first preset that learns the same prompts; mode and score do not matter to a learner."""
    alike = (preset(settings.kind, mode) for mode in MODES)
    return next(
        (one for one in alike if replace(one, mode=settings.mode, score=settings.score) == settings), settings
    )


def own_methods(negative: PromptSettings) -> tuple[Method, ...]:
    """Return CoOp + MCM, and the LSN score that belongs to these negative prompts."""
    return (MCM, ("maxlogit", {}), ("lsn", dict(negative.score)), ("lsn", {"tau_bar": 1.0}))


def run(
    candidates: Sequence[Candidate],
    places: Sequence[Place],
    methods: Callable[[PromptSettings], Sequence[Method]],
    cache: Path,
    file: Path,
    jobs: int,
) -> dict[str, dict[str, Any]]:
    """Measure all candidates in all places; return the ``summary`` of each."""
    cells = [
        Cell(name, where, yes and twin(yes), twin(no), tuple(methods(no)))
        for where in places
        for name, yes, no in candidates
    ]
    records = measure(cells, cache, file=file, jobs=jobs)
    return {
        name: summary([record for record in records if record["row"] == name]) for name, _, _ in candidates
    }


def summary(records: Sequence[Record]) -> dict[str, Any]:
    """Return CPU seconds of learning, and percentages for every seed by method, column and measure."""
    found: dict[str, Any] = {"learning_cpu_seconds": round(sum(one["cpu_seconds"] for one in records), 1)}
    seeds = sorted({record["seed"] for record in records})
    chosen = list(dict.fromkeys(record["column"] for record in records))
    for place, method in enumerate(result["method"] for result in records[0]["results"]):
        table: dict[str, dict[str, list[float]]] = {}
        for column in chosen:
            own = [[r for r in records if r["column"] == column and r["seed"] == seed] for seed in seeds]
            table[column] = {
                key: [_percent([record["results"][place][key] for record in some]) for some in own]
                for key in ("fpr95", "auroc")
            }
        table["mean"] = {
            key: [
                round(statistics.mean(one), 3) for one in zip(*(table[c][key] for c in chosen), strict=True)
            ]
            for key in ("fpr95", "auroc")
        }
        found[method] = table
    return found


def result_table(result: dict[str, dict[str, Any]], best: int) -> Table:
    """Return a table of every candidate with its ``best`` methods by mean AUROC."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for header in ("prompts", "score", "FPR95↓", "AUROC↑", "CPU s"):
        table.add_column(header, justify="left" if header in ("prompts", "score") else "right")
    for name, row in result.items():
        methods = {method: table_ for method, table_ in row.items() if isinstance(table_, dict)}
        ranked = sorted(methods, key=lambda m: -statistics.mean(methods[m]["mean"]["auroc"]))
        for place, method in enumerate(ranked[:best]):
            mean = methods[method]["mean"]
            seconds = f"{row['learning_cpu_seconds']:.0f}" if not place else ""
            table.add_row(
                name if not place else "", method, _cell(mean["fpr95"]), _cell(mean["auroc"]), seconds
            )
    return table


def _percent(values: Sequence[float]) -> float:
    return round(100 * statistics.mean(values), 3)


def _cell(values: Sequence[float]) -> str:
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.2f}±{spread:.2f}"


def main() -> None:
    """Read the options, run a stage, print and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("stage", choices=tuple(COLUMNS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--splits", type=int, default=2, help="of a column, for confirm")
    parser.add_argument("--columns", default="", help="separated by commas")
    parser.add_argument("--only", default="", help="candidates whose name contains this")
    parser.add_argument("--jobs", type=int, default=2, help="processes, one thread each")
    parser.add_argument("--cache", type=Path, default=store.default_cache())
    parser.add_argument("--output", type=Path, help="default benchmarks/results/study-<stage>.json")
    given = parser.parse_args()
    file = given.cache / "results" / f"study-{given.stage}.jsonl"
    made = {"fast": fast_candidates, "losses": loss_candidates, "choose": finalists}
    candidates = made.get(given.stage, preset_candidates)()
    chosen = tuple(given.columns.split(",")) if given.columns else COLUMNS[given.stage]
    if given.stage == "confirm":
        places = test_places(given.seeds, given.splits, chosen)
    else:
        places = validation_places(given.seeds, chosen)
    methods = own_methods if given.stage in ("fast", "confirm") else lambda no: (MCM, *LSN, *LOGIT, *NO)
    candidates = [candidate for candidate in candidates if given.only in candidate[0]]
    result = run(candidates, places, methods, given.cache, file, given.jobs)
    out.print(result_table(result, best=4))
    output = given.output or RESULTS / f"study-{given.stage}.json"
    record = {
        "what": (__doc__ or "").splitlines()[0],
        "stage": given.stage,
        "seeds": given.seeds,
        "places": sorted({str(place).rpartition(", seed")[0] for place in places}),
        "rows": result,
    }
    write(output, record, indent=None)
    say(f"Written: {output}")


if __name__ == "__main__":
    store.exit_like_lsn(main)
