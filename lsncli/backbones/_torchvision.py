"""Import torchvision even where its compiled extension does not match torch.

open_clip and timm import torchvision for its image transforms. PyPI's Linux wheels of torchvision
are CUDA builds: next to a CPU build of torch their extension cannot be loaded, so the operators it
would register are missing and ``import torchvision`` dies on ``operator torchvision::nms does not
exist``. Declaring the two operator schemas is enough for the import to succeed; the operators
themselves are detection code that is never called here.
"""

from __future__ import annotations

import importlib
import sys

import torch

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
