"""Everything on CUDA: learning steps against the plain loop, precisions, the image tower, extraction with
decoding on all cores, and torch.compile.

    python -m benchmarks.speed.gpu [--device cuda:N] [--output FOLDER]

For one call on a machine that has torch with CUDA and nothing else of ours. What is imported besides torch
and its own requirements can travel as wheels and be unpacked beside the repository: numpy, scipy, h5py,
pillow, safetensors, rich, open_clip_torch, timm, torchvision, ftfy, wcwidth, regex, tqdm, huggingface_hub
with its requirements (packaging, PyYAML, and httpx or requests with theirs) and, for fast decoding,
simplejpeg:

    python -m pip install --no-index --no-deps --target site wheels/*.whl
    PYTHONPATH=site python -m benchmarks.speed.gpu --output "$OUT"

Takes less than 10 minutes, and writes gpu.json to FOLDER (default benchmarks/results) after every part: a
stop loses what was being measured. Photos are those of LSN_IMAGES, or made up. ``--device cpu --tiny`` runs
every part on a dwarf of a model in seconds, to see that the script works; its figures mean nothing and are
not written.
"""

import argparse
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.records import RESULTS, record
from benchmarks.speed import steps
from benchmarks.speed.gpu_extraction import extraction_rates
from benchmarks.speed.gpu_image_tower import image_rates, transfer_rates
from benchmarks.speed.models import PAPER, class_names, contexts, text_model
from benchmarks.speed.on_device import Figures, at_most, peak_mib, seconds, wait
from benchmarks.speed.steps import PLAIN, Ground, Steps, images_in
from lsncli.device import pick_device
from lsncli.errors import Unavailable
from lsncli.memory import out_of_memory
from lsncli.prompts.layout import context_layout
from lsncli.prompts.settings import PromptSettings, preset

OURS = "lsn "
FP32 = OURS + "fp32"

COMPILE_SECONDS = 90.0
"""Limit for the first passes of a compiled tower."""


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


def measure(made: Steps, rounds: int, device: torch.device) -> Figures:
    """Milliseconds, rate and peak memory of each variant; one that does not fit is left out.

    A test step of several images counts as that many; ``ratio``: how many times faster than the plain loop.
    """
    rows: Figures = {}
    for name, step in made.items():
        try:
            wall = seconds(step, rounds, device) / images_in(name)
            rows[name] = {"ms": 1e3 * wall, "per_s": 1 / wall, "peak_mib": peak_mib(step, device)}
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            print(f"  {name}: out of memory")
            torch.cuda.empty_cache()
    if PLAIN in rows:
        rows = {name: {**row, "ratio": rows[PLAIN]["ms"] / row["ms"]} for name, row in rows.items()}
    return rows


def table(title: str, rows: Figures) -> None:
    """Print the figures, whatever their names; a figure that a variant has not stays empty.

    Without a title they are more of the last table.
    """
    columns = list(dict.fromkeys(key for row in rows.values() for key in row))
    print(f"\n{title}" if title else "")
    print(f"  {'variant':<34}" + "".join(f"{column:>16}" for column in columns))
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


def compiled(ground: Ground, form: Form) -> Iterator[Figures]:
    """Whether torch.compile pays: seconds for the first pass, milliseconds afterwards, eager or not.

    Yields the figures after each tower. A tower that does not compile, or not within ``COMPILE_SECONDS``, is
    left out: this part must not cost the others.
    """
    rows: Figures = {}
    for name in ground.towers:
        eager = seconds(text_pass(ground, name, form.length, False), form.rounds, ground.device)
        run = text_pass(ground, name, form.length, False, form.compiler)
        start = time.perf_counter()
        try:
            with warnings.catch_warnings(), at_most(COMPILE_SECONDS):
                warnings.simplefilter("ignore")  # torch's compiler, about its own doing
                run()
                wait(ground.device)
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
        yield rows


Part = Callable[[], Iterable[Figures]]
"""Measures one part; yields its figures after each more of them."""


def parts_of(form: Form, device: torch.device) -> Iterator[tuple[str, Part]]:
    """Yield the title of every part and the function that measures it."""
    model = text_model(form.model)
    model.clip.to(device)
    towers = {OURS + precision: model.tower(precision=precision) for precision in ("fp32", "fp16", "bf16")}
    for count in form.classes:
        ground = Ground(model, towers, class_names(count), device, autocast=True)
        for what, (make, settings) in LEARNERS.items():
            own = replace(settings, length=min(settings.length, form.length))
            title = f"{what}, {count} classes"
            yield title, lambda g=ground, m=make, o=own: [measure(m(g, o), form.rounds, device)]
    ground = Ground(model, towers, class_names(form.classes[0]), device)
    for kind, specific in (("shared", False), ("class-specific", True)):
        title = f"Deviation from fp32, {form.classes[0]} classes, {kind}"
        yield title, lambda s=specific: [deviation(ground, form.length, s)]
    of_tower = form.image_model, form.image_batch, form.rounds, device
    rates: Figures = {}

    def image_tower() -> Iterator[Figures]:
        rates.update(image_rates(*of_tower))
        yield rates

    yield f"Image tower {form.image_model}, batches of {form.image_batch}", image_tower
    yield f"Pixels of {form.image_batch} images to the device", lambda: [transfer_rates(*of_tower)]

    def extraction() -> Iterator[Figures]:
        alone = {precision: row["images/s"] for precision, row in rates.items()}
        return extraction_rates(form.extracted, form.photos, alone, device)

    where = f"decoding on {os.cpu_count()} cores"
    yield f"Extraction of {form.photos:,} photos, {form.extracted}, {where}", extraction
    yield f"torch.compile of a CoOp text pass, {form.classes[0]} classes", lambda: compiled(ground, form)


def run_all(parts: Iterable[tuple[str, Part]], keep: Callable[[str, Figures], None]) -> list[str]:
    """Measure every part; ``keep`` gets its figures as they come. Return the titles of parts that failed."""
    failed = []
    for title, measure_part in parts:
        try:
            for rows in measure_part():
                keep(title, rows)
        except Exception:
            failed.append(title)
            print(f"\n{title} failed:\n{traceback.format_exc()}", file=sys.stderr, flush=True)
    return failed


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
    if device.type == "cuda":
        torch.cuda.set_device(device)
    form = TINY if given.tiny else FULL
    what = f"Learning and extraction on {device}, {form.model} and {form.image_model}, wall time"
    parts: dict[str, Figures] = {}

    def keep(title: str, rows: Figures) -> None:
        known = parts.get(title, {})
        table(title if title not in parts else "", {name: rows[name] for name in rows if name not in known})
        parts[title] = dict(rows)
        if not given.tiny:
            record("gpu", what, folder=given.output, **parts)

    if failed := run_all(parts_of(form, device), keep):
        raise SystemExit(f"{len(failed)} parts failed: {'; '.join(failed)}")


if __name__ == "__main__":
    main()
