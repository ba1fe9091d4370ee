"""Registries name what they hold as ``module:name``, so that nothing is imported before it is used."""

from importlib import import_module
from typing import Any


def load(reference: str) -> Any:
    """Import what ``module:name`` stands for."""
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)
