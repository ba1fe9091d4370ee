"""Score histograms and ROC curves of every measured row of a table."""

from pathlib import Path

from lsncli.bench.jobs import ScoreJob
from lsncli.bench.measure import scored
from lsncli.bench.plan import BenchPlan
from lsncli.bench.suite_workspace import same_backbone
from lsncli.bench.training_jobs import loader
from lsncli.console import progress_bar
from lsncli.device import pick_device
from lsncli.report.evaluation_plots import draw_scores
from lsncli.report.plots import unique_stem


def draw_rows(plan: BenchPlan, folder: Path, *, quiet: bool = False) -> list[Path]:
    """Draw what ``plan`` has measured from the first seed, a figure for each row and split of an ID set.

    The png files; beside each are an svg and the numbers as csv. Scores come from the suite's cache, or are
    computed again. Raises LsnError if a file cannot be written or features are gone.
    """
    todo = [score for score in plan.scores if score.seed == 0 and score.keys and plan.done(score)]
    written: list[Path] = []
    several = {score.place.id for score in todo if score.place.split}
    with progress_bar("figures", len(todo), quiet=quiet) as progress:
        for score in sorted(todo, key=lambda one: (one.line.model, str(one.place))):  # a place is read once
            where = str(score.place) if score.place.id in several else score.place.id
            name = unique_stem(f"{score.line.name} on {where}", [path.stem for path in written])
            written.append(_draw(plan, score, folder, name, where))
            progress(1, str(score))
    return written


def _draw(plan: BenchPlan, score: ScoreJob, folder: Path, name: str, where: str) -> Path:
    suite_work = plan.suite_work
    work, weights = suite_work.workspace(score.line.model), suite_work.weights(score.line.model)
    device = str(pick_device(suite_work.device))
    task = loader(work.features).load(score.place)
    found, _ = scored(
        score,
        list(score.keys),
        work,
        task,
        lambda: same_backbone(work.features, weights, device),
        device=device,
    )
    scores = found.entrants[0].scores
    outside = {ood: scores[split.name] for ood, split in task.ood.items()}
    title = f"{score.line.name} ({score.method}), ID: {where}"
    return draw_scores(folder, name, title, score.place.id, scores[task.test.name], outside)
