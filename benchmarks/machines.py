"""What a benchmark runs on: processor, instruction sets and their limits, libraries, and a name for it."""

import os
import platform
import re
from collections.abc import Mapping
from datetime import date
from typing import Any, Literal

from lsncli.device import NATIVE_FLAGS
from lsncli.machine import LIMITS, processor

Kind = Literal["other", "avx2", "avx512", "amx"]
"""Processors of one kind get the same goals; each kind has the instructions of those before it."""

KINDS: tuple[Kind, ...] = ("other", "avx2", "avx512", "amx")
TITLES: dict[Kind, str] = {"other": "other instructions", "avx2": "AVX2", "avx512": "AVX-512", "amx": "AMX"}
NEEDED: dict[Kind, str] = {"avx2": "avx2", "avx512": "avx512f", "amx": "amx_bf16"}
"""The flag in /proc/cpuinfo that makes a processor one of this kind."""

INSTRUCTIONS = (
    *("avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_int8", "amx_bf16", "asimddp", "i8mm", "bf16", "sve"),
)
"""The flags that matter for the speed of matrix products, on x86-64 and on ARM."""

WITHOUT_BF16 = ("AVX512_CORE", "AVX512_CORE_VNNI")
"""Limits of oneDNN that leave AVX-512 but not bfloat16."""

LIMITED_TO: tuple[tuple[str, Kind], ...] = (
    (".*AMX|AVX10|AVX512_E4", "amx"), ("AVX512", "avx512"), ("AVX2", "avx2"), ("AVX|SSE|DEFAULT", "other"),
)  # fmt: skip


def machine() -> dict[str, Any]:
    """Return processor, instruction sets, their limits, libraries, date, and the GPU if there is one."""
    import torch

    here = processor()
    limits = {name: os.environ[name] for name in LIMITS if os.environ.get(name)}
    flags = set(here.instruction_sets)
    facts = {
        "processor": _processor(here.name),
        "kind": kind_of(flags, limits),
        "instructions": [name for name in INSTRUCTIONS if name in flags],
        **({"limits": limits} if limits else {}),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "kernels": _kernels(torch.__config__.show()) | {"torch": torch.backends.cpu.get_cpu_capability()},
        "python": platform.python_version(),
        "torch": torch.__version__,
        "date": date.today().isoformat(),
    }
    return facts | ({"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {})


def kind_of(flags: set[str], limits: Mapping[str, str]) -> Kind:
    """Return the kind of a processor with these flags, or of what the limits leave of it."""
    native = max((kind for kind in NEEDED if NEEDED[kind] in flags), key=KINDS.index, default="other")
    return min([native, *(_limit(*limit) for limit in limits.items())], key=KINDS.index)


def has_bf16(facts: Mapping[str, Any]) -> bool:
    """Return whether the processor of ``machine`` multiplies bfloat16 natively, within its limits."""
    native = NATIVE_FLAGS["bf16"].intersection(facts["instructions"])
    without = facts.get("limits", {}).get("ONEDNN_MAX_CPU_ISA", "").upper() in WITHOUT_BF16
    return bool(native) and not without and (facts["kind"] in ("avx512", "amx") or "bf16" in native)


def name_of(facts: Mapping[str, Any]) -> str:
    """Return the name of a machine, as in "AMD EPYC, AVX2, 2 cores".

    Machines of one name replace each other's records; so a limit of the instructions is part of the name.
    What an old record does not state is left out.
    """
    parts = [facts["processor"], _instructions(facts), f"{facts['cores']} cores", facts.get("gpu", "")]
    return ", ".join(filter(None, parts))


def _instructions(facts: Mapping[str, Any]) -> str:
    title = TITLES[facts["kind"]] if "kind" in facts else ""
    limits: Mapping[str, str] = facts.get("limits", {})
    if limits.keys() == set(LIMITS) and {value.upper() for value in limits.values()} == {title}:
        return f"limited to {title}"
    return " ".join([title, *(f"{name}={value}" for name, value in limits.items())])


def _limit(name: str, value: str) -> Kind:
    """Return the best kind that a limit allows; "amx" for one that allows all."""
    if name == "ATEN_CPU_CAPABILITY" and value.upper() != "DEFAULT":
        return "avx2" if value.upper() == "AVX2" else "amx"  # torch's own kernels know nothing above AVX-512
    if name == "ONEDNN_MAX_CPU_ISA" and value.upper() in ("DEFAULT", "ALL"):
        return "amx"
    return next((kind for pattern, kind in LIMITED_TO if re.match(pattern, value.upper())), "amx")


def _processor(name: str) -> str:
    return " ".join(re.sub(r"\((R|TM|C)\)", "", name, flags=re.IGNORECASE).split())


def _kernels(config: str) -> dict[str, str]:
    """Return the versions of the libraries that multiply matrices, from torch's description of itself."""
    patterns = {"MKL": r"Math Kernel Library Version ([\w.]+)", "oneDNN": r"MKL-DNN v([\w.]+)"}
    found = {name: re.search(pattern, config) for name, pattern in patterns.items()}
    return {name: match[1] for name, match in found.items() if match}
