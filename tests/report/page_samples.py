"""Reports made up of random scores, with the names that an attacker would choose among them."""

import io
from dataclasses import replace

import numpy as np
from PIL import Image

from lsncli.artefacts.detector import SavedDetector
from lsncli.artefacts.prompts import HeadSource
from lsncli.detection.scored_sets import ScoredSet, VerdictArrays
from lsncli.explanation.evidence import Neighbour
from lsncli.explanation.saliency import Explanation, PromptMap
from lsncli.report.contents import Report
from lsncli.threshold import Threshold
from lsncli.types import Failure, Fingerprint

GAMMA = 0.5
HOSTILE = (
    "</script><script>document.title='owned'</script>.jpg",
    "<img src=x onerror=\"document.title='owned'\">.jpg",
    "{{SCRIPT}}{{DATA}}.jpg",
    "<!--.jpg",
    "<!--<script x=.jpg",
    "a\"b'c&amp;d`${document.title}`.jpg",
    "line\nbreak\x1b[31m\u202egpj.exe",
    "javascript:alert(1)",
    "\udcff\udcfe.jpg",
)
CLASSES = ("cat", "dog", "<b>hen</b>", "small red bird")


def detector(classes: tuple[str, ...] = CLASSES) -> SavedDetector:
    """An LSN detector with gamma 0.5, as far as a page looks at one."""
    fingerprint = Fingerprint("tiny", "", "00", 4, 8, "bicubic", "shortest", (0.0,), (1.0,), "fp32", 100.0)
    head = HeadSource(classes, 100.0, np.eye(len(classes), 8), None)
    threshold = Threshold(GAMMA, 0.95, 200, 0.91, 0.98)
    settings = {"tau": 1.0, "tau_bar": 5.0, "form": "paper"}
    return SavedDetector("lsn", "CoOp + LSN", settings, "positive", head, fingerprint, threshold)


def judged(rows: int, mean: float, classes: int = 4, seed: int = 0) -> VerdictArrays:
    """Normal scores around ``mean`` whose parts add up to them."""
    random = np.random.default_rng([seed, rows])
    yes, no = random.normal(mean + 0.1, 0.1, rows), random.normal(-0.1, 0.02, rows)
    return VerdictArrays(yes + no, random.integers(0, classes, rows).astype(np.int32), yes, no)


def jpeg(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (24, 16), (shade % 256, 90, 160)).save(buffer, "JPEG")
    return buffer.getvalue()


def scored(name: str, kind: str, rows: int, mean: float, names: tuple[str, ...] = (), seed: int = 0):
    """A set whose first images are called ``names``; ID images have true classes."""
    found = judged(rows, mean, seed=seed)
    random = np.random.default_rng(seed)
    labels = np.where(random.random(rows) < 0.8, found.predicted, (found.predicted + 1) % 4)
    paths = [*names, *(f"{name}/folder {row % 7}/{row:06}.jpg" for row in range(len(names), rows))]
    truth = labels if kind == "id" else np.full(rows, -1)
    return ScoredSet(name, kind, f"/data/{name}", found, truth.astype(np.int32), names=paths)


def looks(row: int) -> Explanation:
    """A positive and a negative prompt that look at one corner each."""
    weights = np.eye(2)[[0, 1]] / 2
    both = (PromptMap("cat", 0, 0.3, weights), PromptMap("cat", 1, 0.1, weights[::-1]))
    return Explanation(np.full((8, 8, 3), row % 256, dtype=np.uint8), "cat", both)


def like(rows: int) -> dict[int, tuple[Neighbour, ...]]:
    """Two training images for each of the first ``rows`` pictures, one with a name that would break out."""
    return {
        row: (Neighbour(HOSTILE[row % 9], "cat", 0.9), Neighbour(f"{row}.jpg", "", -0.1))
        for row in range(rows)
    }


def sample(
    sets, pictures: int = 40, failures: int = 3, explained: int = 0, notes: tuple[str, ...] = ()
) -> Report:
    """A report about ``sets``: the first of each have pictures, and the first set has failures."""
    broken = tuple(
        Failure((HOSTILE[row] if row < len(HOSTILE) else f"broken/{row}.jpg"), "an empty <i>file</i>")
        for row in range(failures)
    )
    first, *others = sets
    first = replace(first, failures=broken)
    every = (first, *others)
    return Report(
        detector=detector(),
        gamma=detector().threshold.gamma,
        sets=every,
        calibration=judged(200, 0.7, seed=9),
        same_rows=True,
        listed=tuple(range(len(one.judged)) for one in every),
        pictures=tuple({row: jpeg(row) for row in range(min(pictures, len(one.judged)))} for one in every),
        maps=tuple({row: looks(row) for row in range(explained)} for _ in every),
        notes=notes,
        facts=(("RunResult", "by <i>nobody</i>"),),
        nearest=tuple(like(min(pictures, len(one.judged))) for one in every),
    )
