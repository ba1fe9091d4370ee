"""The whole way on bundled material: learn, compare, then score real photos. Reduced schedules, named so."""

from dataclasses import dataclass, replace
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from lsncli.artefacts.detector import SavedDetector
from lsncli.backbones import Backbone, load_again
from lsncli.console import ProgressCallback
from lsncli.detection.detect import Verdict, detect
from lsncli.errors import LsnError
from lsncli.evaluation.evaluate import Evaluation, choose_splits, evaluate, plan_evaluation
from lsncli.files import write_whole
from lsncli.images.listing import list_images
from lsncli.methods.spec import parse_method
from lsncli.methods.workspace import Workspace
from lsncli.prompts.learner import steps as learner_steps
from lsncli.prompts.settings import preset
from lsncli.store.reader import list_splits, read_fingerprint
from lsncli.training.prompts import TrainingData, train_prompts

POSITIVE_SETTINGS = preset("positive", epochs=20, batch_size=64, rate=0.02)
NEGATIVE_SETTINGS = preset("negative", epochs=20, batch_size=64, rate=0.002)
REDUCED = (
    "Reduced schedules, to take a minute on two cores: 20 epochs in batches of 64 instead of the paper's "
    "50 and 100 epochs in batches of 8, with higher rates."
)
METHODS = ("mcm", "mcm:positive", "lsn")

PHOTOS = {
    "sklearn": ("datasets/images", "china.jpg flower.jpg"),
    "skimage": (
        "data",
        "astronaut.png brick.png chelsea.png coffee.png coins.png grass.png hubble_deep_field.jpg "
        "motorcycle_left.png retina.jpg rocket.jpg",
    ),
}
"""Sample photos that other packages bring along: package -> folder in it, files."""


@dataclass(frozen=True)
class Demo:
    """A workspace with the bundled features, and the model that made them."""

    work: Workspace
    backbone: Backbone


def prepare_demo(folder: Path) -> Demo:
    """Copy the bundled store of features into ``folder`` and load the mini model."""
    work = Workspace(folder)
    write_whole(work.features, (files("lsncli.reference") / "demo_features.h5").read_bytes())
    return Demo(work, load_again(read_fingerprint(work.features), device="cpu"))


def split_rows(demo: Demo) -> list[dict[str, object]]:
    """One row a split: name, rows, classes and what its images are."""
    splits = list_splits(demo.work.features).values()
    return [{"split": s.name, "rows": s.rows, "classes": len(s.classes), "source": s.source} for s in splits]


def steps(plan: TrainingData) -> tuple[int, int]:
    """Steps of ``train_positive`` and of ``train_negative``, for progress bars."""
    rows = len(plan.rows.train)
    return learner_steps(rows, POSITIVE_SETTINGS), learner_steps(rows, NEGATIVE_SETTINGS)


def train_positive(demo: Demo, plan: TrainingData, progress: ProgressCallback) -> None:
    """Positive prompts on the planned rows."""
    train_prompts(demo.work, demo.backbone, plan, POSITIVE_SETTINGS, progress=progress)


def train_negative(demo: Demo, plan: TrainingData, progress: ProgressCallback) -> SavedDetector:
    """Negative prompts on the same rows, and the LSN detector that they make."""
    return train_prompts(demo.work, demo.backbone, plan, NEGATIVE_SETTINGS, progress=progress).detector


def compare(demo: Demo) -> Evaluation:
    """MCM, CoOp + MCM and CoOp + LSN on every bundled OOD split. Raises LsnError if one of them fails."""
    inside, outside = choose_splits(demo.work, "test", (), "train")
    methods = [parse_method(name) for name in METHODS]
    found = evaluate(plan_evaluation(demo.work, methods, inside, outside, "train"))
    for method, reason in found.failed:
        raise LsnError(f"{method}: {reason}")
    return found


def score_photos(demo: Demo, detector: SavedDetector, progress: ProgressCallback) -> list[Verdict]:
    """Verdicts on the sample photos of installed packages, those that belong most first."""
    listing = list_images(sample_photos())
    verdicts: list[Verdict] = []
    for done, batch in detect(listing, detector, demo.backbone, batch_size=16, workers=2):
        verdicts += [verdict for verdict in batch if verdict.error is None]
        progress(done)
    shown = [replace(verdict, path=Path(verdict.path or "").name) for verdict in verdicts]
    return sorted(shown, key=lambda verdict: -(verdict.score or 0.0))


def sample_photos() -> list[Path]:
    """The photo files of ``PHOTOS`` that are installed here."""
    places: list[Path] = []
    for package, (folder, names) in PHOTOS.items():
        if find_spec(package):
            places += [Path(str(files(package))) / folder / name for name in names.split()]
    return [place for place in places if place.is_file()]


def missing_packages() -> list[str]:
    """Packages that would bring more photos."""
    names = {"sklearn": "scikit-learn", "skimage": "scikit-image"}
    return [names[package] for package in PHOTOS if not find_spec(package)]
