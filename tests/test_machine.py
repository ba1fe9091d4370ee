"""This machine: its processor, and measurements that are kept under everything that they depend on."""

import json
from pathlib import Path

import pytest

from lsncli import machine
from lsncli.machine import keep_measured, measured, measurement_key, measurements_file, processor, versions


@pytest.fixture(autouse=True)
def own_folder(monkeypatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("LSN_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_what_was_measured_is_kept_beside_other_things() -> None:
    assert measured("a") is None
    keep_measured("a", {"x": 1.5})
    keep_measured("b", True)
    keep_measured("a", 2)
    assert (measured("a"), measured("b"), measured("c")) == (2, True, None)


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 9999, '"a"', "\xff"])
def test_a_damaged_file_is_as_none_and_is_replaced(content: str) -> None:
    measurements_file().parent.mkdir()
    measurements_file().write_text(content)
    assert measured("a") is None
    keep_measured("a", 1)
    assert json.loads(measurements_file().read_text()) == {"a": 1}


def test_a_folder_that_cannot_be_written_is_no_error(monkeypatch, own_folder: Path) -> None:
    (own_folder / "file").write_text("")
    monkeypatch.setenv("LSN_CACHE", str(own_folder / "file"))
    keep_measured("a", 1)
    assert measured("a") is None


def test_the_file_is_in_the_users_cache(monkeypatch) -> None:
    monkeypatch.delenv("LSN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert measurements_file() == Path("/caches/lsn/measured.json")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert measurements_file() == Path("/home/me/.cache/lsn/measured.json")


def test_a_key_depends_on_processor_limits_libraries_and_facts(monkeypatch) -> None:
    keys = {measurement_key({"torch": "2.0"}, threads=1), measurement_key({"torch": "2.1"}, threads=1)}
    keys.add(measurement_key({"torch": "2.0"}, threads=2))
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    keys.add(measurement_key({"torch": "2.0"}, threads=1))
    monkeypatch.setattr(machine, "processor", lambda: machine.Processor("another", frozenset()))
    keys.add(measurement_key({"torch": "2.0"}, threads=1))
    assert len(keys) == 5


def test_versions_are_those_of_installed_packages() -> None:
    assert versions("no-such-package") == {"no-such-package": ""}
    assert versions("numpy")["numpy"]


def test_the_processor_is_that_of_the_system() -> None:
    processor.cache_clear()
    assert processor().instruction_sets or not Path("/proc/cpuinfo").exists()
