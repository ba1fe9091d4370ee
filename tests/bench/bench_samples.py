"""A small suite on images of noise, and how it is run."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lsncli.bench.measured_table import MeasuredTable, measured
from lsncli.bench.plan import BenchPlan
from lsncli.bench.suite_toml import load_suite

PROVENANCE = ("seconds", "date", "revision", "lsn")

SUITE = """
title = "noise"
model = "{model}"
mode = "fast"
shots = 4
[sets.in-train]
title = "noise to learn from"
[sets.in-test]
title = "noise to test on"
[sets.near]
title = "other noise"
[sets.far]
title = "bright noise"
[id.three]
title = "three classes"
train = "in-train"
test = "in-test"
[id.two]
title = "two of them"
train = "in-train"
test = "in-test"
classes = ["class 2", "class 0"]
[learn]
coop = {{ kind = "positive", epochs = 2, length = 4, batch_size = 4 }}
lsn = {{ kind = "negative", epochs = {epochs}, length = 4, batch_size = 4 }}
long = {{ kind = "positive", length = 90 }}
linear = {{ kind = "linear" }}
[tables.mine]
id = "three"
[tables.mine.ood]
Near = "near"
Far = "far"
[tables.mine.rows."MCM"]
method = "mcm"
[tables.mine.rows."MSP"]
method = "msp:linear"
learn = ["linear"]
[tables.mine.rows."broken"]
method = "mcm:positive"
learn = ["long"]
[tables.mine.rows."CoOp"]
method = "mcm:positive"
learn = ["coop"]
[tables.mine.rows."CoOp + LSN (ours)"]
method = "lsn"
learn = ["coop", "lsn"]
[tables.mine.rows."two"]
method = "knn,k=1"
id = "two"
[tables.mine.rows."elsewhere"]
method = "mcm"
model = "RN50:openai"
unavailable = "There are no weights."
"""


def write_suite(folder: Path, model: str, epochs: int = 2) -> Path:
    path = folder / "noise.toml"
    path.write_text(SUITE.format(model=model, epochs=epochs))
    return path


def write_images(data: Path) -> Path:
    """in-train: 3 classes of 6; in-test: 3 of 3; near: 4; far: 5, flat."""
    for seed, (name, classes, count, low) in enumerate(
        [("in-train", 3, 6, 0), ("in-test", 3, 3, 0), ("near", 0, 4, 0), ("far", 0, 5, 200)]
    ):
        random = np.random.default_rng(seed)
        for label in range(max(1, classes)):
            folder = data / name / (f"class_{label}" if classes else "")
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(low, 256, size=(8, 8, 3), dtype=np.uint8)
                pixels[:, :, label] //= 4
                (folder / f"{number}.png").write_bytes(png(pixels))
    return data


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def run_suite(
    path: Path, work: Path, data: Path | None = None, **given: Any
) -> tuple[MeasuredTable, BenchPlan]:
    suite = load_suite(str(path))
    return measured(suite, suite.table("mine"), work=work, data=data, device="cpu", quiet=True, **given)


def results(work: Path) -> dict[str, dict[str, Any]]:
    """Records by key, without what tells one run from another."""
    found = {}
    for line in (work / "results" / "noise.jsonl").read_text().splitlines():
        record = json.loads(line)
        assert record["key"] not in found, "a result was written twice"
        found[record["key"]] = {name: value for name, value in record.items() if name not in PROVENANCE}
    return found
