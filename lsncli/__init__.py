"""Find the images that do not belong, with CLIP and learned negative prompts.

>>> from lsncli import Detector, Threshold
>>> Threshold.__name__
'Threshold'

The names in ``__all__`` are the public Python API. Everything else may change between releases.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lsncli.api import (
        Detector,
        Threshold,
        Verdict,
        evaluate_scores,
        list_images,
        load_backbone,
        load_score,
        read_split,
    )
    from lsncli.api_selection import MethodSelection, select_method

__version__ = "0.1.0"
__all__ = [
    "Detector",
    "MethodSelection",
    "Threshold",
    "Verdict",
    "__version__",
    "evaluate_scores",
    "list_images",
    "load_backbone",
    "load_score",
    "read_split",
    "select_method",
]
SELECTION = ("MethodSelection", "select_method")
"""The names of ``lsncli.api_selection``."""


def __getattr__(name: str) -> Any:
    """Load the Python API on first use: ``lsn --help`` does without it."""
    if name in __all__:
        return getattr(import_module("lsncli.api_selection" if name in SELECTION else "lsncli.api"), name)
    raise AttributeError(f"module 'lsncli' has no attribute '{name}'")
