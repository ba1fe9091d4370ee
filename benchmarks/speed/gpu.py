"""Everything on CUDA: learning steps against the plain loop, precisions, torch.compile, the image tower,
extraction with decoding on all cores.

    python -m benchmarks.speed.gpu [--output FOLDER]

For one call on a machine that has torch with CUDA and nothing else of ours. What else is imported can travel
as wheels and be unpacked beside the repository: open_clip_torch, timm, ftfy, wcwidth, and, where they are not
there with torch, torchvision, regex, tqdm, huggingface-hub, safetensors, rich; for extraction also h5py,
pillow and, for fast decoding, simplejpeg:

    python -m pip install --no-index --no-deps --target site wheels/*.whl
    PYTHONPATH=site python -m benchmarks.speed.gpu --output "$OUT"

Takes less than 10 minutes and writes gpu.json to FOLDER (default benchmarks/results). Photos are those of
LSN_IMAGES, or made up. ``--device cpu --tiny`` runs every part on a dwarf of a model in seconds, to see that
the script works; its figures mean nothing and are not written.
"""

import argparse
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.records import RESULTS, record
from benchmarks.speed import steps
from benchmarks.speed.gpu_extraction import extraction_rates
from benchmarks.speed.models import PAPER, class_names, contexts, image_tower, text_model
from benchmarks.speed.peak import MIB
from benchmarks.speed.steps import PLAIN, Ground, Steps, images_in
from lsncli.device import PRECISIONS, pick_device, pick_dtype
from lsncli.errors import Unavailable
from lsncli.prompts.layout import context_layout
from lsncli.prompts.settings import PromptSettings, preset

OURS = "lsn "
FP32 = OURS + "fp32"

Figures = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Form:
    """How much is measured."""

    model: str
    classes: tuple[int, ...]
    length: int
    rounds: int
    image_model: str
    image_batch: int
    compiler: str
    """Backend of torch.compile."""
    extracted: str
    """The model whose extraction is measured."""
    photos: int


FULL = Form(PAPER, (100, 1000), 16, 10, "ViT-B-16-quickgelu", 256, "inductor", "ViT-B-16-quickgelu", 20_000)
TINY = Form("tiny", (3, 5), 4, 2, "tiny", 4, "eager", "mini", 4)

LEARNERS: dict[str, tuple[Callable[[Ground, PromptSettings], Steps], PromptSettings]] = {
    "CoOp step": (steps.coop, preset("positive")),
    "negative step, one set": (steps.negative, preset("negative", "official")),
    "CoCoOp training step": (steps.cocoop, preset("positive", learner="cocoop")),
    "CoCoOp test step, per image": (steps.cocoop_test, preset("positive", learner="cocoop")),
}


def seconds(run: Callable[[], object], rounds: int, device: torch.device) -> float:
    """Median wall time of a run, the device's queue emptied before and after; two runs do not count."""
    found = []
    for turn in range(-2, rounds):
        _wait(device)
        start = time.perf_counter()
        run()
        _wait(device)
        if turn >= 0:
            found.append(time.perf_counter() - start)
    return statistics.median(found)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def peak_mib(run: Callable[[], object], device: torch.device) -> float:
    """What a run allocates on the device beyond what was there; NaN where there is no device."""
    if device.type != "cuda":
        return float("nan")
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    return (torch.cuda.max_memory_allocated() - before) / MIB


def measure(made: Steps, rounds: int, device: torch.device) -> Figures:
    """Milliseconds, rate and peak memory of each variant; one that does not fit is left out.

    A test step of several images counts as that many; ``ratio``: how many times faster than the plain loop.
    """
    rows: Figures = {}
    for name, step in made.items():
        try:
            wall = seconds(step, rounds, device) / images_in(name)
            rows[name] = {"ms": 1e3 * wall, "per_s": 1 / wall, "peak_mib": peak_mib(step, device)}
        except torch.cuda.OutOfMemoryError:
            print(f"  {name}: out of memory")
            torch.cuda.empty_cache()
    if PLAIN in rows:
        rows = {name: {**row, "ratio": rows[PLAIN]["ms"] / row["ms"]} for name, row in rows.items()}
    return rows


def table(title: str, rows: Figures) -> None:
    """Print the figures, whatever their names; a figure that a variant has not stays empty."""
    columns = list(dict.fromkeys(key for row in rows.values() for key in row))
    print(f"\n{title}\n  {'variant':<34}" + "".join(f"{column:>16}" for column in columns))
    for name, row in rows.items():
        print(
            f"  {name:<34}"
            + "".join(f"{row[column]:>16.4g}" if column in row else " " * 16 for column in columns).rstrip(),
            flush=True,
        )


Backprop = Callable[[], tuple[Tensor, Tensor]]
"""A text pass: features and the gradient of the context."""


def text_pass(ground: Ground, name: str, length: int, specific: bool, backend: str = "") -> Backprop:
    """A pass of one of the program's towers, its encoder compiled by ``backend`` if one is named."""
    tower, names, model = ground.towers[name], ground.names, ground.model
    encode = tower.encoder(context_layout(tower.vocabulary, names, length, specific=specific))
    if backend:
        encode = torch.compile(encode, backend=backend)
    start = contexts(1, *((len(names), length) if specific else (length,)), model.width).to(ground.device)
    direction = contexts(len(names), model.features, seed=1).to(ground.device)

    def backprop() -> tuple[Tensor, Tensor]:
        leaf = start.clone().requires_grad_()
        features = encode(leaf)
        (features * direction).sum().backward()
        assert leaf.grad is not None
        return features.detach().flatten().clone(), leaf.grad.flatten()

    return backprop


def deviation(ground: Ground, length: int, specific: bool) -> Figures:
    """||x - fp32|| / ||fp32|| of features and gradient, and the cosine of the gradients."""
    results = {name: text_pass(ground, name, length, specific)() for name in ground.towers}
    features, gradient = results[FP32]
    return {
        name: {
            "features": float((own - features).norm() / features.norm()),
            "gradient": float((own_gradient - gradient).norm() / gradient.norm()),
            "gradient cosine": float(torch.cosine_similarity(own_gradient, gradient, dim=0)),
        }
        for name, (own, own_gradient) in results.items()
    }


def compiled(ground: Ground, form: Form) -> Figures:
    """Whether torch.compile pays: seconds for the first pass, milliseconds afterwards, eager or not.

    A tower that does not compile is left out: this part must not cost the others.
    """
    rows: Figures = {}
    for name in ground.towers:
        eager = seconds(text_pass(ground, name, form.length, False), form.rounds, ground.device)
        run = text_pass(ground, name, form.length, False, form.compiler)
        start = time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # torch's compiler, about its own doing
                run()
            _wait(ground.device)
            first = time.perf_counter() - start
            after = seconds(run, form.rounds, ground.device)
        except Exception as error:
            print(f"  {name} does not compile: {error}")
            continue
        finally:
            torch.compiler.reset()
        rows[name] = {
            "eager ms": 1e3 * eager,
            "compiled ms": 1e3 * after,
            "ratio": eager / after,
            "compile s": first,
        }
    return rows


def image_rates(form: Form, device: torch.device) -> Figures:
    """Images a second of the image tower on tensors that are there already: no decoding, no transfer."""
    rows: Figures = {}
    for precision in PRECISIONS:
        tower, size = image_tower(form.image_model)
        tower = tower.to(device, pick_dtype(precision))
        batch = torch.randn(form.image_batch, 3, size, size).to(device, pick_dtype(precision))
        run = torch.inference_mode()(lambda tower=tower, batch=batch: tower(batch))
        rows[precision] = {"images/s": form.image_batch / seconds(run, form.rounds, device)}
    return rows


def run_all(form: Form, device: torch.device) -> dict[str, Figures]:
    """Every part, printed as it comes."""
    model = text_model(form.model)
    model.clip.to(device)
    towers = {OURS + precision: model.tower(precision=precision) for precision in PRECISIONS}
    parts: dict[str, Figures] = {}

    def keep(title: str, rows: Figures) -> None:
        parts[title] = rows
        table(title, rows)

    for count in form.classes:
        ground = Ground(model, towers, class_names(count), device, autocast=True)
        for what, (make, settings) in LEARNERS.items():
            settings = replace(settings, length=min(settings.length, form.length))
            keep(f"{what}, {count} classes", measure(make(ground, settings), form.rounds, device))
    ground = Ground(model, towers, class_names(form.classes[0]), device)
    for kind, specific in (("shared", False), ("class-specific", True)):
        title = f"Deviation from fp32, {form.classes[0]} classes, {kind}"
        keep(title, deviation(ground, form.length, specific))
    keep(f"torch.compile of a CoOp text pass, {form.classes[0]} classes", compiled(ground, form))
    rates = image_rates(form, device)
    keep(f"Image tower {form.image_model}, batches of {form.image_batch}", rates)
    towers = {precision: row["images/s"] for precision, row in rates.items()}
    title = f"Extraction of {form.photos:,} photos, {form.extracted}, decoding on {os.cpu_count()} cores"
    keep(title, extraction_rates(form.extracted, form.photos, towers, device))
    return parts


def main(arguments: list[str] | None = None) -> None:
    """Measure everything on one device and write it down."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a dwarf of a model; nothing is written")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of gpu.json")
    given = parser.parse_args(arguments)
    try:
        device = pick_device(given.device)
    except Unavailable as error:
        print(error, file=sys.stderr)
        raise SystemExit(error.exit_code) from error
    form = TINY if given.tiny else FULL
    parts = run_all(form, device)
    if not given.tiny:
        record(
            "gpu",
            f"Learning and extraction on {device}, {form.model} and {form.image_model}, wall time",
            folder=given.output,
            **parts,
        )


if __name__ == "__main__":
    main()
