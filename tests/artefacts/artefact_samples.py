"""Small artefacts, the same every time: the golden files were written from them."""

import numpy as np

from lsncli.artefacts.detector import SavedDetector
from lsncli.artefacts.heads import LearnedHead
from lsncli.artefacts.prompts import Conditional, HeadSource, HeldOut, LearnedPrompts
from lsncli.class_thresholds import scores_by_class
from lsncli.prompts.settings import Kind
from lsncli.threshold import Threshold
from lsncli.types import Fingerprint, unit

CLASSES = ("cät", "small dog")

FINGERPRINT = Fingerprint(
    model="ViT-B-32",
    pretrained="openai",
    weights="cd" * 32,
    dim=4,
    image_size=224,
    interpolation="bicubic",
    resize_mode="shortest",
    mean=(0.5, 0.25, 0.125),
    std=(0.25, 0.5, 0.25),
    precision="fp32",
    logit_scale=100.0,
)


def vectors(*shape: int) -> np.ndarray:
    """Numbers that need no random generator: 0.125, -0.25, 0.375, ..."""
    count = int(np.prod(shape))
    steps = np.arange(1, count + 1) * 0.125 * np.where(np.arange(count) % 2, -1, 1)
    return steps.reshape(shape)


def meta_nets(sets: int) -> dict[str, np.ndarray]:
    """Networks of 4 -> 3 -> 6 for features of 4 dimensions and words of 6."""
    shapes = {"hidden.weight": (3, 4), "hidden.bias": (3,), "out.weight": (6, 3), "out.bias": (6,)}
    return {name: vectors(sets, *shape).astype(np.float32) for name, shape in shapes.items()}


def prompts(kind: Kind = "negative", learner: str = "coop") -> LearnedPrompts:
    """Positive: two contexts that all classes share; negative: three sets of class-specific ones."""
    shape = (2,) if kind == "positive" else (3, 2)
    return LearnedPrompts(
        kind=kind,
        fingerprint=FINGERPRINT,
        classes=CLASSES,
        contexts=vectors(*shape, 5, 6).astype(np.float32),
        meta=meta_nets(shape[0]) if learner == "cocoop" else {},
        text=None if learner == "cocoop" else unit(vectors(shape[0], 2, 4)),
        settings=settings(kind, learner),
        history=(2.5, 0.1),
        held_out=HeldOut("train", "ef" * 32, 0.2, None, 7),
    )


def settings(kind: Kind = "negative", learner: str = "coop") -> dict:
    """Some of those that prompts are learned with, and all that scoring needs to know."""
    specific = kind == "negative"
    where = {"position": "end", "names": True, "specific": specific, "length": 5}
    return {"learner": learner, "mode": "paper", "epochs": 2, "rate": 0.001, "seed": 7, "score": {}} | where


def conditional(kind: Kind) -> Conditional:
    source = prompts(kind, "cocoop").head_text
    assert isinstance(source, Conditional)
    return source


def detector(*, negative: bool = True, train: bool = True) -> SavedDetector:
    held_out = np.sort(vectors(40)).astype(np.float64)
    predicted = (np.arange(40) % 5 > 2).astype(np.int32)  # 24 of a class, and 16 of one that borrows
    return SavedDetector(
        method="lsn",
        label="CoOp + LSN",
        settings={"tau": 1.0, "tau_bar": 5.0, "form": "paper"},
        head_name="positive",
        head=HeadSource(CLASSES, 100.0, unit(vectors(2, 4)), unit(vectors(3, 2, 4)) if negative else None),
        fingerprint=FINGERPRINT,
        threshold=Threshold(gamma=0.1 + 0.2, target_tpr=0.95, n=40, tpr_low=0.83, tpr_high=0.99),
        learned={"bank": vectors(3, 4).astype(np.float16)} if train else {},
        held_out=held_out if train else None,
        by_class=scores_by_class(held_out, predicted, 2) if train else None,
    )


def head(kind: str = "linear") -> LearnedHead:
    linear = kind == "linear"
    return LearnedHead(
        kind=kind,
        fingerprint=FINGERPRINT,
        classes=CLASSES,
        scale=1.0 if linear else 100.0,
        weights=vectors(2, 4).astype(np.float64),
        settings={"c": 10.0},
        held_out=HeldOut("train", "0" * 64, 0.2, None, 7),
        bias=vectors(2).astype(np.float64) if linear else None,
        negative=None if linear else unit(vectors(3, 2, 4)),
        history=() if linear else (2.0, 1.5),
    )
