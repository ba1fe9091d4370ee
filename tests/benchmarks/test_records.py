"""Records of several machines in one file: what names a machine, what is quoted, what is replaced."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import machines, records
from benchmarks.machines import LIMITS, has_bf16, kind_of, machine, name_of

AVX512 = {"avx2", "avx512f", "avx512_bf16"}
AMX = AVX512 | {"amx_bf16", "amx_int8"}


def facts(processor: str = "AMD EPYC", kind: str = "avx2", date: str = "2026-01-02") -> dict[str, Any]:
    return {"processor": processor, "kind": kind, "instructions": [], "cores": 2, "date": date}


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Record on a machine of these facts, into a folder of its own."""
    monkeypatch.setattr(records, "RESULTS", tmp_path)

    def be(*arguments: str) -> None:
        monkeypatch.setattr(records, "machine", lambda: facts(*arguments))

    return be


def test_a_machine_states_processor_instructions_and_libraries() -> None:
    here = machine()
    assert here["kind"] in machines.KINDS
    assert here["kernels"]["torch"]
    assert str(here["cores"]) in name_of(here)
    assert here["processor"] in name_of(here)


@pytest.mark.parametrize(
    ("flags", "limits", "kind"),
    [
        ({"sse4_2"}, {}, "other"),
        ({"avx2"}, {}, "avx2"),
        (AVX512, {}, "avx512"),
        (AMX, {}, "amx"),
        (AMX, {"ONEDNN_MAX_CPU_ISA": "AVX2"}, "avx2"),
        (AMX, {"ONEDNN_MAX_CPU_ISA": "AVX2_VNNI_2"}, "avx2"),
        (AMX, {"ONEDNN_MAX_CPU_ISA": "avx512_core_bf16"}, "avx512"),
        (AMX, {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_AMX"}, "amx"),
        (AMX, {"ONEDNN_MAX_CPU_ISA": "DEFAULT"}, "amx"),
        (AMX, {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_AMX", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}, "avx2"),
        (AMX, {"MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}, "other"),
        (AMX, {"ATEN_CPU_CAPABILITY": "avx512"}, "amx"),
        (AMX, {"ATEN_CPU_CAPABILITY": "avx2"}, "avx2"),
        (AMX, {"ATEN_CPU_CAPABILITY": "default"}, "other"),
        ({"avx2"}, {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}, "avx2"),
    ],
)
def test_the_kind_is_the_best_that_processor_and_limits_allow(
    flags: set[str], limits: dict[str, str], kind: str
) -> None:
    assert kind_of(flags, limits) == kind


def test_bf16_is_native_only_where_neither_flags_nor_limits_forbid_it() -> None:
    amx = facts(kind="amx") | {"instructions": sorted(AMX)}
    assert has_bf16(amx)
    assert not has_bf16(amx | {"limits": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"}, "kind": "avx512"})
    assert not has_bf16(amx | {"limits": {"ATEN_CPU_CAPABILITY": "avx2"}, "kind": "avx2"})
    assert not has_bf16(facts(kind="avx512") | {"instructions": ["avx2", "avx512f"]})
    assert has_bf16(facts(kind="other") | {"instructions": ["bf16"]})  # ARM


def test_a_limit_is_part_of_the_name_and_what_is_unknown_is_not() -> None:
    here = facts("Intel Xeon")
    assert name_of(here) == "Intel Xeon, AVX2, 2 cores"
    every = dict(zip(LIMITS, ("AVX2", "AVX2", "avx2"), strict=True))
    assert name_of(here | {"limits": every}) == "Intel Xeon, limited to AVX2, 2 cores"
    one = {"limits": {"ONEDNN_MAX_CPU_ISA": "AVX2"}}
    assert name_of(here | one) == "Intel Xeon, AVX2 ONEDNN_MAX_CPU_ISA=AVX2, 2 cores"
    assert name_of(here | {"gpu": "NVIDIA H200"}) == "Intel Xeon, AVX2, 2 cores, NVIDIA H200"
    assert name_of({"processor": "AMD EPYC", "cores": 2}) == "AMD EPYC, 2 cores"


def test_limits_of_the_environment_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LIMITS:
        monkeypatch.delenv(name, raising=False)
    assert "limits" not in machine()
    monkeypatch.setenv("MKL_ENABLE_INSTRUCTIONS", "AVX2")
    assert machine()["limits"] == {"MKL_ENABLE_INSTRUCTIONS": "AVX2"}
    assert "MKL_ENABLE_INSTRUCTIONS=AVX2" in name_of(machine())


def test_a_machine_replaces_its_own_record_alone(on: Callable[..., None], tmp_path: Path) -> None:
    for processor, value in (("A", 1), ("B", 2), ("A", 3)):
        on(processor)
        records.record("speed", "something", value=value)
    found = json.loads((tmp_path / "speed.json").read_text())
    assert {name: one["value"] for name, one in found.items()} == {
        "A, AVX2, 2 cores": 3,
        "B, AVX2, 2 cores": 2,
    }
    assert records.own("speed")["value"] == 3
    on("C")
    assert records.own("speed") is None
    records.record("speed", "the same everywhere", for_all_machines=True, value=4)
    assert json.loads((tmp_path / "speed.json").read_text()).keys() == {"C, AVX2, 2 cores"}


def test_the_record_quoted_is_of_this_machine_or_of_its_kind_or_the_newest(on: Callable[..., None]) -> None:
    for processor, kind, date in (
        ("old", "avx512", "2026-01-01"),
        ("new", "avx512", "2026-01-03"),
        ("newest", "amx", "2026-01-04"),
    ):
        on(processor, kind, date)
        records.record("speed", "something", processor=processor)

    def quoted(*arguments: str) -> tuple[str, str]:
        on(*arguments)
        content, of = records.read("speed")
        assert content is not None
        return content["processor"], of

    assert quoted("old", "avx512") == ("old", "recorded 2026-01-01")
    assert quoted("other", "avx512") == ("new", "recorded 2026-01-03, new, AVX-512, 2 cores")
    assert quoted("other", "avx2") == ("newest", "recorded 2026-01-04, newest, AMX, 2 cores")
    assert records.read("nothing") == (None, "")


def test_every_recorded_file_names_its_machines() -> None:
    files = [path for path in records.RESULTS.glob("*.json") if path.name not in WITHOUT_MACHINES]
    assert len(files) > 20
    for path in files:
        for name, content in json.loads(path.read_text(encoding="utf-8")).items():
            assert name == name_of(content["machine"]), path.name
            assert content["what"], path.name


WITHOUT_MACHINES = {"mini-model.json", "imagenette-mini.json", "methods-imagenette.json"}
"""What `lsn eval` wrote, and the run whose weights are bundled."""
