"""The demo: learn prompts on bundled features, compare methods, and score real photos, in about a minute."""

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
from lsncli.files import write_atomic
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
"""Sample photos in other packages: package -> folder in it, files."""


@dataclass(frozen=True)
class Demo:
    """A workspace with the bundled features, and the model that computed them."""

    work: Workspace
    backbone: Backbone


def prepare_demo(folder: Path) -> Demo:
    """Copy the bundled store of features into ``folder`` and load the mini model."""
    work = Workspace(folder)
    write_atomic(work.features, (files("lsncli.reference") / "demo_features.h5").read_bytes())
    return Demo(work, load_again(read_fingerprint(work.features), device="cpu"))


def split_rows(demo: Demo) -> list[dict[str, object]]:
    """Return a row for each split: name, rows, classes and source."""
    splits = list_splits(demo.work.features).values()
    return [{"split": s.name, "rows": s.rows, "classes": len(s.classes), "source": s.source} for s in splits]


def steps(plan: TrainingData) -> tuple[int, int]:
    """Return the numbers of steps of ``train_positive`` and ``train_negative``, for progress bars."""
    rows = len(plan.rows.train)
    return learner_steps(rows, POSITIVE_SETTINGS), learner_steps(rows, NEGATIVE_SETTINGS)


def train_positive(demo: Demo, plan: TrainingData, progress: ProgressCallback) -> None:
    """Learn positive prompts on the planned rows."""
    train_prompts(demo.work, demo.backbone, plan, POSITIVE_SETTINGS, progress=progress)


def train_negative(demo: Demo, plan: TrainingData, progress: ProgressCallback) -> SavedDetector:
    """Learn negative prompts on the same rows; return the LSN detector."""
    return train_prompts(demo.work, demo.backbone, plan, NEGATIVE_SETTINGS, progress=progress).detector


def compare(demo: Demo) -> Evaluation:
    """Evaluate MCM, CoOp + MCM and CoOp + LSN on each bundled OOD split. Raises LsnError if one fails."""
    inside, outside = choose_splits(demo.work, "test", (), "train")
    methods = [parse_method(name) for name in METHODS]
    evaluation = evaluate(plan_evaluation(demo.work, methods, inside, outside, "train"))
    for method, reason in evaluation.failed:
        raise LsnError(f"{method}: {reason}")
    return evaluation


def score_photos(demo: Demo, detector: SavedDetector, progress: ProgressCallback) -> list[Verdict]:
    """Return verdicts on the sample photos of installed packages, the highest score first."""
    listing = list_images(sample_photos())
    verdicts: list[Verdict] = []
    for done, batch in detect(listing, detector, demo.backbone, batch_size=16, workers=2):
        verdicts += [verdict for verdict in batch if verdict.error is None]
        progress(done)
    shown = [replace(verdict, path=Path(verdict.path or "").name) for verdict in verdicts]
    return sorted(shown, key=lambda verdict: -(verdict.score or 0.0))


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
