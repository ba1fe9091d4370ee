"""Pixels to a CUDA device while it computes on others, and computing that leaves it no pause."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from threading import local

import torch

from lsncli.images.loader import Batch

ENCODERS = 2
"""Batches that a CUDA device works on at once: while the features of one are fetched, the other computes."""

_own = local()


def mover(device: torch.device) -> Callable[[Batch], Batch]:
    """A function that brings a batch's pinned pixels to ``device``, for one thread of its own.

    It returns when they are there, so that any stream may use them. They are safe to drop once their
    features were fetched, for that waits for whatever computes on them.
    """
    stream = torch.cuda.Stream(device)

    def move(batch: Batch) -> Batch:
        with torch.cuda.stream(stream):
            pixels = batch.pixels.to(device, non_blocking=True)
        stream.synchronize()
        batch.release()
        return replace(batch, pixels=pixels, release=lambda: None)

    return move


@contextmanager
def own_stream(device: torch.device) -> Iterator[None]:
    """What this thread starts on a CUDA device waits for no other thread's work; nothing on other devices."""
    if device.type != "cuda":
        yield
        return
    if getattr(_own, "device", None) != device:
        _own.device, _own.stream = device, torch.cuda.Stream(device)
    with torch.cuda.stream(_own.stream):
        yield
