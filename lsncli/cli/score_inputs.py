"""The detector of a command: the workspace's, or one of class names alone (``--classes``)."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lsncli.cli.extract import model_for
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
    place: Workspace, classes: str | None, model: ModelOptions
) -> "tuple[SavedDetector, Backbone | None]":
    """The workspace's detector, or one of nothing but class names with the model that it took to make it."""
    from lsncli.artefacts.detector import load_detector
    from lsncli.detection.zero_shot import checked_names, zero_shot_detector

    if classes is None:
        return load_detector(place.detector), None
    names = checked_names(class_list(classes))  # before a model is fetched for them
    backbone = model_for(place, model.name, model.pretrained, None, model.device)
    return zero_shot_detector(names, backbone), backbone


def check_model(context: typer.Context, classes: str | None) -> None:
    """Raise UsageError for a --model that would be ignored (LSN_MODEL and lsn.toml are for others, too)."""
    source = context.get_parameter_source("model")
    if classes is None and source and source.name == "COMMANDLINE":
        raise UsageError("--model goes with --classes: a detector has its model.", "Leave --model out.")


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
