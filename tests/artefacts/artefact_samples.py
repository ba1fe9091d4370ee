"""Small artefacts, the same every time: the golden files were written from them."""

import numpy as np

from lsncli.artefacts.detector import Detector
from lsncli.artefacts.prompts import HeldOut, Kind, LearnedPrompts
from lsncli.threshold import Threshold
from lsncli.types import Fingerprint, Head, Rows, unit

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


def prompts(kind: Kind = "negative") -> LearnedPrompts:
    sets = (3, 2) if kind == "negative" else ()
    return LearnedPrompts(
        kind=kind,
        fingerprint=FINGERPRINT,
        classes=CLASSES,
        context=vectors(*sets, 5, 6).astype(np.float32),
        text=unit(vectors(*(3, 2, 4) if sets else (2, 4))),
        learner="CoOp",
        settings={"mode": "paper", "epochs": 2, "rate": 0.001, "seed": 7},
        history=(2.5, 0.1),
        held_out=HeldOut("train", "ef" * 32, 0.2, None, 7),
    )


def detector(*, negative: bool = True, train: bool = True) -> Detector:
    return Detector(
        method="lsn",
        settings={"tau": 1.0, "tau_bar": 5.0, "form": "paper"},
        prompts="positive",
        head=Head(CLASSES, unit(vectors(2, 4)), 100.0, unit(vectors(3, 2, 4)) if negative else None),
        fingerprint=FINGERPRINT,
        threshold=Threshold(gamma=0.1 + 0.2, target_tpr=0.95, n=40, tpr_low=0.83, tpr_high=0.99),
        train=Rows(vectors(3, 4).astype(np.float16), np.array([0, 1, 1], np.int32)) if train else None,
    )
