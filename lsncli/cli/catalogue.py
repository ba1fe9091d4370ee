"""``lsn methods`` and ``lsn models``: the scores, and the models that ``--model`` accepts."""

import inspect
import re
from typing import Annotated

import typer

from lsncli.cli import options
from lsncli.console import out, say
from lsncli.report.formats import FORMATS, Column, render

COLUMNS = [
    Column("name", "Score"),
    Column("form", "Form"),
    Column("cited", "Paper"),
    Column("needs", "Needs", wide=True),
    Column("settings", "Settings", wide=True),
]
MORE = [
    Column("reduced", "Left out"),
    Column("head", "Head"),
    Column("summary", "What it is"),
    Column("paper", "Paper"),
    Column("source", "Source"),
]
"""Further columns for programs."""


def methods(
    name: Annotated[
        str | None, typer.Argument(help="One score: its formula, paper, source, defaults and settings.")
    ] = None,
    format: options.Format = "table",
    output: options.Output = None,
) -> None:
    """List the scores: what each needs, and whether its form is full or reduced.

    Examples:
        lsn methods
        lsn methods knn                  # formula, paper, defaults and settings

    Every score needs features and a head, such as class names. A reduced form leaves out what stored features
    cannot give; `lsn methods NAME` says what, and everything else about a score.
    """
    from lsncli.methods.spec import default_head
    from lsncli.scores import SCORES, load_score, score_settings
    from lsncli.scores.score import NEEDS

    if name is not None:
        score = load_score(name)
        reduced = f"\n\nReduced: {score.REDUCED}." if score.REDUCED else ""
        out.print(f"{name}: {inspect.getdoc(type(score))}{reduced}", markup=False, soft_wrap=True)
        return
    rows = []
    for name in SCORES:
        score = load_score(name)
        text = type(score).__doc__ or ""
        implied = {"train"} if "labels" in score.NEEDS else set()
        rows.append(
            {
                "name": name,
                "form": "reduced" if score.REDUCED else "full",
                "cited": _cited(_passage(text, "Paper")),
                "needs": ", ".join(NEEDS[need] for need in sorted(score.NEEDS) if need not in implied),
                "settings": ", ".join(f"{key}={value}" for key, (_, value) in score_settings(name).items()),
                "paper": _passage(text, "Paper"),
                "reduced": score.REDUCED,
                "head": default_head(name),
                "summary": text.strip().splitlines()[0],
                "source": _passage(text, "Source"),
            }
        )
    render(rows, COLUMNS if FORMATS[format].people else [*COLUMNS, *MORE], format, output)


def _passage(text: str, word: str) -> str:
    """Return the text after ``word:`` in a docstring, up to the next such word or empty line, as one line."""
    match = re.search(rf"\b{word}: (.*?)(?=\n\s*\n|\n?\s*\b(?:Paper|Source|Default): |\Z)", text, re.DOTALL)
    return " ".join(match.group(1).split()) if match else ""


def _cited(paper: str) -> str:
    """Return authors, venue and year, such as "Ming et al., NeurIPS 2022"."""
    match = re.search(r"^(.*?), .*?([A-Z][\w ]*? \d{4})", paper)
    return f"{match.group(1)}, {match.group(2)}" if match else paper


SIZES = [Column("dim", "D", digits=0), Column("image_size", "Pixels", digits=0)]
TEXT_PATH = Column("text_path", "Text path", wide=True)
ARCHITECTURES = [
    Column("name", "Model"),
    *SIZES,
    Column("text", "Text"),
    Column("weights", "Weights", digits=0),
    TEXT_PATH,
]
KIND = [Column("kind", "Kind"), Column("about", "About")]
"""Columns for programs; people get this text below the table."""
WEIGHTS = [Column("model", "--model"), *SIZES, TEXT_PATH]


def models(
    pattern: Annotated[str, typer.Argument(help="Only names that contain this, such as vit-b.")] = "",
    weights: Annotated[
        bool, typer.Option("--weights", help="A row for each set of weights, as --model takes it.")
    ] = False,
    format: options.Format = "table",
    output: options.Output = None,
    quiet: options.Quiet = False,
) -> None:
    """List the models that --model accepts, the paper's first.

    Examples:
        lsn models
        lsn models vit-b --weights       # each set of weights, as --model takes it

    Prompts are computed in a fast or a plain way; both are exact. The fast one shares and skips work where
    the text encoder is CLIP's own.
    """
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
    render(rows, columns if FORMATS[format].people else [*columns, *KIND], format, output)
    for kind in by_kind:
        say(f"{kind}: {BACKBONES[kind].about}", quiet=quiet)
