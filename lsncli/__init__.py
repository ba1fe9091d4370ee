"""lsn: find the images that do not belong, with CLIP and learned negative prompts.

>>> from lsncli import Detector
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lsncli.api import Detector, Result

__version__ = "0.1.0"
__all__ = ["Detector", "Result", "__version__"]


def __getattr__(name: str) -> Any:
    """The Python API, loaded when it is asked for: `lsn --help` needs none of it."""
    if name in ("Detector", "Result"):
        return getattr(import_module("lsncli.api"), name)
    raise AttributeError(f"module 'lsncli' has no attribute '{name}'")
