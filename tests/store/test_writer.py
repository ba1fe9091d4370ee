"""Writing: what goes in comes out, equal content is equal bytes, nothing half-written is ever seen."""

import os
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_samples import fingerprint, same, split

from lsncli.errors import FingerprintMismatch, LsnError
from lsncli.store import container, external_rows
from lsncli.store.reader import list_splits, read_fingerprint, read_split, read_text
from lsncli.store.verify import verify
from lsncli.store.writer import write_split, write_text
from lsncli.types import Failure

escaped = st.integers(0xDC80, 0xDCFF).map(chr)
letters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
texts = st.text(st.one_of(letters, st.sampled_from("\n\r\t'\"/é\u202e")), max_size=20)
keys = st.builds(lambda a, b, c: a + b + c, texts, st.one_of(st.just(""), escaped), st.just(".jpg"))


@given(st.lists(keys, unique=True, max_size=8), st.lists(texts, unique=True, max_size=4), st.data())
def test_any_split_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], classes: list[str], data: st.DataObject
) -> None:
    rows = len(names)
    label = st.integers(-1, len(classes) - 1)
    labels = data.draw(st.lists(label, min_size=rows, max_size=rows))
    failures = data.draw(st.lists(st.builds(Failure, keys, texts), max_size=3))
    values = np.random.default_rng(rows).standard_normal((rows, 4)).astype(np.float16)
    written = replace(
        split(),
        features=values,
        labels=np.array(labels, np.int32),
        keys=tuple(names),
        classes=tuple(classes),
        failures=tuple(failures),
        source=data.draw(texts),
    )
    path = tmp_path_factory.mktemp("store") / "f.h5"
    write_split(path, written, fingerprint())
    assert same(read_split(path, "train"), written)
    assert verify(path) == []


def test_the_order_of_writing_leaves_no_trace(tmp_path: Path) -> None:
    one, two = split("one"), split("two", rows=3, seed=1)
    text = np.ones((2, 4), np.float32)
    write_split(tmp_path / "a.h5", one, fingerprint())
    write_split(tmp_path / "a.h5", two, fingerprint())
    write_text(tmp_path / "a.h5", ("x", "y"), text)
    write_split(tmp_path / "b.h5", two, fingerprint())
    write_text(tmp_path / "b.h5", ("x", "y"), text)
    write_split(tmp_path / "b.h5", replace(one, keys=tuple("abcdef")), fingerprint())
    write_split(tmp_path / "b.h5", one, fingerprint(), replace=True)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "b.h5"]


def test_rows_beyond_a_block_keep_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (container, external_rows):
        monkeypatch.setattr(module, "BLOCK", 4)
    content = split(rows=11)
    write_split(tmp_path / "f.h5", content, fingerprint())
    write_split(tmp_path / "f.h5", split("other"), fingerprint())  # copies the first in blocks
    assert same(read_split(tmp_path / "f.h5", "train"), content)
    assert verify(tmp_path / "f.h5") == []


def test_the_model_is_stored_and_another_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    write_split(path, split(), fingerprint())
    assert read_fingerprint(path) == fingerprint()
    before = path.read_bytes()
    with pytest.raises(FingerprintMismatch, match=r"holds features of fake\b.*, not of other\b") as caught:
        write_split(path, split("other"), fingerprint(model="other"))
    assert caught.value.exit_code == 4
    assert "--work" in caught.value.hint
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dim": 5}, ": dimensions 4, not 5."),
        ({"logit_scale": 50.0, "decode": "fast"}, ": logit scale 100.0, not 50.0; decoding exact, not fast."),
        ({"weights": "cd" * 32}, "]."),  # a digest says no more than that they differ
        ({"model": "other", "dim": 5}, "]."),
    ],
)
def test_what_two_models_of_one_name_differ_in_is_said(tmp_path: Path, changes, message: str) -> None:
    path = tmp_path / "f.h5"
    write_split(path, split(), fingerprint())
    other = replace(fingerprint(), **changes)
    with pytest.raises(FingerprintMismatch) as caught:
        write_split(path, split("other", dim=other.dim), other)
    assert caught.value.message.endswith(message)


def test_the_same_weights_from_elsewhere_are_the_same_model(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    write_split(path, split(), fingerprint())
    write_split(path, split("other"), replace(fingerprint(), pretrained="moved"))
    assert read_fingerprint(path).pretrained == "somewhere"
    assert verify(path) == []


def test_a_split_is_replaced_only_on_demand(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    write_split(path, split(), fingerprint())
    with pytest.raises(LsnError, match="has a split 'train' already"):
        write_split(path, split(rows=2), fingerprint())
    write_split(path, split(rows=2), fingerprint(), replace=True)
    assert list_splits(path)["train"].rows == 2


def test_an_invalid_split_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(LsnError, match=r"cannot be stored: .*occurs 6 times"):
        write_split(tmp_path / "f.h5", replace(split(), keys=("a",) * 6), fingerprint())
    assert not (tmp_path / "f.h5").exists()


def test_text_features_are_checked_and_replaced_only_on_demand(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    with pytest.raises(LsnError, match="no feature store"):
        write_text(path, ("x",), np.ones((1, 4)))
    write_split(path, split(), fingerprint())
    assert read_text(path) is None
    write_text(path, ("x",), np.ones((1, 4)))
    write_text(path, ("x",), np.ones((1, 4)))  # the same again is no conflict
    with pytest.raises(LsnError, match="other text features"):
        write_text(path, ("y",), np.ones((1, 4)))
    write_text(path, ("y", "z"), np.eye(2, 4), replace=True)
    found = read_text(path)
    assert found is not None
    assert found[0] == ("y", "z")
    assert found[1].dtype == np.float32
    assert (found[1] == np.eye(2, 4)).all()
    for features in (np.ones((1, 4)), np.ones((2, 3)), np.full((2, 4), np.nan)):
        with pytest.raises(LsnError, match="expected finite numbers"):
            write_text(path, ("y", "z"), features, replace=True)


def test_damage_to_another_split_is_copied_not_blessed(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    write_split(path, split(), fingerprint())
    with h5py.File(path, "r+") as file:
        file["splits/train/labels"][0] = 1
    write_split(path, split("other"), fingerprint())
    assert verify(path) == [
        "Split 'train': the checksum does not match: the rows were changed after they were written."
    ]


def test_a_crash_before_the_rename_leaves_the_old_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f.h5"
    write_split(path, split(), fingerprint())
    before = path.read_bytes()

    def refuse(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(LsnError, match=r"could not be written.*No space left"):
        write_split(path, split("other"), fingerprint())
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["f.h5"]


def test_a_write_that_fails_anywhere_is_said_and_leaves_the_old_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """HDF5 writes some data when nobody listens any more: such an error must not go unnoticed."""
    path = tmp_path / "f.h5"
    write_split(path, split(), fingerprint())
    before, said = path.read_bytes(), set[str]()
    full = container._FileWriter.write
    for writes in range(1000):
        left = [writes]

        def write(self: container._FileWriter, data: memoryview, left: list[int] = left) -> int:
            left[0] -= 1
            if left[0] < 0:
                self._error = OSError(28, "No space left on device")
            return full(self, data)

        monkeypatch.setattr(container._FileWriter, "write", write)
        try:
            write_split(path, split("other", rows=40), fingerprint())
            break
        except LsnError as error:
            said.add(error.message)
        assert path.read_bytes() == before
    assert said == {f"{path} could not be written: No space left on device."}
    assert 5 < writes < 1000
    assert verify(path) == []
    assert "Traceback" not in capfd.readouterr().err


def test_a_leftover_temp_file_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "f.h5.tmp").write_bytes(b"torn")
    write_split(tmp_path / "f.h5", split(), fingerprint())
    assert [file.name for file in tmp_path.iterdir()] == ["f.h5"]


def test_a_store_behind_a_link_is_replaced_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "f.h5").symlink_to(tmp_path / "disk/real.h5")
    write_split(tmp_path / "f.h5", split(), fingerprint())
    write_split(tmp_path / "f.h5", split("other"), fingerprint())
    assert (tmp_path / "f.h5").is_symlink()
    assert set(list_splits(tmp_path / "disk/real.h5")) == {"train", "other"}


FILLS_THE_DISK = """
import resource, signal, sys
from pathlib import Path
from store_samples import fingerprint, split
from lsncli.errors import LsnError
from lsncli.store.writer import write_split
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
sys.dont_write_bytecode = True  # Python would not notice that it wrote half of a file, and load it later
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
try:
    write_split(Path(sys.argv[1]), split("big", rows=5000), fingerprint())
except LsnError as error:
    print(error.message)
"""


@pytest.mark.parametrize("limit", [100, 20_000, 60_000, 110_000])
def test_a_full_disk_is_one_sentence_and_harms_nothing(tmp_path: Path, limit: int) -> None:
    path = tmp_path / "f.h5"
    write_split(path, split(), fingerprint())
    before = path.read_bytes()
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    done = subprocess.run(
        [sys.executable, "-c", FILLS_THE_DISK, str(path), str(limit)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
        check=False,
    )
    assert "could not be written" in done.stdout, done.stderr
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["f.h5"]
