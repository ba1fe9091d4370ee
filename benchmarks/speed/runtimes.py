"""Runtimes of an image tower on the CPU, against open_clip's own forward pass, in one process.

    python -m benchmarks.speed.runtimes [--models ViT-B-32 ...] [--quick | --tiny]

Wall time of as many batches as there are threads. The baseline is a plain loop: one batch after the other,
each shared by all threads. Against it, one batch per thread in parallel, as ``lsn extract`` encodes them:
each runtime of ``backbones/runtimes.py`` that works here, linear layers in int8, and bfloat16 where the
processor has it. ``auto`` is what the program's own self-test picks for a long extraction
(``backbones/runtime_choice.py``).

Prints the largest difference from open_clip's features as a fraction of the largest one, the least cosine
with them, and the seconds until a runtime is ready. The speed of one thread's matrix products, by oneDNN and
by torch, explains the rest: they take nearly all of the time. ViTs have random weights, because time does not
depend on the weights. To see a processor with fewer instructions: ONEDNN_MAX_CPU_ISA=AVX2
MKL_ENABLE_INSTRUCTIONS=AVX2 ATEN_CPU_CAPABILITY=avx2. Only the full form writes results/runtimes.json.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, linear

from benchmarks.goals import Row, goal_of, ratio, table
from benchmarks.machines import has_bf16, machine
from benchmarks.records import record
from benchmarks.speed.timing import Rows, interleaved
from lsncli.backbones import load_backbone, load_untrained
from lsncli.backbones.loading import ensure_torchvision
from lsncli.backbones.runtime_choice import measure as self_test
from lsncli.backbones.runtimes import AGREEMENT, Forward, ImageForwards
from lsncli.backbones.trainable_image_tower import pooled
from lsncli.errors import Unavailable
from lsncli.prompts import kernels

SHARED = "open_clip, shared batch"
DWARF = {"image_size": 32, "patch_size": 8, "width": 64, "layers": 2, "heads": 2, "mlp_ratio": 4.0}
MANY = 50_000
"""Images of the extraction that ``auto`` chooses for."""
CLOCK = "wall time, to a batch shared by open_clip"
LEAD = 1.1
"""Without a lead in matrix products, a float32 transformer gains only what is left out of it."""


@dataclass(frozen=True)
class Form:
    """The size of a run: images in a batch for each tower, and rounds; ``budget`` is in seconds, for each."""

    batches: dict[str, int]
    rounds: int
    budget: float | None = None


FULL = Form({"ViT-B-32": 16, "ViT-B-16": 16, "mini": 16}, 7)
QUICK = Form({"ViT-B-32": 8, "ViT-B-16": 4, "mini": 16}, 5, 20)
TINY = Form({"dwarf": 2}, 1)


def loaded(name: str) -> Any:
    """Return a model of the program on the CPU: with random weights, or mini."""
    if name != "dwarf":
        return load_backbone("mini", device="cpu") if name == "mini" else load_untrained(name, device="cpu")
    ensure_torchvision()
    from open_clip.transformer import VisionTransformer

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        visual = VisionTransformer(**DWARF).eval().requires_grad_(False)
    mini: Any = load_backbone("mini", device="cpu")
    model = nn.Module()
    model.visual = visual
    size = (DWARF["image_size"],) * 2
    return replace(
        mini, model=model, forwards=ImageForwards(visual, size), transform=lambda _: torch.zeros(3, *size)
    )


def images(visual: Any, number: int) -> Tensor:
    """Return ``number`` images of noise in the size that the tower expects."""
    size = visual.image_size
    return torch.randn(number, 3, *((size, size) if isinstance(size, int) else size))


def shared(forward: Forward, pixels: Tensor, threads: int) -> Callable[[], object]:
    """Return a run of as many batches as there are threads, one after the other, each shared by all."""

    def run() -> None:
        torch.set_num_threads(threads)
        for _ in range(threads):
            forward(pixels)

    return run


def in_parallel(
    forward: Forward, pixels: Tensor, threads: int, pool: ThreadPoolExecutor
) -> Callable[[], object]:
    """Return a run of one batch per thread, all at the same time."""

    def alone(pixels: Tensor) -> None:
        torch.set_num_threads(1)
        with torch.inference_mode():
            forward(pixels)

    return lambda: list(pool.map(alone, [pixels] * threads))


def forwards_of(model: Any) -> dict[str, Callable[[], Forward]]:
    """Return what makes each variant of a model's image tower."""
    visual = model.model.visual
    makers: dict[str, Callable[[], Forward]] = {
        name: lambda name=name: model.forwards.get(name)  # type: ignore[misc]
        for name in (*model.forwards.names, *(["openvino"] if find_spec("openvino") else []))
    }
    makers["int8"] = lambda: ImageForwards(visual, images(visual, 1).shape[2:], int8=True).get("fused")
    if has_bf16(machine()):
        half = deepcopy(visual).bfloat16()
        makers["bf16"] = lambda: lambda pixels: pooled(half(pixels.bfloat16())).float()
    return makers


@torch.inference_mode()
def measure(name: str, batch: int, form: Form) -> dict[str, Any]:
    """Measure every variant of the tower ``name``, with ``batch`` images for each thread."""
    model, threads = loaded(name), torch.get_num_threads()
    visual = model.model.visual
    pixels = images(visual, batch)
    expected = pooled(visual(pixels))
    forwards, agreement = {}, {}
    for variant, make in forwards_of(model).items():
        began = time.perf_counter()
        try:
            forward = make()
        except Unavailable:
            continue
        ready, features = time.perf_counter() - began, forward(pixels)
        forwards[variant] = forward
        agreement[variant] = {
            "ready_s": ready,
            "difference": float((features - expected).abs().max() / expected.abs().max()),
            "cosine": float(cosine_similarity(features, expected).min()),
        }
    began = time.perf_counter()
    times = self_test(model, MANY)
    chosen = min(times, key=lambda name: times[name].seconds(MANY)) if times else model.runtime
    self_test_s = time.perf_counter() - began
    with ThreadPoolExecutor(threads) as pool:
        variants = {SHARED: shared(lambda x: pooled(visual(x)), pixels, threads)}
        variants |= {
            variant: in_parallel(forward, pixels, threads, pool) for variant, forward in forwards.items()
        }
        rows = interleaved(variants, form.rounds, budget=form.budget)
    torch.set_num_threads(threads)
    return {
        "batch": batch,
        "threads": threads,
        "auto": chosen,
        "self_test_s": self_test_s,
        "agreement": agreement,
        "times": rows,
    }


def products(rounds: int, rows: int = 800, width: int = 768) -> Rows:
    """Time matrix products by oneDNN and by torch, at the size of a ViT-B's widest layer, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    weight, x = torch.randn(4 * width, width), torch.randn(rows, width)
    packed = kernels.pack(weight)
    variants: dict[str, Callable[[], object]] = {
        "torch": lambda: linear(x, weight),
        "oneDNN": lambda: kernels.multiply(x, packed, None),
    }
    times = interleaved(variants, rounds, clock="cpu")
    torch.set_num_threads(threads)
    billions = 2 * rows * width * 4 * width / 1e9
    return {name: {**row, "GFLOP/s": billions / row["cpu_s"]} for name, row in times.items()}


def measure_all(form: Form) -> dict[str, Any]:
    """Measure every tower of the form, by name, and ``products``."""
    results: dict[str, Any] = {"products": products(2 if form is TINY else 15)}
    return results | {name: measure(name, batch, form) for name, batch in form.batches.items()}


def rows_of(results: dict[str, Any]) -> list[Row]:
    """Return the figures as rows."""
    kind = machine()["kind"]
    speed = {name: f"{row['GFLOP/s']:.0f}" for name, row in results["products"].items()}
    of = f"GFLOP/s of a thread: oneDNN {speed['oneDNN']}, torch {speed['torch']}"
    rows = [ratio("product of matrices, oneDNN", results["products"]["oneDNN"], None, of)]
    lead = results["products"]["oneDNN"]["ratio"]
    limit = f"oneDNN's products are only {lead:.2f} times as fast as torch's here" if lead < LEAD else ""
    for name, result in results.items():
        if name == "products":
            continue
        what, times = f"image tower {name}", result["times"]
        exact = {each: times[each]["wall_s"] for each in times if each not in (SHARED, "int8", "bf16")}
        fastest = min(exact, key=lambda each: exact[each])
        reason = "OpenVINO is faster here, but used only when asked for" if fastest == "openvino" else ""
        rows += [
            ratio(
                f"{what}, auto",
                times[result["auto"]],
                goal_of(f"{what}, auto", kind),
                f"{CLOCK}; picks {result['auto']}",
                reason or limit,
            ),
            Row(
                f"{what}, auto, to the fastest runtime",
                exact[fastest] / exact[result["auto"]],
                "x",
                0.95,
                of=f"wall time; a self-test of {result['self_test_s']:.0f} s",
                reason=reason,
            ),
        ]
        rows += [
            ratio(f"{what}, {variant}", times[variant], goal_of(f"{what}, {variant}", kind), CLOCK)
            for variant in times
            if variant != SHARED
        ]
        worst = max(result["agreement"][each]["difference"] for each in exact)
        rows.append(Row(f"{what}, fp32, difference", worst, "", AGREEMENT, "at most"))
    return rows


def rows(tiny: bool) -> list[Row]:
    """Return the rows of ``benchmarks.all``."""
    return rows_of(measure_all(TINY if tiny else QUICK))


def show(name: str, result: dict[str, Any]) -> None:
    """Print one tower's figures."""
    images_a_round = result["batch"] * result["threads"]
    print(f"\n{name}: batches of {result['batch']} on {result['threads']} threads, wall time")
    heading = f"  {'runtime':<24}{'ms/image':>10}{'ratio':>8}{'range':>14}"
    print(f"{heading}{'difference':>12}{'cosine':>10}{'ready':>8}")
    for variant, row in result["times"].items():
        line = f"  {variant:<24}{1000 * row['wall_s'] / images_a_round:>10.1f}{row['ratio']:>8.2f}"
        line += f"{row['lowest']:>8.2f}-{row['highest']:<5.2f}"
        if variant in result["agreement"]:
            own = result["agreement"][variant]
            line += f"{own['difference']:>12.1e}{own['cosine']:>10.6f}{own['ready_s']:>6.1f} s"
        print(line)
    print(f"  auto picks {result['auto']}, by a self-test of {result['self_test_s']:.1f} s")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print; the full form of all towers also writes the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=list(FULL.batches), metavar="NAME")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="fewer images and rounds, writes nothing")
    size.add_argument("--tiny", action="store_true", help="a dwarf of a tower, to see that the script runs")
    options = parser.parse_args(arguments)
    form = QUICK if options.quick else TINY if options.tiny else FULL
    if options.models:
        form = replace(form, batches={name: form.batches[name] for name in options.models})
    results = measure_all(form)
    for name in form.batches:
        show(name, results[name])
    figures = rows_of(results)
    print(table({"image towers": figures}))
    if form == FULL:
        what = "Runtimes of an image tower on the CPU, wall time to open_clip's shared batch"
        record("runtimes", what, rows=[asdict(row) for row in figures], **results)


if __name__ == "__main__":
    main()
