"""Choose the runtime of an image tower for the work ahead, by measurement on this machine.

Which runtime is fastest depends on the processor: on three processors, three different ones were. So before
many images a self-test measures them, for at most ``SHARE`` of the estimated time: one batch per thread in
parallel, as ``extraction.encoder`` encodes them, in turns. Its results are kept (``lsncli.machine``) for this
processor, number of threads, model and version of each library.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass

import numpy as np
import torch
from PIL import Image

from lsncli.backbones import Backbone, on_runtime, runtimes_of
from lsncli.errors import LsnError
from lsncli.machine import keep_measured, measured, measurement_key, versions
from lsncli.types import Fingerprint
from lsncli.validation import validate

SHARE = 0.02
"""The largest part of the estimated time that is spent on measuring."""
MANY = 512
"""Fewer images are encoded with the usual runtime."""
FEWEST_IMAGES, MOST_IMAGES = 2, 8
"""Images of a batch in the self-test."""
TURNS = 3


@dataclass(frozen=True)
class RuntimeTime:
    """The seconds that an image takes with all threads, and those until the first one."""

    image: float
    ready: float

    def seconds(self, images: int) -> float:
        """Return the estimated seconds for so many images."""
        return self.ready + images * self.image


def for_images(backbone: Backbone, images: int) -> Backbone:
    """Return the backbone with the fastest runtime for ``images`` images.

    A backbone without a choice, or with a runtime that was asked for, is returned as it is. A runtime that
    does not work here is left out.
    """
    names = runtimes_of(backbone)
    if len(names) < 2 or images < MANY:
        return backbone
    key = runtimes_key(backbone.fingerprint)
    times = {name: time for name, time in _known(key).items() if name in names}
    if not times:
        times = measure(backbone, images)
        if not times:
            return backbone
        keep_measured(key, {name: asdict(each) for name, each in times.items()})
    return on_runtime(backbone, min(times, key=lambda name: times[name].seconds(images)))


def measure(backbone: Backbone, images: int) -> dict[str, RuntimeTime]:
    """Measure runtimes in turns, for at most ``SHARE`` of the time that ``images`` images take.

    Returns nothing if that is too short.
    """
    began, threads = time.perf_counter(), torch.get_num_threads()
    names = runtimes_of(backbone)
    models, ready = {names[0]: on_runtime(backbone, names[0])}, {names[0]: 0.0}
    shape = backbone.preprocess(Image.new("RGB", (64, 64))).shape
    pixels = torch.from_numpy(np.random.default_rng(0).standard_normal((MOST_IMAGES, *shape), np.float32))

    def turn(name: str, batch: int) -> float:
        """Encode a batch per thread and return the seconds for an image."""
        start = time.perf_counter()
        list(pool.map(models[name].encode, [pixels[:batch]] * threads))
        return (time.perf_counter() - start) / (batch * threads)

    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            first = [turn(names[0], 2), turn(names[0], 2)][-1]  # the first one only warms up
            spare = SHARE * images * first - (time.perf_counter() - began)
            # A turn of each runtime to warm up, and TURNS that count.
            batch = min(MOST_IMAGES, int(spare / (len(names) * (TURNS + 1) * first * threads)))
            if batch < FEWEST_IMAGES:
                return {}
            for name in names[1:]:
                start = time.perf_counter()
                with suppress(LsnError):
                    models[name] = on_runtime(backbone, name)
                    ready[name] = time.perf_counter() - start
            for name in models:
                turn(name, batch)
            turns = [{name: turn(name, batch) for name in models} for _ in range(TURNS)]
    finally:
        torch.set_num_threads(threads)
    return {name: RuntimeTime(min(row[name] for row in turns), ready[name]) for name in models}


def runtimes_key(fingerprint: Fingerprint) -> str:
    """Return the key of everything that the speed of a runtime depends on."""
    return measurement_key(
        versions("torch", "open_clip_torch", "lsncli"),
        threads=torch.get_num_threads(),
        runtimes_of=[fingerprint.model, fingerprint.dim, fingerprint.image_size, fingerprint.precision],
    )


def _known(key: str) -> dict[str, RuntimeTime]:
    """Return the times kept under ``key``; none if they are damaged."""
    try:
        return validate(dict[str, RuntimeTime], measured(key) or {})
    except (ValueError, TypeError):
        return {}
