"""Load pretrained weights: an offline hub fails at once, torchvision imports, clear errors.

open_clip and timm import torchvision for its image transforms. PyPI's Linux wheels of torchvision
are CUDA builds: next to a CPU build of torch their extension cannot be loaded, so the operators it
would register are missing and ``import torchvision`` fails with ``operator torchvision::nms does not
exist``. Declaring the two operator schemas is enough for the import to succeed; the operators
themselves are detection code that is never called here.

The messages of torch, open_clip and the hub are long, name options that would run untrusted code, and may
contain escape codes of a terminal, from the library or from the file.
"""

from __future__ import annotations

import importlib
import logging
import os
import re
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, wraps
from textwrap import shorten
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import torch
from huggingface_hub import constants

from lsncli.console import ESCAPE, printable


@contextmanager
def patient_only_online() -> Iterator[None]:
    """Treat the hub as offline in the block if its host has no address, and suppress library logs.

    Its client would otherwise retry ten times, for most of a minute and twenty lines of log. Cached files are
    still found. Behind a proxy, which resolves names itself, nothing changes.
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
    """Make ``import torchvision`` and ``import open_clip`` work, if necessary, and fast.

    They are imported here, without torch's compiler.
    """
    if "torch._dynamo" not in sys.modules and "open_clip" not in sys.modules:
        before = set(sys.modules)
        try:
            with _compiler_on_demand():
                _import_torchvision()
                importlib.import_module("open_clip")
        except (ImportError, AttributeError):  # it asked the compiler for more than there is a stand-in for
            for name in set(sys.modules) - before:
                if name.split(".")[0] in ("torchvision", "timm", "open_clip"):
                    del sys.modules[name]
    _import_torchvision()


def _import_torchvision() -> None:
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


@contextmanager
def _compiler_on_demand() -> Iterator[None]:
    """Import modules in the block without torch's compiler: functions that they take from it import it later.

    torchvision and timm name it at import, for functions that are never called here, and it takes as long to
    import as torch itself.
    """
    compiler, utils = ModuleType("torch._dynamo"), ModuleType("torch._dynamo.utils")
    stand_ins = {module.__name__: module for module in (compiler, utils)}
    vars(compiler).update(__path__=[], utils=utils, disable=_not_compiled)
    vars(utils).update(is_compile_supported=_is_compile_supported)
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name, module in stand_ins.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


def _not_compiled(function: Callable[..., Any], *options: Any, **named: Any) -> Callable[..., Any]:
    """Return the function of ``torch._dynamo.disable``, which is called on the first call of the result."""
    if not callable(function):
        raise AttributeError("torch._dynamo.disable without a function")

    @cache
    def disabled() -> Callable[..., Any]:
        found: Callable[..., Any] = importlib.import_module("torch._dynamo").disable(
            function, *options, **named
        )
        return found

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        return disabled()(*args, **kwargs)

    return run


def _is_compile_supported(device_type: str) -> bool:
    return bool(importlib.import_module("torch._dynamo.utils").is_compile_supported(device_type))


LONGEST = 200
GLOBAL = re.compile(
    r"(?:Unsupported (?:global|class|type)[^:]*: (?:GLOBAL )?|Tried to instantiate class )(\S+)"
)
KEYS = {
    "is missing": re.compile(r"Missing key\(s\) in state_dict: (.*)"),
    "is unknown": re.compile(r"Unexpected key\(s\) in state_dict: (.*)"),
}
SIZES = re.compile(
    r"size mismatch for (\S+): copying a param with shape torch\.Size\((.*?)\) from checkpoint, "
    r"the shape in current model is torch\.Size\((.*?)\)"
)


def load_reason(error: Exception) -> str:
    """Describe an error of loading weights in a clause without a full stop."""
    text = ESCAPE.sub("", str(error))
    if "Weights only load failed" in text:
        return _pickle_reason(text)
    if "in loading state_dict" in text:
        return _state_reason(str(error))
    if isinstance(error, (KeyError, EOFError)) or not text.strip():  # what torch raises on any other file
        return cleaned(f"it is cut short, or no file of tensors ({type(error).__name__} {text}".strip()) + ")"
    return cleaned(text)


def cleaned(text: str) -> str:
    """Clean a library's text: one line, no escape codes, at most ``LONGEST`` characters."""
    return printable(shorten(ESCAPE.sub("", text), LONGEST, placeholder=" ...")).rstrip(" .")


def _pickle_reason(text: str) -> str:
    unsafe = GLOBAL.search(text)
    if unsafe is None:
        return cleaned(f"it is no file of tensors: {text.rpartition('WeightsUnpickler error: ')[2]}")
    return (
        f"besides tensors it holds an object of {_name(unsafe[1])}, and to load objects may run code; "
        "save the tensors alone: torch.save(model.state_dict(), FILE)"
    )


def _state_reason(text: str) -> str:
    """Describe missing, unknown and misshapen weights: the number and the first of each kind."""
    parts = []
    for what, pattern in KEYS.items():
        line = pattern.search(text)
        names = re.findall(r'"(.*?)"', line[1]) if line else []
        if names:
            parts.append(_counted(len(names), what, f"'{_name(names[0])}'"))
    sizes = SIZES.findall(text)
    if sizes:
        name, found, expected = sizes[0]
        shapes = f"'{_name(name)}': expected {expected}, found {found}"
        parts.append(_counted(len(sizes), "has another shape (size mismatch)", shapes))
    return "; ".join(parts) or cleaned(text)


def _name(text: str) -> str:
    return printable(text)[:100]


def _counted(count: int, what: str, first: str) -> str:
    if count == 1:
        return f"1 weight {what}: {first}"
    return f"{count} weights {what.replace('is ', 'are ').replace('has ', 'have ')}, such as {first}"
