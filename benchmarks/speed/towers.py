"""Image towers on the CPU: the program's forward against open_clip's own, in one process.

    python -m benchmarks.speed.towers [--quick | --tiny]

One thread, in ratios of CPU time: float32 (``backbones/fast_image_tower.py``) and pure bfloat16; and how far
the features are apart. What float32 gains depends on the processor: the product of matrices is nearly all of
it, so oneDNN's speed and torch's own are measured, too: no float32 tower can be faster than the former.

All threads, in ratios of wall time: batches one after the other, each shared by all threads as torch does it,
against as many batches at once as there are threads, each computed by one (``extraction/encoder.py``).

ViTs have random weights: time does not depend on what was learned. Only the full form writes
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
SHARED, OWN_ABREAST, ABREAST = "open_clip, shared batch", "open_clip, abreast", "lsn, abreast"
OURS_SHARED = "lsn, shared batch"
GOAL, AGREEMENT = 1.8, 2e-5

DWARF = {"image_size": 32, "patch_size": 8, "width": 64, "layers": 2, "heads": 2, "mlp_ratio": 4.0}


@dataclass(frozen=True)
class Form:
    """How much is measured: images of a batch, rounds; on one thread and on all."""

    batches: dict[str, int]
    rounds: int
    abreast: int


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
        made: nn.Module = model.model.visual
        return made
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if name == "dwarf":
            dwarf: nn.Module = VisionTransformer(**DWARF)
            return dwarf.eval().requires_grad_(False)
        clip: Any = open_clip.CLIP(**open_clip.get_model_config(name))
    whole: nn.Module = clip.visual.eval().requires_grad_(False)
    return whole


def images(made: Any, number: int) -> Tensor:
    """Noise of the size that the tower takes."""
    size = made.image_size
    return torch.randn(number, 3, *((size, size) if isinstance(size, int) else size))


def one_thread(made: nn.Module, pixels: Tensor, rounds: int) -> tuple[float, Rows]:
    """How far our features are from open_clip's, of the largest of them; CPU time of every forward."""
    torch.set_num_threads(1)
    ours, half, short = image_forward(made), deepcopy(made).bfloat16(), pixels.bfloat16()
    expected = pooled(made(pixels))
    apart = float((ours(pixels) - expected).abs().max() / expected.abs().max())
    variants: dict[str, Callable[[], object]] = {
        OWN: lambda: made(pixels),
        OURS: lambda: ours(pixels),
        HALF: lambda: half(short),
    }
    return apart, interleaved(variants, rounds, clock="cpu")


def all_threads(made: nn.Module, pixels: Tensor, rounds: int, threads: int) -> Rows:
    """Wall time of as many batches as there are threads."""
    own: Forward = lambda x: pooled(made(x))  # noqa: E731
    ours = image_forward(made)

    def shared(forward: Forward) -> Callable[[], object]:
        def run() -> None:
            torch.set_num_threads(threads)
            for _ in range(threads):
                forward(pixels)

        return run

    def abreast(forward: Forward, pool: ThreadPoolExecutor) -> Callable[[], object]:
        def alone(pixels: Tensor) -> None:
            torch.set_num_threads(1)
            with torch.inference_mode():
                forward(pixels)

        return lambda: list(pool.map(alone, [pixels] * threads))

    with ThreadPoolExecutor(threads) as pool:
        variants = {
            SHARED: shared(own),
            OWN_ABREAST: abreast(own, pool),
            OURS_SHARED: shared(ours),
            ABREAST: abreast(ours, pool),
        }
        return interleaved(variants, rounds)


def products(rounds: int, rows: int = 800, width: int = 768) -> Rows:
    """oneDNN's product of matrices against torch's own, at the size of a ViT-B's widest layer; one thread."""
    torch.set_num_threads(1)
    weight, x = torch.randn(4 * width, width), torch.randn(rows, width)
    packed = kernels.pack(weight)
    variants: dict[str, Callable[[], object]] = {
        "torch": lambda: linear(x, weight),
        "oneDNN": lambda: kernels.multiply(x, packed, None),
    }
    found = interleaved(variants, rounds, clock="cpu")
    billions = 2 * rows * width * 4 * width / 1e9
    return {name: {**row, "GFLOP/s": billions / row["cpu_s"]} for name, row in found.items()}


@torch.inference_mode()
def measure(form: Form, threads: int) -> dict[str, Any]:
    """Every tower of the form, by name, and ``products``."""
    found: dict[str, Any] = {"products": products(2 if form is TINY else 15)}
    for name, number in form.batches.items():
        made = tower(name)
        pixels = images(made, number)
        apart, alone = one_thread(made, pixels, form.rounds)
        found[name] = {
            "batch": number,
            "fast": isinstance(image_forward(made), FastImageTower),
            "apart": apart,
            "one thread": alone,
            f"{threads} threads": all_threads(made, pixels, form.abreast, threads),
        }
    return found


def rows_of(found: dict[str, Any], threads: int) -> list[Row]:
    """The figures as a table. Towers that run as they are have no goal in float32."""
    speed = {name: f"{row['GFLOP/s']:.0f}" for name, row in found["products"].items()}
    of = f"GFLOP/s of a thread: oneDNN {speed['oneDNN']}, torch {speed['torch']}"
    rows = [ratio("product of matrices, oneDNN", found["products"]["oneDNN"], None, of)]
    for name, one in found.items():
        if name == "products":
            continue
        alone, every = one["one thread"], one[f"{threads} threads"]
        what = f"image tower {name}"
        rows += [
            ratio(f"{what}, fp32", alone[OURS], GOAL if one["fast"] else None, "CPU time, one thread"),
            ratio(f"{what}, bf16", alone[HALF], None, "CPU time, one thread"),
            Row(f"{what}, fp32, difference", one["apart"], "", AGREEMENT, "at most"),
        ]
        clock = f"wall time, {threads} threads, to a batch shared by open_clip"
        rows += [
            ratio(f"{what}, {variant}", every[variant], None, clock)
            for variant in (OWN_ABREAST, OURS_SHARED, ABREAST)
        ]
    return rows


def rows(tiny: bool) -> list[Row]:
    """For ``benchmarks.all``."""
    threads = torch.get_num_threads()
    return rows_of(measure(TINY if tiny else QUICK, threads), threads)


def main(arguments: list[str] | None = None) -> None:
    """Measure, print, and in the full form write down."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="fewer rounds, about a minute, writes nothing")
    size.add_argument("--tiny", action="store_true", help="a dwarf of a tower, to see that the script runs")
    given = parser.parse_args(arguments)
    form = QUICK if given.quick else TINY if given.tiny else FULL
    threads = torch.get_num_threads()
    found = measure(form, threads)
    torch.set_num_threads(threads)
    shown = rows_of(found, threads)
    print(table({"image towers": shown}))
    if form is FULL:
        what = "Image towers on the CPU against open_clip's own forward, ratios"
        record("towers", what, rows=[asdict(row) for row in shown], **found)


if __name__ == "__main__":
    main()
