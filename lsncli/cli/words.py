"""``lsn words``: the words that can be negative labels, and which of them given classes leave."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lsncli.cli import options
from lsncli.cli.extract import model_for
from lsncli.cli.score_inputs import class_list
from lsncli.console import progress_bar, remarks, say
from lsncli.methods.workspace import Workspace
from lsncli.report.formats import FORMATS, Column, render

if TYPE_CHECKING:
    from lsncli.methods.words import Words

FILES = [
    Column("file", "File of WordNet"),
    Column("words", "Words", digits=0),
    Column("proper", "Proper", digits=0),
    Column("neglabel", "NegLabel"),
    Column("csp", "CSP"),
]
KEPT = [
    Column("word", "Word", wide=True),
    Column("nearest", "Nearest class"),
    Column("cosine", "Cosine", digits=4),
]
SHOWN = 20


def words(
    classes: Annotated[
        str | None,
        typer.Option(
            help="Choose words for these classes: 'cat,dog,truck', or a .txt of one a line.", metavar="NAMES"
        ),
    ] = None,
    words: options.WordList = "auto",
    drop: Annotated[
        Literal["none", "proper", "kinds", "both"],
        typer.Option(help="Also drop proper nouns, or kinds of a class in WordNet."),
    ] = "none",
    work: options.WorkFolder = options.DEFAULT_WORK,
    model: options.ClassNamesModel = None,
    pretrained: options.Pretrained = "",
    device: options.Device = "auto",
    format: options.Format = "table",
    output: options.Output = None,
    quiet: options.Quiet = False,
) -> None:
    """List WordNet's words by file, or those that are far from given classes.

    Examples:
        lsn words
        lsn words --classes "cat,dog,truck" --model mini
        lsn words --classes "cat,dog,truck" --words csp --format csv

    The words of a choice are what `lsn score --classes` compares an image with. People see the nearest of
    them and the counts, programs all words.
    """
    if classes is None:
        render(_file_rows(), FILES, format, output)
        return
    with options.loading(quiet):
        from lsncli.methods.words import announcing_words, choice_for, select_words, word_encoder

        backbone = model_for(Workspace(work), model, pretrained, None, device)
        encoder = word_encoder(backbone)
    name, names = backbone.fingerprint.model, class_list(classes)
    choice = choice_for(words, name, drop=drop)
    with progress_bar("words", len(choice.pool().words), quiet=quiet) as progress:
        announced = announcing_words(choice, name, remarks(quiet), progress)
        chosen = select_words(choice, names, encoder, progress=announced)
    rows = _kept_rows(chosen, names)
    people = FORMATS[format].people
    render(rows[:SHOWN] if people else rows, KEPT, format, output)
    for why, dropped in chosen.dropped.items():
        some = ", ".join(dropped[:8]) + (", ..." if len(dropped) > 8 else "")
        say(f"Dropped: {why}: {len(dropped):,} ({some}).", quiet=quiet)
    say(
        f"{len(chosen.words):,} of {chosen.pool:,} words of {choice.name} are far from the classes"
        + (f"; these {SHOWN} are the nearest." if people and len(rows) > SHOWN else "."),
        quiet=quiet,
    )


def _file_rows() -> list[dict[str, object]]:
    """Return a row for each lexicographer file of WordNet."""
    from lsncli.methods.text_recipes import RECIPES
    from lsncli.reference.wordnet import is_proper, words_by_file

    return [
        {
            "file": name,
            "words": len(some),
            "proper": sum(map(is_proper, some)),
            **{key: name not in recipe.left_out for key, recipe in RECIPES.items()},
        }
        for name, some in words_by_file().items()
    ]


def _kept_rows(chosen: "Words", classes: list[str]) -> list[dict[str, object]]:
    """Return a row for each chosen word with its nearest class, the nearest first."""
    import numpy as np

    cosines = chosen.features @ chosen.classes.T
    nearest = cosines.argmax(axis=1)
    order = np.argsort(-cosines.max(axis=1), kind="stable")
    return [
        {"word": chosen.words[row], "nearest": classes[nearest[row]], "cosine": float(cosines[row].max())}
        for row in order.tolist()
    ]
