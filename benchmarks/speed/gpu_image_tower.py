"""The image tower on CUDA: precisions, memory format, CUDA graphs, and the way of pixels to the device.

Parts of ``benchmarks.speed.gpu``.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.speed.models import image_tower
from benchmarks.speed.on_device import Figures, peak_mib, seconds
from lsncli.device import PRECISIONS, apply_precision, pick_dtype
from lsncli.memory import out_of_memory

LAST, GRAPH = ", channels_last", ", CUDA graph"


def image_rates(model: str, batch: int, rounds: int, device: torch.device) -> Figures:
    """Images a second of the tower on pixels that are there already: no decoding, no transfer.

    ``deviation`` is ||x - fp32|| / ||fp32|| of the features. A variant that does not run is left out.
    """
    rows: Figures = {}
    exact: Tensor | None = None
    for precision in PRECISIONS:
        if precision == "tf32" and device.type != "cuda":
            continue
        apply_precision(precision, device)
        torch.manual_seed(0)
        tower, size = image_tower(model)
        tower = tower.to(device, pick_dtype(precision))
        pixels = torch.randn(batch, 3, size, size).to(device, pick_dtype(precision))
        features = _features(tower, pixels)
        exact = features if exact is None else exact
        deviation = float((features - exact).norm() / exact.norm())
        for variant, make in VARIANTS.items():
            if variant == GRAPH and device.type != "cuda":
                continue
            try:
                run = make(tower, pixels)
                wall = seconds(run, rounds, device)
                row = {"images/s": batch / wall, "peak_mib": peak_mib(run, device), "deviation": deviation}
            except Exception as error:  # a variant must not cost the others
                print(f"  {precision}{variant}: {'out of memory' if out_of_memory(error) else error}")
                continue
            rows[precision + variant] = row
    apply_precision("fp32", device)
    return rows


@torch.inference_mode()
def _features(tower: nn.Module, pixels: Tensor) -> Tensor:
    found: Tensor = tower(pixels).float()
    return found


Run = Callable[[], object]


def _plain(tower: nn.Module, pixels: Tensor) -> Run:
    run: Run = torch.inference_mode()(lambda: tower(pixels))
    return run


def _channels_last(tower: nn.Module, pixels: Tensor) -> Run:
    moved: Any = tower
    return _plain(
        moved.to(memory_format=torch.channels_last), pixels.contiguous(memory_format=torch.channels_last)
    )


@torch.inference_mode()
def _graph(tower: nn.Module, pixels: Tensor) -> Run:
    """Record one pass as a graph; a replay launches all its kernels at once."""
    aside = torch.cuda.Stream(pixels.device)
    aside.wait_stream(torch.cuda.current_stream(pixels.device))
    with torch.cuda.stream(aside):  # kernels are chosen and memory is found before anything is recorded
        for _ in range(3):
            tower(pixels)
    torch.cuda.current_stream(pixels.device).wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        tower(pixels)
    return graph.replay


VARIANTS: dict[str, Callable[[nn.Module, Tensor], Run]] = {"": _plain, GRAPH: _graph, LAST: _channels_last}
"""The last one leaves the tower changed."""


def transfer_rates(model: str, batch: int, rounds: int, device: torch.device) -> Figures:
    """GB a second of moving a batch of pixels to the device, from ordinary and from pinned memory."""
    _, size = image_tower(model)
    pixels = torch.randn(batch, 3, size, size)
    pinned = pixels.pin_memory() if device.type == "cuda" else pixels
    ways: dict[str, Run] = {
        "ordinary memory": lambda: pixels.to(device, copy=True),
        "pinned memory": lambda: pinned.to(device, copy=True),
        "pinned, without waiting": lambda: pinned.to(device, non_blocking=True, copy=True),
    }
    size_gb = pixels.numel() * pixels.element_size() / 1e9
    return {name: {"GB/s": size_gb / seconds(run, rounds, device)} for name, run in ways.items()}
