"""The model hub's client, made to fail at once and in silence where there is no network."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

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
