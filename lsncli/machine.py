"""This machine: its processor, and what earlier runs have measured on it.

Measurements are kept in ``measured.json`` of the folder ``LSN_CACHE`` (by default ``~/.cache/lsn``), each
under the digest of everything that it depends on, so that a choice by measurement is made once.
"""

import json
import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lsncli.errors import LsnError
from lsncli.files import read_own, write_own
from lsncli.validation import parse_json, validate

LIMITS = ("ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "ATEN_CPU_CAPABILITY")
"""Environment variables that limit the instruction sets which libraries use."""
LONGEST = 1 << 20
"""Bytes of the file of measurements."""


@dataclass(frozen=True)
class Processor:
    """The name and the instruction sets of the processor; none where the system does not list them."""

    name: str
    instruction_sets: frozenset[str]


@cache
def processor() -> Processor:
    """Return the processor as the system describes it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    facts = dict(reversed([line.partition(":")[::2] for line in lines]))
    named = {name.strip(): value.strip() for name, value in facts.items()}
    flags = named.get("flags", named.get("Features", ""))
    return Processor(named.get("model name") or platform.processor(), frozenset(flags.split()))


def measurement_key(libraries: Mapping[str, str], **facts: object) -> str:
    """Return the digest of this machine, the versions of ``libraries`` and further ``facts``."""
    here = processor()
    every = {
        "processor": [here.name, *sorted(here.instruction_sets)],
        "limits": [os.environ.get(name, "") for name in LIMITS],
        "libraries": dict(libraries),
        **facts,
    }
    return sha256(json.dumps(every, sort_keys=True).encode()).hexdigest()[:16]


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of installed packages; "" for one that is missing."""
    found = {}
    for package in packages:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return {package: found.get(package, "") for package in packages}


def cache_folder() -> Path:
    """Return the user's cache folder: ``LSN_CACHE``, by default ``~/.cache/lsn``."""
    usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lsn"
    return Path(os.environ.get("LSN_CACHE") or usual)


def measurements_file() -> Path:
    """Return the path of the file of measurements."""
    return cache_folder() / "measured.json"


def measured(key: str) -> Any:
    """Return what was kept under ``key``; None if nothing was, or the file is damaged."""
    return _content().get(key)


def keep_measured(key: str, value: object) -> None:
    """Keep a JSON value under ``key``. A folder that cannot be written is no error: it is measured again."""
    with suppress(LsnError, OSError, RuntimeError):
        write_own(measurements_file(), json.dumps(_content() | {key: value}, indent=1).encode())


def _content() -> dict[str, Any]:
    try:
        return validate(dict[str, Any], parse_json(read_own(measurements_file(), LONGEST).decode()))
    except (OSError, ValueError, TypeError, RuntimeError):
        return {}
