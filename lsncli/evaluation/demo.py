"""The demo: verdicts on photos from class names alone, then prompts learned from bundled features.

It takes about half a minute on two cores, and needs no network.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.resources import as_file, files
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lsncli.artefacts.detector import SavedDetector
from lsncli.backbones import Backbone, load_backbone
from lsncli.console import ProgressCallback, silent
from lsncli.detection.detect import Verdict, detect
from lsncli.detection.zero_shot import zero_shot_detector
from lsncli.errors import LsnError
from lsncli.evaluation.evaluate import Evaluation, choose_splits, evaluate, plan_evaluation
from lsncli.images.listing import list_images
from lsncli.methods.spec import parse_method
from lsncli.methods.workspace import Workspace
from lsncli.prompts.learner import steps
from lsncli.prompts.settings import Kind, PromptSettings, preset
from lsncli.store.format import Split
from lsncli.store.reader import list_splits, read_fingerprint, read_split
from lsncli.store.writer import write_split
from lsncli.training.duration import announcing_training
from lsncli.training.prompts import plan_positive, train_prompts

NAMES = ("cat", "espresso", "motorcycle")
"""The classes of the first part, of which nothing but the names is known."""

PHOTOS = {
    "sklearn": ("datasets/images", "china.jpg flower.jpg"),
    "skimage": (
        "data",
        "astronaut.png brick.png camera.png cell.png chelsea.png clock_motion.png coffee.png coins.png "
        "grass.png gravel.png hubble_deep_field.jpg moon.png motorcycle_left.png motorcycle_right.png "
        "page.png retina.jpg rocket.jpg text.png",
    ),
}
"""Sample photos in other packages: package -> folder in it, files."""

STORE = "mini_features.h5"
"""The features of the suite ``mini``, in ``lsncli.reference``."""


@dataclass(frozen=True)
class DemoSplit:
    """A split of the demo: the bundled set that it comes from, what it is, and which of its rows."""

    source: str
    title: str
    rows: Callable[[Split], NDArray[np.bool_]] | None = None
    """Mask of the rows (N,) that are taken; None takes all."""


def _other_classes(split: Split) -> NDArray[np.bool_]:
    """Select the photos of classes of odd number that are not Imagenette's.

    The mini model was trained on photos of even number, one for each class.
    """
    folders = np.array([key.partition("/")[0] for key in split.keys])
    number = np.unique(folders, return_inverse=True)[1]
    with as_file(files("lsncli.reference") / STORE) as store:
        inside = {key.partition("/")[0] for key in read_split(store, SPLITS["train"].source).keys}
    chosen: NDArray[np.bool_] = (number % 2 == 1) & ~np.isin(folders, sorted(inside))
    return chosen


SPLITS = {
    "train": DemoSplit("imagenette-train", "Imagenette, 64 photos of each of ten classes (ID)"),
    "test": DemoSplit("imagenette-val", "Imagenette, 60 other photos of each class (ID)"),
    "other": DemoSplit(
        "imagenet-1perclass", "ImageNet, a photo of each of many other classes (OOD)", _other_classes
    ),
    "flowers": DemoSplit("plants-flowers", "Oxford Flowers-102, 99 classes (OOD)"),
    "textures": DemoSplit("textures-dtd10", "Textures (DTD), its first 10 classes (OOD)"),
}
"""The splits by name. All photos are about as large: 180 to 224 pixels on the shorter side."""

METHODS = {
    "mcm": "MCM (nothing is learned)",
    "energy": "energy (nothing is learned)",
    "mcm:positive": "CoOp + MCM",
    "lsn,form=paper": "CoOp + LSN, the paper's score",
    "lsn": "CoOp + LSN, the default",
}
"""The methods that are compared, and their titles."""


@dataclass(frozen=True)
class Demo:
    """A workspace with the bundled features, and the model that computed them."""

    work: Workspace
    backbone: Backbone


def prepare_demo(folder: Path) -> Demo:
    """Load the mini model, and write the bundled features into the workspace ``folder``.

    Raises LsnError if it has a split of the same name that is not the demo's.
    """
    work = Workspace(folder)
    folder.mkdir(parents=True, exist_ok=True)
    stored = list_splits(work.features) if work.features.is_file() else {}
    for name, split in SPLITS.items():
        if name not in stored:
            _write(work.features, name, split)
        elif stored[name].source != split.title:
            raise LsnError(
                f"{work.features} has a split '{name}' that is not the demo's.",
                "Name another folder with --work.",
            )
    return Demo(work, load_backbone("mini", device="cpu"))


def _write(path: Path, name: str, chosen: DemoSplit) -> None:
    """Copy a split of the bundled store to the store at ``path``."""
    with as_file(files("lsncli.reference") / STORE) as store:
        split, fingerprint = read_split(store, chosen.source), read_fingerprint(store)
    rows = np.flatnonzero(chosen.rows(split)) if chosen.rows else np.arange(len(split.labels))
    part = replace(
        split,
        name=name,
        features=split.features[rows],
        labels=split.labels[rows],
        keys=tuple(split.keys[row] for row in rows.tolist()),
        source=chosen.title,
    )
    write_split(path, part, fingerprint)


def split_rows(demo: Demo) -> list[dict[str, object]]:
    """Return a row for each split: name, rows, classes and source."""
    splits = list_splits(demo.work.features)
    return [{"split": name, "rows": splits[name].rows, "source": splits[name].source} for name in SPLITS]


def score_photos(demo: Demo, progress: ProgressCallback = silent) -> tuple[SavedDetector, list[Verdict]]:
    """Return a detector of ``NAMES`` and its verdicts on the sample photos, the lowest score first."""
    detector = zero_shot_detector(NAMES, demo.backbone)
    verdicts: list[Verdict] = []
    for done, batch in detect(
        list_images(sample_photos()), detector, demo.backbone, batch_size=16, workers=2
    ):
        verdicts += [replace(each, path=Path(each.path or "").name) for each in batch if each.error is None]
        progress(done)
    return detector, sorted(verdicts, key=lambda verdict: verdict.score or 0.0)


def sample_photos() -> list[Path]:
    """Return the files of ``PHOTOS`` that are installed."""
    paths: list[Path] = []
    for package, (folder, names) in PHOTOS.items():
        if find_spec(package):
            paths += [Path(str(files(package))) / folder / name for name in names.split()]
    return [path for path in paths if path.is_file()]


def missing_packages() -> list[str]:
    """Return the packages that have more photos and are not installed."""
    names = {"sklearn": "scikit-learn", "skimage": "scikit-image"}
    return [names[package] for package in PHOTOS if not find_spec(package)]


def learning_steps(demo: Demo, kind: Kind) -> int:
    """Return the number of steps that ``learn`` takes, for a progress bar."""
    return steps(len(plan_positive(demo.work).rows.train), _settings(kind))


def learn(
    demo: Demo, kind: Kind, progress: ProgressCallback = silent, remark: Callable[[str], None] = print
) -> SavedDetector:
    """Learn prompts of a kind as ``lsn train-pos`` and ``lsn train-neg`` do; return the detector."""
    plan, settings = plan_positive(demo.work), _settings(kind)
    announced = announcing_training(progress, settings, len(plan.rows.train), remark)
    return train_prompts(demo.work, demo.backbone, plan, settings, progress=announced).detector


def _settings(kind: Kind) -> PromptSettings:
    return preset(kind, "best")


def compare(demo: Demo, methods: Sequence[str] = tuple(METHODS)) -> Evaluation:
    """Evaluate the methods on each OOD split. Raises LsnError if one fails."""
    inside, outside = choose_splits(demo.work, "test", (), "train")
    parsed = [parse_method(name) for name in methods]
    evaluation = evaluate(plan_evaluation(demo.work, parsed, inside, outside, "train"))
    for method, reason in evaluation.failed:
        raise LsnError(f"{method}: {reason}")
    return evaluation
