"""The detector of a command: the workspace's, or one of class names alone (``--classes``)."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lsncli.cli import options
from lsncli.cli.extract import model_for
from lsncli.console import progress_bar, remarks
from lsncli.errors import UsageError
from lsncli.methods.workspace import Workspace

if TYPE_CHECKING:
    from lsncli.artefacts.detector import SavedDetector
    from lsncli.backbones import Backbone


@dataclass(frozen=True)
class ModelOptions:
    """The model options of a command."""

    name: str | None
    pretrained: str
    device: str


def detector_for(
    place: Workspace, classes: str | None, model: ModelOptions, words: str, quiet: bool
) -> "tuple[SavedDetector, Backbone | None]":
    """The workspace's detector, or one of nothing but class names with the model that it took to make it."""
    with options.loading(quiet):
        from lsncli.artefacts.detector import load_detector
        from lsncli.detection.zero_shot import checked_names

        if classes is None:
            return load_detector(place.detector), None
        names = checked_names(class_list(classes))  # before a model is fetched for them
        backbone = model_for(place, model.name, model.pretrained, None, model.device)
    return _zero_shot(names, backbone, words, quiet), backbone


def _zero_shot(names: Sequence[str], backbone: "Backbone", words: str, quiet: bool) -> "SavedDetector":
    """Make a detector of class names; says how long it takes to encode words for the first time."""
    from lsncli.detection.zero_shot import zero_shot_detector
    from lsncli.methods.words import announcing_words, choice_for

    model = backbone.fingerprint.model
    choice = choice_for(words, model)
    with progress_bar("words", len(choice.pool().words), quiet=quiet) as progress:
        announced = announcing_words(choice, model, remarks(quiet), progress)
        return zero_shot_detector(names, backbone, words, announced)


def check_model(context: typer.Context, classes: str | None) -> None:
    """Raise UsageError for a --model or --words that would be ignored.

    LSN_MODEL, LSN_WORDS and lsn.toml are for other commands, too.
    """
    for name in ("model", "words"):
        source = context.get_parameter_source(name)
        if classes is None and source and source.name == "COMMANDLINE":
            raise UsageError(
                f"--{name} goes with --classes: a detector has its {name}.", f"Leave --{name} out."
            )


def check_rate(target_tpr: float | None, false_alarms: float | None, classes: str | None) -> None:
    """Raise UsageError for rates that are no fractions or do not go together; load no detector."""
    given = {"--target-tpr": target_tpr, "--false-alarms": false_alarms}
    named = [name for name, value in given.items() if value is not None]
    if not named:
        return
    if len(named) > 1:
        raise UsageError(
            "--target-tpr and --false-alarms are two rules for one verdict: expected one, found both.",
            "Leave one out.",
        )
    if classes is not None:
        raise UsageError(
            f"{named[0]} compares with held-out ID images, and --classes alone has none.",
            "Set a threshold first: lsn calibrate ./good-images --classes NAMES; then leave --classes out.",
        )
    from lsncli.threshold import check_false_alarms, check_target_tpr

    if target_tpr is not None:
        check_target_tpr(target_tpr)
    if false_alarms is not None:
        check_false_alarms(false_alarms)


def class_list(text: str) -> list[str]:
    """Return the class names: between commas, or one a line in a file that ends in .txt.

    Raises UsageError for a file that cannot be read, and for one that ends otherwise, whose path would be a
    name.
    """
    if not text.lower().endswith(".txt"):
        if "," not in text and "\0" not in text and os.path.splitext(text)[1] and os.path.isfile(text):
            raise UsageError(
                f"--classes {text} is a file, but does not end in .txt.",
                "Give names with commas between, or a .txt with one a line.",
            )
        return text.split(",")
    from lsncli.images.names_file import read_name_lines

    return read_name_lines(Path(text))
