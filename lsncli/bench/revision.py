"""The git commit that a number was measured with."""

import os
from functools import cache
from pathlib import Path

import lsncli


@cache
def revision() -> str:
    """The git commit of the working copy that this package runs from; empty for an installed one."""
    folder = Path(lsncli.__file__).parents[1] / ".git"
    try:
        head = (folder / "HEAD").read_text(encoding="ascii").strip()
        name = head.removeprefix("ref: ")
        if name == head or os.path.isabs(name):
            return head
        if (folder / name).is_file():
            return (folder / name).read_text(encoding="ascii").strip()
        packed = (folder / "packed-refs").read_text(encoding="ascii").splitlines()
        return next((line.split()[0] for line in packed if line.endswith(f" {name}")), "")
    except (OSError, ValueError):
        return ""
