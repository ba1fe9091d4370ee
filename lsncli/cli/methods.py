"""``lsn methods``: the scores there are."""

from lsncli.cli import options
from lsncli.report.render import Column, render

COLUMNS = [
    Column("name", "Score"),
    Column("needs", "Needs"),
    Column("settings", "Settings", wide=True),
    Column("summary", "What it is", wide=True),
]


def methods(format: options.Format = "table", output: options.Output = None) -> None:
    """List every score with what it needs beside text features, its settings and its formula."""
    from lsncli.scores import SCORES, load_score, score_settings
    from lsncli.scores.score import NEEDS

    rows = []
    for name in SCORES:
        score = load_score(name)
        rows.append(
            {
                "name": name,
                "needs": ", ".join(NEEDS[need] for need in sorted(score.NEEDS)),
                "settings": ", ".join(f"{key}={value}" for key, (_, value) in score_settings(name).items()),
                "summary": (type(score).__doc__ or "").strip().splitlines()[0],
            }
        )
    render(rows, COLUMNS, format, output)
