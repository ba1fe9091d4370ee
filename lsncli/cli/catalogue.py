"""``lsn methods`` and ``lsn models``: the scores, and the models that ``--model`` accepts."""

import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lsncli.cli import options
from lsncli.console import out, say, wrapped
from lsncli.report.formats import FORMATS, Column, render, width

if TYPE_CHECKING:
    from lsncli.scores.score import Score

FOR_PEOPLE = [
    Column("name", "Score"),
    Column("year", "Paper"),
    Column("needed", "Needs"),
    Column("about", "What it measures", wide=True),
]
FOR_PROGRAMS = [
    Column(key, key)
    for key in (
        "name",
        "form",
        "cited",
        "needs",
        "settings",
        "reduced",
        "head",
        "summary",
        "paper",
        "source",
        "about",
    )
]
SHORT_NEEDS = {"train": "rows", "labels": "labelled rows"}
"""Needs in a list for people, where they are shorter than in ``score.NEEDS``."""
USUAL_NEEDS = ("weights",)
"""Left out of a list for people: every head has fixed weights but that of CoCoOp."""


def methods(
    name: Annotated[
        str | None, typer.Argument(help="One score: its formula, paper, source, defaults and settings.")
    ] = None,
    format: options.Format = "table",
    output: options.Output = None,
    quiet: options.Quiet = False,
) -> None:
    """List the scores: what each needs, and whether its form is full or reduced.

    Examples:
        lsn methods
        lsn methods knn                  # formula, paper, defaults and settings

    Every score needs features and a head, such as class names. A reduced form leaves out what stored features
    cannot give; `lsn methods NAME` says what, and everything else about a score.
    """
    from lsncli.methods.spec import default_head
    from lsncli.scores import SCORES, load_score
    from lsncli.scores.score import NEEDS
    from lsncli.scores.summaries import SUMMARIES

    if name is not None:
        _describe(name)
        return
    rows = []
    for name in SCORES:
        score = load_score(name)
        text = type(score).__doc__ or ""
        needs = _needs(score)
        paper, summary = _passage(text, "Paper"), text.strip().splitlines()[0]
        rows.append(
            {
                "name": name,
                "year": _year(paper),
                "needed": ", ".join(SHORT_NEEDS.get(n, NEEDS[n]) for n in needs if n not in USUAL_NEEDS),
                "about": SUMMARIES.get(name, summary),
                "form": "reduced" if score.REDUCED else "full",
                "cited": _cited(paper),
                "needs": ", ".join(NEEDS[need] for need in needs),
                "settings": _settings(name),
                "paper": paper,
                "reduced": score.REDUCED,
                "head": default_head(name),
                "summary": summary,
                "source": _passage(text, "Source"),
            }
        )
    people = FORMATS[format].people
    render(rows, FOR_PEOPLE if people else FOR_PROGRAMS, format, output)
    if people:
        reduced = ", ".join(str(row["name"]) for row in rows if row["reduced"])
        say(f"Formula, paper and settings of one: lsn methods NAME. Reduced forms: {reduced}.", quiet=quiet)


LINE_BREAK = re.compile(r"(?<!\n)\n(?!\n| (?! \w)|    |[-*] |\w+: )(?:  (?=\w))?")
"""A line break within a paragraph or an item of a list, not before an item, a formula, or "Paper:"."""


def _describe(name: str) -> None:
    """Print everything about a score, wrapped at words."""
    from lsncli.methods.spec import default_head
    from lsncli.scores import load_score
    from lsncli.scores.score import NEEDS

    score = load_score(name)
    lines = [f"{name}: {LINE_BREAK.sub(' ', inspect.getdoc(type(score)) or '')}"]
    if score.REDUCED:
        lines.append(f"Reduced: {score.REDUCED}.")
    needs = ["features", f"a head (default: {default_head(name)})", *(NEEDS[need] for need in _needs(score))]
    lines.append(f"Needs: {', '.join(needs)}.")
    lines.append(f"Settings: {_settings(name) or 'none'}.")
    room = out.width if out.is_terminal else width()
    out.print(wrapped("\n\n".join(lines).replace("``", ""), room), markup=False, soft_wrap=True)


def _needs(score: "Score") -> list[str]:
    """Return the keys of ``NEEDS`` of a score; labelled rows are rows."""
    return [need for need in sorted(score.NEEDS) if (need, "labels" in score.NEEDS) != ("train", True)]


def _settings(name: str) -> str:
    """Return the settings of a score with their defaults."""
    from lsncli.scores import score_settings

    return ", ".join(f"{key}={value}" for key, (_, value) in score_settings(name).items())


def _passage(text: str, word: str) -> str:
    """Return the text after ``word:`` in a docstring, up to the next such word or empty line, as one line."""
    match = re.search(rf"\b{word}: (.*?)(?=\n\s*\n|\n?\s*\b(?:Paper|Source|Default): |\Z)", text, re.DOTALL)
    return " ".join(match.group(1).split()) if match else ""


def _cited(paper: str) -> str:
    """Return authors, venue and year, such as "Ming et al., NeurIPS 2022"."""
    match = re.search(r"^(.*?), .*?([A-Z][\w ]*? \d{4})", paper)
    return f"{match.group(1)}, {match.group(2)}" if match else paper


def _year(paper: str) -> str:
    """Return the first author and the year, such as "Ming 2022"."""
    match = re.search(r"^(\w+).*?(\d{4})", paper)
    return f"{match.group(1)} {match.group(2)}" if match else paper


RECOMMENDED_COLUMNS = [
    Column("model", "--model"),
    Column("megabytes", "MB", digits=0),
    Column("dim", "Embedding", digits=0),
    Column("image_size", "Pixels", digits=0, detail=True),
    Column("about", "What for", wide=True),
]
SIZES = [Column("dim", "Embedding", digits=0), Column("image_size", "Pixels", digits=0)]
TEXT_PATH = Column("text_path", "Text path", wide=True, detail=True)
ARCHITECTURES = [
    Column("name", "Model"),
    *SIZES,
    Column("text", "Text", detail=True),
    Column("weights", "Weights", digits=0),
    TEXT_PATH,
]
KIND = [Column("kind", "Kind"), Column("about", "About")]
"""Columns for programs; people get this text below the table."""
WEIGHTS = [Column("model", "--model"), *SIZES, TEXT_PATH]


def models(
    pattern: Annotated[
        str, typer.Argument(help="All whose names contain this, such as vit-b.", metavar="PART")
    ] = "",
    all: Annotated[bool, typer.Option("--all", help="Every architecture, the paper's first.")] = False,
    weights: Annotated[
        bool,
        typer.Option("--weights", help="Every model: a row for each set of weights, as --model takes it."),
    ] = False,
    format: options.Format = "table",
    output: options.Output = None,
    wide: options.Wide = False,
    quiet: options.Quiet = False,
) -> None:
    """List recommended models, or all that --model accepts.

    Examples:
        lsn models
        lsn models --all
        lsn models vit-b --weights       # each set of weights, as --model takes it

    Prompts are computed in a fast or a plain way; both are exact. The fast one shares and skips work where
    the text encoder is CLIP's own.
    """
    from lsncli.backbones import BACKBONES, USUAL

    if all or pattern or weights:
        kinds = _list_all(pattern, weights, format, output, wide)
    else:
        kinds = [kind for kind in BACKBONES if kind not in ("mini", USUAL)]  # those two are in the table
        _list_recommended(format, output, wide, quiet)
    for kind in kinds:
        say(f"{kind}: {BACKBONES[kind].about}", quiet=quiet)


def _list_recommended(format: options.FormatName, output: Path | None, wide: bool, quiet: bool) -> None:
    """Print the recommended models."""
    from lsncli.backbones import DEFAULT_MODEL
    from lsncli.backbones.recommended import RECOMMENDED

    rows = [vars(each) | {"megabytes": each.megabytes} for each in RECOMMENDED]
    render(rows, RECOMMENDED_COLUMNS, format, output, wide=wide)
    say(
        f"Default: {DEFAULT_MODEL}. All others: lsn models --all, or lsn models PART of a name. "
        "Sizes are about what is downloaded, once; mini comes with lsn.",
        quiet=quiet,
    )


def _list_all(
    pattern: str, weights: bool, format: options.FormatName, output: Path | None, wide: bool
) -> list[str]:
    """Print architectures, or sets of weights, whose names contain ``pattern``; return their kinds."""
    from lsncli.backbones import BACKBONES
    from lsncli.backbones.catalogue import architectures

    rows, by_kind = [], architectures(pattern)
    for kind, known in by_kind.items():
        for architecture in known:
            row = vars(architecture) | {
                "text_path": architecture.text_path,
                "weights": len(architecture.models),
            }
            row |= {"kind": kind, "about": BACKBONES[kind].about}
            rows += [row | {"model": model} for model in architecture.models] if weights else [row]
    columns = WEIGHTS if weights else ARCHITECTURES
    render(rows, columns if FORMATS[format].people else [*columns, *KIND], format, output, wide=wide)
    return list(by_kind)
