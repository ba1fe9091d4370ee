"""The whole way on bundled material: learn, compare, then score real photos. Reduced schedules, named so."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import as_file, files
from importlib.util import find_spec
from pathlib import Path

from lsncli.app.evaluate import Evaluation, choose_splits, evaluate
from lsncli.app.methods import parse_method
from lsncli.app.train import Plan, plan_negative, plan_positive, train_negative, train_positive
from lsncli.app.workspace import Workspace
from lsncli.backbones import Backbone, load_again
from lsncli.console import Tick
from lsncli.prompts.negative import negative_steps
from lsncli.prompts.settings import NEGATIVE, POSITIVE
from lsncli.store.reader import read_fingerprint

POSITIVE_SETTINGS = replace(POSITIVE["paper"], epochs=20, batch_size=64, rate=0.02)
NEGATIVE_SETTINGS = replace(NEGATIVE["paper"], epochs=20, batch_size=64, rate=0.002)
REDUCED = (
    "Reduced schedules, to take a minute on two cores: 20 epochs in batches of 64 instead of the paper's "
    "50 and 100 epochs in batches of 8, with higher rates."
)
METHODS = ("mcm", "mcm:positive", "lsn")

PHOTOS = {
    "sklearn": ("datasets/images", ("china.jpg", "flower.jpg")),
    "skimage": (
        "data",
        ("astronaut.png", "brick.png", "chelsea.png", "coffee.png", "coins.png", "grass.png")
        + ("hubble_deep_field.jpg", "motorcycle_left.png", "retina.jpg", "rocket.jpg"),
    ),
}
"""Sample photos that other packages bring along."""


@dataclass(frozen=True)
class Demo:
    """A workspace with the bundled features, the mini model, and what there is to do."""

    work: Workspace
    backbone: Backbone


def prepare(folder: Path) -> Demo:
    """Copy the bundled store of features into ``folder`` and load the model that made them."""
    work = Workspace(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with as_file(files("lsncli.facts") / "demo_features.h5") as bundled:
        shutil.copyfile(bundled, work.features)
    return Demo(work, load_again(read_fingerprint(work.features), device="cpu"))


def learn_yes(demo: Demo, plan: Plan, tick: Tick) -> None:
    """Positive prompts on the planned rows."""
    train_positive(demo.work, demo.backbone, plan, POSITIVE_SETTINGS, tick=tick)


def learn_no(demo: Demo, plan: Plan, tick: Tick) -> None:
    """Negative prompts on the same rows; the detector that remains is LSN's."""
    train_negative(demo.work, demo.backbone, plan, NEGATIVE_SETTINGS, tick=tick)
