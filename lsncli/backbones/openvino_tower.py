"""An image tower as an OpenVINO graph on a CPU, in float32: the runtime "openvino" (an extra)."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import local

import torch
from torch import Tensor, nn

from lsncli.backbones.trainable_image_tower import pooled
from lsncli.errors import Unavailable


class _Pooled(nn.Module):
    """A tower whose output is its image features alone."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, pixels: Tensor) -> Tensor:
        return pooled(self.tower(pixels))


@contextmanager
def _convertible_attention() -> Iterator[None]:
    """Switch off torch's fused attention, for which OpenVINO has no operator."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def openvino_forward(tower: nn.Module, pixels: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the tower's forward as an OpenVINO graph, for pixels (B, 3, H, W) of the size of these.

    Each calling thread has a request of its own, and each request computes on one thread of the processor, so
    that features do not depend on the number of threads. Raises Unavailable if OpenVINO is not installed or
    does not convert the tower.
    """
    try:
        import openvino
    except ImportError as error:
        raise Unavailable(
            "--runtime openvino: OpenVINO is not installed.", "pip install 'lsncli[openvino]'"
        ) from error
    threads = torch.get_num_threads()
    options = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": threads, "INFERENCE_NUM_THREADS": threads}
    try:
        with _convertible_attention(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's tracer, about sizes that it takes for constants
            graph = openvino.convert_model(_Pooled(tower), example_input=pixels)
        graph.reshape([-1, *pixels.shape[1:]])
        compiled = openvino.Core().compile_model(graph, "CPU", options)
    except Exception as error:  # OpenVINO has no class of its own for what it cannot convert
        reason = str(error).strip().partition("\n")[0]
        raise Unavailable(
            f"--runtime openvino: OpenVINO does not convert this image tower: {reason}.",
            "Use --runtime auto.",
        ) from error
    own = local()

    def forward(pixels: Tensor) -> Tensor:
        if not hasattr(own, "request"):
            own.request = compiled.create_infer_request()
        features = own.request.infer({0: pixels.contiguous().numpy()})[compiled.output(0)]
        return torch.from_numpy(features.copy())  # the next call overwrites the request's own array

    return forward
