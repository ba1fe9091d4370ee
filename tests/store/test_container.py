"""The file that HDF5 writes through: it keeps the first error, and nothing is written after it."""

from io import FileIO
from pathlib import Path

import pytest

from lsncli.store.container import _FileWriter


class Full(FileIO):
    """A file on a disk that has no room for more."""

    def truncate(self, size: int | None = None) -> int:
        raise OSError(28, "No space left on device")


def test_a_file_gets_the_length_that_hdf5_asks_for(tmp_path: Path) -> None:
    with FileIO(tmp_path / "f", "w+") as file:
        written = _FileWriter(file)
        assert written.write(memoryview(b"abc")) == 3
        assert written.truncate(100) == 100
        written.check()
    assert (tmp_path / "f").read_bytes() == b"abc" + bytes(97)


def test_a_length_that_the_disk_refuses_is_said_at_the_end_and_nothing_is_written_any_more(
    tmp_path: Path,
) -> None:
    with Full(tmp_path / "f", "w+") as file:
        written = _FileWriter(file)
        assert written.truncate(100) == 100
        assert written.write(memoryview(b"abc")) == 3
        with pytest.raises(OSError, match="No space left"):
            written.check()
    assert (tmp_path / "f").read_bytes() == b""


def test_after_a_failed_write_the_length_stays(tmp_path: Path) -> None:
    with FileIO(tmp_path / "f", "w+") as file:
        written = _FileWriter(file)
        written.write(memoryview(b"abc"))
        written._error = OSError(28, "No space left on device")
        assert written.truncate(100) == 100
    assert (tmp_path / "f").read_bytes() == b"abc"
