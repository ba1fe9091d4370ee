"""On a CPU several batches are encoded abreast, each by one thread.

Sharing one batch among threads would round differently with their number (torch cuts attention and
convolutions by it), and a store must not show how many cores made it. Nor does anybody wait between one layer
and the next.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def batches_abreast(device: torch.device) -> Iterator[int]:
    """How many batches to encode at once: on a CPU as many as torch may use threads, else 1.

    Afterwards torch has its threads again, which ``compute_alone`` took from it.
    """
    threads = torch.get_num_threads()
    try:
        yield threads if device.type == "cpu" else 1
    finally:
        if device.type == "cpu":
            torch.set_num_threads(threads)


def compute_alone(device: torch.device) -> None:
    """From now on the calling thread shares with no other what it computes on a CPU."""
    if device.type == "cpu":
        torch.set_num_threads(1)
