"""The model hub's client, made to fail at once and in silence where there is no network.

Import torchvision even where its compiled extension does not match torch.

open_clip and timm import torchvision for its image transforms. PyPI's Linux wheels of torchvision
are CUDA builds: next to a CPU build of torch their extension cannot be loaded, so the operators it
would register are missing and ``import torchvision`` dies on ``operator torchvision::nms does not
exist``. Declaring the two operator schemas is enough for the import to succeed; the operators
themselves are detection code that is never called here.
"""

from __future__ import annotations

import importlib
import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import torch
from huggingface_hub import constants


@contextmanager
def patient_only_online() -> Iterator[None]:
    """Inside, the hub is taken as offline if its host has no address, and no library logs anything.

    Otherwise its client tries ten times, for the better part of a minute and twenty lines, before it says so.
    What is in its cache is found all the same. Behind a proxy, which resolves names itself, nothing changes.
    """
    loggers = [logging.getLogger(), logging.getLogger("huggingface_hub")]
    levels = [logger.level for logger in loggers]
    offline = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = offline or _unreachable()
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = offline
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _unreachable() -> bool:
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return False
    try:
        socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, 443)
    except OSError:
        return True
    return False


_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_library: torch.library.Library | None = None  # its schemas vanish when it is collected


def ensure_torchvision() -> None:
    """Make ``import torchvision`` work; does nothing where it already does."""
    global _library
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error) or _library is not None:
            raise
        for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        _library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            _library.define(operator + _SCHEMA)
        importlib.import_module("torchvision")
