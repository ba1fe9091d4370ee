"""Image towers on the CPU: the program's forward against open_clip's own, in one process.

    python -m benchmarks.speed.towers [--quick | --tiny]

One thread, in ratios of CPU time: float32 (``backbones/fast_image_tower.py``) and pure bfloat16, and the
largest difference of the features. The gain in float32 depends on the processor: matrix products take nearly
all of the time, so their speed with oneDNN and with torch is measured as well. No float32 tower can be faster
than oneDNN's products.

All threads, in ratios of wall time: one batch after the other, each shared by all threads as torch does it,
against one batch per thread in parallel (``extraction/encoder.py``).

ViTs have random weights, because time does not depend on the weights. Only the full form writes
results/towers.json.
"""

import argparse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from benchmarks.goals import Row, ratio, table
from benchmarks.records import record
from benchmarks.speed.timing import Rows, interleaved
from lsncli.backbones import load_backbone
from lsncli.backbones.fast_image_tower import FastImageTower, Forward, image_forward
from lsncli.backbones.loading import ensure_torchvision
from lsncli.backbones.trainable_image_tower import pooled
from lsncli.prompts import kernels

OWN, OURS, HALF = "open_clip", "lsn fp32", "lsn bf16"
SHARED, OWN_PARALLEL, PARALLEL = "open_clip, shared batch", "open_clip, in parallel", "lsn, in parallel"
OURS_SHARED = "lsn, shared batch"
GOAL, AGREEMENT = 1.8, 2e-5

DWARF = {"image_size": 32, "patch_size": 8, "width": 64, "layers": 2, "heads": 2, "mlp_ratio": 4.0}


@dataclass(frozen=True)
class Form:
    """The size of a run: images in a batch for each tower, rounds on one thread, rounds on all threads."""

    batches: dict[str, int]
    rounds: int
    parallel_rounds: int


FULL = Form({"ViT-B-32": 16, "ViT-B-16": 16, "mini": 16}, 7, 5)
QUICK = Form({"ViT-B-32": 8, "ViT-B-16": 4, "mini": 16}, 3, 2)
TINY = Form({"dwarf": 2}, 1, 1)


def tower(name: str) -> nn.Module:
    """A frozen image tower in float32."""
    ensure_torchvision()
    import open_clip
    from open_clip.transformer import VisionTransformer

    if name == "mini":
        model: Any = load_backbone("mini", device="cpu")
        visual: nn.Module = model.model.visual
        return visual
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if name == "dwarf":
            dwarf: nn.Module = VisionTransformer(**DWARF)
            return dwarf.eval().requires_grad_(False)
        clip: Any = open_clip.CLIP(**open_clip.get_model_config(name))
    whole: nn.Module = clip.visual.eval().requires_grad_(False)
    return whole


def images(tower: Any, number: int) -> Tensor:
    """Return ``number`` images of noise in the size that the tower expects."""
    size = tower.image_size
    return torch.randn(number, 3, *((size, size) if isinstance(size, int) else size))


def one_thread(visual: nn.Module, pixels: Tensor, rounds: int) -> tuple[float, Rows]:
    """Return our largest difference from open_clip's features, relative to the largest one, and times."""
    torch.set_num_threads(1)
    ours, half, half_pixels = image_forward(visual), deepcopy(visual).bfloat16(), pixels.bfloat16()
    expected = pooled(visual(pixels))
    difference = float((ours(pixels) - expected).abs().max() / expected.abs().max())
    variants: dict[str, Callable[[], object]] = {
        OWN: lambda: visual(pixels),
        OURS: lambda: ours(pixels),
        HALF: lambda: half(half_pixels),
    }
    return difference, interleaved(variants, rounds, clock="cpu")


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


def all_threads(visual: nn.Module, pixels: Tensor, rounds: int, threads: int) -> Rows:
    """Measure the wall time of as many batches as there are threads."""
    own: Forward = lambda x: pooled(visual(x))  # noqa: E731
    ours = image_forward(visual)

    with ThreadPoolExecutor(threads) as pool:
        variants = {
            SHARED: shared(own, pixels, threads),
            OWN_PARALLEL: in_parallel(own, pixels, threads, pool),
            OURS_SHARED: shared(ours, pixels, threads),
            PARALLEL: in_parallel(ours, pixels, threads, pool),
        }
        return interleaved(variants, rounds)


def products(rounds: int, rows: int = 800, width: int = 768) -> Rows:
    """Time matrix products by oneDNN and by torch, at the size of a ViT-B's widest layer, on one thread."""
    torch.set_num_threads(1)
    weight, x = torch.randn(4 * width, width), torch.randn(rows, width)
    packed = kernels.pack(weight)
    variants: dict[str, Callable[[], object]] = {
        "torch": lambda: linear(x, weight),
        "oneDNN": lambda: kernels.multiply(x, packed, None),
    }
    times = interleaved(variants, rounds, clock="cpu")
    billions = 2 * rows * width * 4 * width / 1e9
    return {name: {**row, "GFLOP/s": billions / row["cpu_s"]} for name, row in times.items()}


@torch.inference_mode()
def measure(form: Form, threads: int) -> dict[str, Any]:
    """Measure every tower of the form, by name, and ``products``."""
    results: dict[str, Any] = {"products": products(2 if form is TINY else 15)}
    for name, number in form.batches.items():
        visual = tower(name)
        pixels = images(visual, number)
        difference, times = one_thread(visual, pixels, form.rounds)
        results[name] = {
            "batch": number,
            "fast": isinstance(image_forward(visual), FastImageTower),
            "apart": difference,
            "one thread": times,
            f"{threads} threads": all_threads(visual, pixels, form.parallel_rounds, threads),
        }
    return results


def rows_of(results: dict[str, Any], threads: int) -> list[Row]:
    """Return the figures as rows. Towers without a fast form have no goal in float32."""
    speed = {name: f"{row['GFLOP/s']:.0f}" for name, row in results["products"].items()}
    of = f"GFLOP/s of a thread: oneDNN {speed['oneDNN']}, torch {speed['torch']}"
    rows = [ratio("product of matrices, oneDNN", results["products"]["oneDNN"], None, of)]
    for name, result in results.items():
        if name == "products":
            continue
        single, every = result["one thread"], result[f"{threads} threads"]
        what = f"image tower {name}"
        rows += [
            ratio(f"{what}, fp32", single[OURS], GOAL if result["fast"] else None, "CPU time, one thread"),
            ratio(f"{what}, bf16", single[HALF], None, "CPU time, one thread"),
            Row(f"{what}, fp32, difference", result["apart"], "", AGREEMENT, "at most"),
        ]
        clock = f"wall time, {threads} threads, to a batch shared by open_clip"
        rows += [
            ratio(f"{what}, {variant}", every[variant], None, clock)
            for variant in (OWN_PARALLEL, OURS_SHARED, PARALLEL)
        ]
    return rows


def rows(tiny: bool) -> list[Row]:
    """Return the rows of ``benchmarks.all``."""
    threads = torch.get_num_threads()
    return rows_of(measure(TINY if tiny else QUICK, threads), threads)


def main(arguments: list[str] | None = None) -> None:
    """Measure and print; the full form also writes the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="fewer rounds, about a minute, writes nothing")
    size.add_argument("--tiny", action="store_true", help="a dwarf of a tower, to see that the script runs")
    options = parser.parse_args(arguments)
    form = QUICK if options.quick else TINY if options.tiny else FULL
    threads = torch.get_num_threads()
    results = measure(form, threads)
    torch.set_num_threads(threads)
    figures = rows_of(results, threads)
    print(table({"image towers": figures}))
    if form is FULL:
        what = "Image towers on the CPU against open_clip's own forward, ratios"
        record("towers", what, rows=[asdict(row) for row in figures], **results)


if __name__ == "__main__":
    main()
