"""The container: what comes back, what a crash leaves, and what is said about a file that is not right."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lsncli.artefacts.files import read_artefact, write_artefact
from lsncli.errors import LsnError
from tests.robustness.hostile import DEEP, safetensors

ARRAYS = {
    "half": np.arange(6, dtype=np.float16).reshape(2, 3),
    "single": np.array([[1.5, -0.0]], dtype=np.float32),
    "labels": np.array([3, -1], dtype=np.int32),
    "transposed": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "empty": np.empty((0, 4), dtype=np.float32),
}
FIELDS = {"classes": ["cät", 'a "b"\n'], "rate": 0.1, "shots": None, "settings": {"b": 1, "a": [2.0]}}


def written(folder: Path, **changes: str) -> Path:
    """A sound file, or one that somebody made whose header says something else."""
    path = folder / "thing.safetensors"
    write_artefact(path, "thing", ARRAYS, FIELDS)
    if changes:
        data = path.read_bytes()
        end = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:end])
        del header["__metadata__"]["checksum"]  # files of version 1, of before lsn wrote one, are read
        header["__metadata__"] |= {"format_version": "1"} | changes
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + data[end:])
    return path


def test_arrays_and_fields_come_back_as_they_were(tmp_path: Path) -> None:
    arrays, fields = read_artefact(written(tmp_path), "thing", "")
    assert fields == FIELDS
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        assert arrays[name].shape == array.shape
        assert arrays[name].tobytes() == np.ascontiguousarray(array).tobytes()


def test_missing_folders_are_made_and_no_temporary_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "thing.safetensors"
    write_artefact(path, "thing", ARRAYS, FIELDS)
    assert [p.name for p in path.parent.iterdir()] == ["thing.safetensors"]


def test_equal_content_is_equal_bytes_in_every_process(tmp_path: Path) -> None:
    # safetensors orders its metadata by a hash that is seeded anew in every process.
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from test_artefact_files import written\n"
        "sys.stdout.buffer.write(written(Path(sys.argv[2])).read_bytes())\n"
    )
    there = [sys.executable, "-c", script, str(Path(__file__).parent), str(tmp_path)]
    made = {subprocess.run(there, check=True, capture_output=True).stdout for _ in range(2)}
    made |= {written(tmp_path).read_bytes() for _ in range(10)}
    assert len(made) == 1


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch, step: str) -> None:
    path = written(tmp_path)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(LsnError, match=r"thing\.safetensors could not be written: No space left on device"):
        write_artefact(path, "thing", {"other": np.zeros(3, np.float32)}, {})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["thing.safetensors"]


def test_a_file_in_place_of_the_folder_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LsnError, match="could not be written"):
        write_artefact(tmp_path / "file" / "thing.safetensors", "thing", ARRAYS, FIELDS)


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(LsnError, match=r"no thing artefact at .*none\.safetensors") as caught:
        read_artefact(tmp_path / "none.safetensors", "thing", "Run `lsn make-thing`.")
    assert caught.value.hint == "Run `lsn make-thing`."
    with pytest.raises(LsnError, match="no thing artefact"):
        read_artefact(tmp_path, "thing", "")


def test_another_kind_is_refused_by_both_names(tmp_path: Path) -> None:
    with pytest.raises(LsnError, match="expected an artefact of format lsn-detector, found lsn-thing"):
        read_artefact(written(tmp_path), "detector", "")


def test_a_strangers_safetensors_file_is_refused(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    path = tmp_path / "stranger.safetensors"
    save_file({"text": np.zeros(3, np.float32)}, path)
    with pytest.raises(LsnError, match="expected an artefact of format lsn-thing, found no format"):
        read_artefact(path, "thing", "")


def test_a_newer_version_says_update(tmp_path: Path) -> None:
    for version in ("3", "x\x1b[1m", "²", "-1", ""):
        with pytest.raises(LsnError, match=r"expected format version 2, found ") as caught:
            read_artefact(written(tmp_path, format_version=version), "thing", "")
        assert "update lsn" in caught.value.hint
        assert caught.value.message.isprintable()


def test_one_flipped_bit_anywhere_is_said(tmp_path: Path) -> None:
    path = written(tmp_path)
    sound = path.read_bytes()
    for place in range(len(sound)):
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 1 << place % 8]) + sound[place + 1 :])
        with pytest.raises(LsnError):
            read_artefact(path, "thing", "")


@pytest.mark.parametrize("name", safetensors())
def test_a_hostile_file_is_one_sentence(tmp_path: Path, name: str) -> None:
    path = tmp_path / "thing.safetensors"
    path.write_bytes(safetensors()[name])
    with pytest.raises(LsnError, match=r"thing\.safetensors"):
        read_artefact(path, "thing", "")


def test_a_field_nested_beyond_reason_is_damage(tmp_path: Path) -> None:
    with pytest.raises(LsnError, match="is damaged: ValueError nested too deep"):
        read_artefact(written(tmp_path, rate=DEEP), "thing", "")


def test_a_field_that_is_not_json_is_damage(tmp_path: Path) -> None:
    with pytest.raises(LsnError, match="is damaged: JSONDecodeError"):
        read_artefact(written(tmp_path, rate="0.1.2"), "thing", "")


@pytest.mark.parametrize("keep", [0, 4, 8, 40, 0.5, -1])
def test_a_truncated_file_is_not_readable(tmp_path: Path, keep: float) -> None:
    path = written(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if 0 < keep < 1 else int(keep)])
    with pytest.raises(LsnError, match="is not a readable safetensors file") as caught:
        read_artefact(path, "thing", "Make it again.")
    assert caught.value.hint == "Make it again."


def test_arrays_begin_where_any_processor_may_read_them(tmp_path: Path) -> None:
    """The header is padded to a multiple of 8 bytes, whatever its length."""
    for length in range(9):
        write_artefact(tmp_path / "thing", "thing", ARRAYS, {"text": "x" * length})
        assert int.from_bytes((tmp_path / "thing").read_bytes()[:8], "little") % 8 == 0
