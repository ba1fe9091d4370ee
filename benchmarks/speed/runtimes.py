"""Libraries that can compute an image tower on a CPU, against open_clip's own forward pass, in one process.

    python -m benchmarks.speed.runtimes [--tiny] [--models ViT-B-32 ...]

Which one is fastest depends on the processor, so this measures them where it runs: open_clip by torch, the
program's tower by oneDNN, OpenVINO (pip install openvino) in float32, and the program's tower with linear
layers in int8. Wall time of as many batches as there are threads: first one after the other, each shared by
all threads, as a plain loop does it; then one batch per thread in parallel, as ``lsn extract`` does it.

Prints the largest difference from open_clip's features as a fraction of the largest one, the least cosine
with them, and the seconds that a runtime takes to get ready. ViTs have random weights. Without ``--tiny`` it
writes results/runtimes.json. Nothing here is used by the program yet.
"""

import argparse
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import local
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from benchmarks.records import record
from benchmarks.speed.timing import Rows, interleaved
from benchmarks.speed.towers import images, in_parallel, shared, tower
from lsncli.backbones import fast_image_tower
from lsncli.backbones.fast_image_tower import FastImageTower, Forward, image_forward, is_known
from lsncli.backbones.trainable_image_tower import pooled
from lsncli.prompts import kernels

MODELS = ("ViT-B-32", "ViT-B-16", "mini")
SHARED, TORCH = "torch, shared batch", "torch"
WEIGHT_LEVELS, INPUT_LEVELS = 127, 127


@dataclass(frozen=True)
class Int8Linear:
    """y = x A^T + b with A (out, in) in int8, by oneDNN.

    A weight w of output o becomes round(w / s_o) with s_o = max |w| / 127. An input x becomes
    round(x / s) + z, the range of its whole batch on 0 .. 127: seven bits, because processors without VNNI
    instructions sum pairs of products in int16, which eight bits overflow. Sums are int32, and scaled back to
    float32; bias, activation and residual sum are float32.
    """

    packed: Tensor
    scales: Tensor
    zeros: Tensor
    bias: Tensor | None

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor | None) -> "Int8Linear":
        """Quantise A (out, in), float32 on the CPU."""
        scales = weight.abs().amax(dim=1).clamp_min(torch.finfo(torch.float32).tiny) / WEIGHT_LEVELS
        integers = (weight / scales[:, None]).round().to(torch.int8)
        packed = torch.ops.onednn.qlinear_prepack(integers, None)
        return cls(packed, scales, torch.zeros(len(scales), dtype=torch.int32), bias)

    def __call__(self, x: Tensor, then: kernels.Then = "none") -> Tensor:
        """Return then(x A^T + b) of (..., in)."""
        integers, scale, zero = quantise(x)
        name, algorithm = kernels._THEN[then]
        y: Tensor = torch.ops.onednn.qlinear_pointwise(
            *(integers, scale, zero, self.packed, self.scales, self.zeros, self.bias),
            *(1.0, 0, torch.float32, name, [], algorithm),
        )
        return y

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        """Return x A^T + b + y."""
        return self(x).add_(y)


def quantise(x: Tensor) -> tuple[Tensor, float, int]:
    """Return x as uint8, with the scale s and the zero z such that x is about s (integer - z)."""
    low, high = (float(end) for end in torch.aminmax(x))
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / INPUT_LEVELS or 1.0
    zero = round(-low / scale)
    # Adding a half and cutting off rounds, for nothing here is negative.
    return torch.add(zero + 0.5, x, alpha=1 / scale).to(torch.uint8), scale, zero


def onednn(visual: nn.Module) -> Forward | None:
    """Return the program's tower in float32; None for an architecture that it does not know."""
    forward = image_forward(visual)
    return forward if isinstance(forward, FastImageTower) else None


def int8(visual: nn.Module) -> Forward | None:
    """Return the program's tower with its linear layers in int8; None where it is not known."""
    if not is_known(visual):
        return None
    forward = FastImageTower(visual)
    with patch.object(fast_image_tower, "_pack", Int8Linear.of):
        forward(images(visual, 1))  # weights are packed when pixels first come
    return forward


def openvino(visual: nn.Module) -> Forward | None:
    """Return the tower as an OpenVINO graph in float32; None if OpenVINO is not installed.

    Each calling thread has a request of its own, and each request one thread of the processor.
    """
    try:
        import openvino as ov
    except ImportError:
        return None
    example = images(visual, 2)
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # the fused attention cannot be converted
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's tracer, about shapes that it takes for constants
            graph = ov.convert_model(_Pooled(visual), example_input=example)
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    graph.reshape([-1, *example.shape[1:]])
    threads = torch.get_num_threads()
    options = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": str(threads)}
    compiled = ov.Core().compile_model(graph, "CPU", options | {"INFERENCE_NUM_THREADS": threads})
    own = local()

    def forward(pixels: Tensor) -> Tensor:
        if not hasattr(own, "request"):
            own.request = compiled.create_infer_request()
        features = own.request.infer({0: pixels.contiguous().numpy()})[compiled.output(0)]
        return torch.from_numpy(features.copy())  # the next call writes over the request's own array

    return forward


class _Pooled(nn.Module):
    """A tower whose answer is its image features alone."""

    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.visual = visual

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the image features (B, D)."""
        return pooled(self.visual(pixels))


RUNTIMES: dict[str, Callable[[nn.Module], Forward | None]] = {
    TORCH: lambda visual: lambda pixels: pooled(visual(pixels)),
    "onednn": onednn,
    "openvino": openvino,
    "int8": int8,
}


@torch.inference_mode()
def measure(name: str, batch: int, rounds: int) -> dict[str, Any]:
    """Measure every runtime that can compute the tower ``name``, with ``batch`` images for each thread."""
    visual, threads = tower(name), torch.get_num_threads()
    pixels = images(visual, batch)
    expected = pooled(visual(pixels))
    forwards, agreement = {}, {}
    for runtime, make in RUNTIMES.items():
        began = time.perf_counter()
        forward = make(visual)
        if forward is None:
            continue
        features = forward(pixels)
        forwards[runtime] = forward
        agreement[runtime] = {
            "ready_s": time.perf_counter() - began,
            "difference": float((features - expected).abs().max() / expected.abs().max()),
            "cosine": float(cosine_similarity(features, expected).min()),
        }
    times = _all_threads(forwards, pixels, rounds, threads)
    return {"batch": batch, "threads": threads, "agreement": agreement, "times": times}


def _all_threads(forwards: Mapping[str, Forward], pixels: Tensor, rounds: int, threads: int) -> Rows:
    with ThreadPoolExecutor(threads) as pool:
        variants = {SHARED: shared(forwards[TORCH], pixels, threads)}
        for name, forward in forwards.items():
            variants[name] = in_parallel(forward, pixels, threads, pool)
        times = interleaved(variants, rounds)
    torch.set_num_threads(threads)
    return times


def show(name: str, result: dict[str, Any]) -> None:
    """Print one tower's figures."""
    images_a_round = result["batch"] * result["threads"]
    print(f"\n{name}: batches of {result['batch']} on {result['threads']} threads, wall time")
    heading = f"  {'runtime':<22}{'ms/image':>10}{'ratio':>8}{'range':>14}"
    print(f"{heading}{'difference':>12}{'cosine':>10}{'ready':>8}")
    for variant, row in result["times"].items():
        line = f"  {variant:<22}{1000 * row['wall_s'] / images_a_round:>10.1f}{row['ratio']:>8.2f}"
        line += f"{row['lowest']:>8.2f}-{row['highest']:<5.2f}"
        if variant in result["agreement"]:
            own = result["agreement"][variant]
            line += f"{own['difference']:>12.1e}{own['cosine']:>10.6f}{own['ready_s']:>6.1f} s"
        print(line)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print; without ``--tiny`` also write the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="a dwarf of a tower, to see that the script runs")
    parser.add_argument("--models", nargs="+", default=MODELS, metavar="NAME")
    options = parser.parse_args(arguments)
    sizes = {"dwarf": 2} if options.tiny else dict.fromkeys(options.models, 16)
    results = {}
    for name, batch in sizes.items():
        results[name] = measure(name, batch, 1 if options.tiny else 5)
        show(name, results[name])
    if not options.tiny:
        what = "Runtimes of an image tower on the CPU, wall time to open_clip's shared batch"
        capability = torch.backends.cpu.get_cpu_capability()
        record("runtimes", what, instructions=capability, **results)


if __name__ == "__main__":
    main()
