"""Every file that is written is there whole or not at all: a list of who writes, full disks, and kills."""

import ast
import errno
import os
import resource
import signal
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from kill_points import ended_by, signal_after

from lsncli.errors import LsnError
from lsncli.files import OpenFolder, check_writable, open_atomic, open_atomic_text, place_atomic, write_atomic
from lsncli.interchange.tables import FeatureTable, write_table
from lsncli.report.formats import FORMATS, Column, render
from lsncli.report.plots import save_numbers

PACKAGE = Path(__file__).parents[1] / "lsncli"

DIRECT = {
    "files.py",  # the one place
    "detection/undo_log.py: os.write",  # line by line, each before its change
    "detection/watch_log.py: os.open",  # rows are appended; a torn last one is cut off
    "detection/watch_log.py: os.write",
    "methods/captioning.py: open",  # lines are appended, whole ones are counted
    "bench/results.py: open",  # lines are appended; a torn last one is cut off
    "locks.py: os.open",  # empty files
    "images/tar_stream.py: TemporaryFile",  # without a name
    "images/tar_stream.py: os.write",
    "images/decode_process.py: TemporaryFile",  # pixels, without a name
    "console.py: open",  # a copy of stderr, and /dev/null
    "console.py: os.open",  # /dev/null
    "methods/prepared.py: write_text",  # of /proc
    "detection/file_moves.py: open",  # a descriptor of Folder.writing
}
"""Who writes without ``files.open_atomic``, and why that is right."""
WRITES = {
    "write_text",
    "write_bytes",
    "touch",
    "tofile",
    "savetxt",
    "save_file",
    "to_csv",
    "to_parquet",
    "to_pickle",
    "copyfile",
    "copy2",
    "NamedTemporaryFile",
    "TemporaryFile",
    "TemporaryDirectory",
    "mkstemp",
    "mkdtemp",
    "mkfifo",
    "urlretrieve",
}
TO_A_FILE = {"save", "savez", "savez_compressed", "savefig", "write_table", "ParquetWriter", "dump"}
"""Writers of others that take a path as well as an open file: here they get a ``file``, or a ``buffer``."""


def direct_writers() -> Iterator[str]:
    """``module: call`` of every call that creates or writes a file by itself."""
    for path in sorted(PACKAGE.rglob("*.py")):
        where = path.relative_to(PACKAGE).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and (name := called(node)) and writes(name, node):
                yield where if where == "files.py" else f"{where}: {name}"


def called(node: ast.Call) -> str:
    function = node.func
    if isinstance(function, ast.Attribute):
        of_os = isinstance(function.value, ast.Name) and function.value.id in ("os", "shutil")
        return f"os.{function.attr}" if of_os else function.attr
    return function.id if isinstance(function, ast.Name) else ""


def writes(name: str, node: ast.Call) -> bool:
    if name in (
        "os.open",
        "os.write",
        "os.replace",
        "os.rename",
        "os.copyfile",
        "os.copy2",
    ):
        flags = ast.unparse(node)
        return name != "os.open" or "O_CREAT" in flags or "O_WRONLY" in flags or "O_RDWR" in flags
    if name in ("open", "fdopen"):
        words = [*node.args, *(one.value for one in node.keywords if one.arg == "mode")]
        texts = [one.value for one in words if isinstance(one, ast.Constant) and isinstance(one.value, str)]
        return any(set(text) <= set("rwxabt+") and set(text) & set("wxa+") for text in texts)
    if name in TO_A_FILE:
        owner = node.func.value if isinstance(node.func, ast.Attribute) else None
        library = isinstance(owner, ast.Name) and owner.id in ("np", "numpy", "parquet", "torch", "json")
        methods = (
            isinstance(owner, ast.Name) and owner.id in ("image", "made") and name in ("save", "savefig")
        )
        given = {one.id for argument in node.args for one in ast.walk(argument) if isinstance(one, ast.Name)}
        return (library or methods) and not {"file", "buffer"} & given
    return name in WRITES and not (name == "write_text" and isinstance(node.func, ast.Name))  # ours


def test_nothing_writes_a_file_by_itself_but_what_is_listed() -> None:
    assert set(direct_writers()) == DIRECT


def test_the_search_finds_a_writer_of_every_kind() -> None:
    source = """
open(path, "w"); path.open("ab"); open(path, mode="x"); path.write_bytes(b""); np.save(path, x)
np.savez(path, x=x); made.savefig(path); image.save(path); parquet.write_table(t, path)
os.replace(a, b); os.open(path, os.O_CREAT); shutil.copy2(a, b); frame.to_csv(path); save_file(x, path)
json.dump(x, handle); torch.save(x, path)
"""
    calls = [one for one in ast.walk(ast.parse(source)) if isinstance(one, ast.Call)]
    assert [ast.unparse(one) for one in calls if not writes(called(one), one)] == []
    harmless = 'open(path); open(path, "rb"); np.save(file, x); image.save(buffer, "PNG"); out.write("x")'
    calls = [one for one in ast.walk(ast.parse(harmless)) if isinstance(one, ast.Call)]
    assert not any(writes(called(one), one) for one in calls)


ROWS = [{"path": f"{number}.jpg", "score": number / 7} for number in range(400)]
TABLE = FeatureTable(
    np.arange(4000, dtype=np.float32).reshape(1000, 4),
    labels=np.zeros(1000, dtype=np.int32),
    keys=tuple(map(str, range(1000))),
    classes=("cat",),
)


def rendered(form: str) -> Callable[[Path], None]:
    return lambda path: render(iter(ROWS), [Column("path", "Path"), Column("score", "S", 3)], form, path)


WRITERS: dict[str, Callable[[Path], None]] = {
    "bytes": lambda path: write_atomic(path, bytes(5000)),
    "figure numbers": lambda path: save_numbers(path, ["a"], [[one] for one in range(2000)]),
    **{name: rendered(name) for name in FORMATS},
    **{end: lambda path, end=end: exported(path, end) for end in (".npz", ".npy", ".csv", ".parquet")},
}


def exported(path: Path, end: str) -> None:
    """``lsn store export`` into a file of this kind, which then gets the name of the others."""
    named = path.with_name(f"features{end}")
    if path.exists():
        path.rename(named)
    try:
        write_table(named, TABLE)
    finally:
        if named.exists():
            named.rename(path)


@contextmanager
def disk_of(size: int) -> Iterator[None]:
    """No file can become larger: as on a full disk, a write fails, wherever it is."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, writer) -> None:
    write, path = WRITERS[writer], tmp_path / "file"
    write(path)
    size = path.stat().st_size
    for share in (0, 1, size // 2, size - 1):
        path.write_bytes(b"old")
        with (
            disk_of(share),
            pytest.raises(LsnError, match=r"written: File too large\."),
        ):
            write(path)
        assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [("file", b"old")]
    with disk_of(size + 100):
        write(path)
    assert [one.name for one in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() != b"old"


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_a_step_that_fails_leaves_the_old_file(tmp_path, monkeypatch, step, error) -> None:
    def fails(*args: object) -> None:
        raise OSError(error, os.strerror(error))

    path = tmp_path / "file"
    path.write_text("old")
    monkeypatch.setattr(os, step, fails)
    with pytest.raises(LsnError, match=os.strerror(error)):
        write_atomic(path, b"new")
    assert [one.read_text() for one in tmp_path.iterdir()] == ["old"]


def test_an_interrupt_leaves_the_old_file(tmp_path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def rows() -> Iterator[str]:
        yield "half"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), open_atomic_text(path) as file:
        file.writelines(rows())
    assert [one.read_text() for one in tmp_path.iterdir()] == ["old"]


class TestWhatTakesThePlace:
    """Permissions, links, devices, names."""

    def test_permissions_stay_and_new_files_have_usual_ones(self, tmp_path) -> None:
        path = tmp_path / "file"
        write_atomic(path, b"")
        usual = stat.S_IMODE(path.stat().st_mode)
        (tmp_path / "plain").write_text("")
        assert usual == stat.S_IMODE((tmp_path / "plain").stat().st_mode)
        path.chmod(0o600)
        write_atomic(path, b"secret")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_a_link_is_replaced_and_not_followed(self, tmp_path) -> None:
        other = tmp_path / "other"
        other.write_text("precious")
        (tmp_path / "file").symlink_to(other)
        write_atomic(tmp_path / "file", b"new")
        assert other.read_text() == "precious"
        assert (tmp_path / "file").read_text() == "new"
        assert not (tmp_path / "file").is_symlink()

    def test_a_device_is_written_to_and_stays_one(self) -> None:
        write_atomic(Path("/dev/null"), b"x")
        check_writable(Path("/dev/null"))
        assert stat.S_ISCHR(os.stat("/dev/null").st_mode)

    def test_an_open_file_of_the_process_is_written_to(self, tmp_path) -> None:
        with (tmp_path / "out").open("w+b") as file, open_atomic(Path(f"/dev/fd/{file.fileno()}")) as written:
            written.write(b"rows")
        assert (tmp_path / "out").read_bytes() == b"rows"

    def test_a_name_may_be_as_long_as_names_can_be(self, tmp_path) -> None:
        for name in ("x" * 255, "é" * 127, "-rf"):
            write_atomic(tmp_path / name, b"")
        assert len(list(tmp_path.iterdir())) == 3

    def test_a_folder_is_refused_before_the_work(self, tmp_path) -> None:
        with pytest.raises(IsADirectoryError):
            check_writable(tmp_path)
        check_writable(tmp_path / "none" / "file")
        assert list((tmp_path / "none").iterdir()) == []

    @pytest.mark.parametrize("linked", [True, False])
    def test_a_second_name_or_a_copy(self, tmp_path, monkeypatch, linked) -> None:
        def refuse(*args: object, **more: object) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        (tmp_path / "one").write_text("rows")
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / "two").write_text("old")
        if not linked:
            monkeypatch.setattr(os, "link", refuse)
        place_atomic(tmp_path / "one", tmp_path / "new" / "two")
        assert [one.read_text() for one in (tmp_path / "new").iterdir()] == ["rows"]
        assert os.path.samefile(tmp_path / "one", tmp_path / "new" / "two") == linked


class TestAFolderThatIsOpen:
    """What is done in it is done there, whatever happens to its path."""

    def test_it_is_the_same_after_a_rename(self, tmp_path) -> None:
        (tmp_path / "here").mkdir()
        with OpenFolder.real(tmp_path / "here") as folder:
            (tmp_path / "here").rename(tmp_path / "there")
            (tmp_path / "here").symlink_to("/")
            with folder.writing("file", lambda handle: open(handle, "wb")) as file:
                file.write(b"x")
        assert (tmp_path / "there" / "file").read_bytes() == b"x"

    @pytest.mark.parametrize("hard_links", [True, False])
    def test_a_new_file_overwrites_nothing(self, tmp_path, monkeypatch, hard_links) -> None:
        def refuse(*args: object, **more: object) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        if not hard_links:
            monkeypatch.setattr(os, "link", refuse)
        with OpenFolder.at(tmp_path) as folder:
            with folder.writing("file", lambda handle: open(handle, "wb")) as file:
                file.write(b"there")
            with (
                pytest.raises(FileExistsError),
                folder.writing("file", lambda handle: open(handle, "wb")) as file,
            ):
                file.write(b"new")
        assert [one.read_text() for one in tmp_path.iterdir()] == ["there"]

    def test_no_link_is_opened(self, tmp_path) -> None:
        (tmp_path / "folder").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "folder")
        (tmp_path / "file").symlink_to("/etc/passwd")
        with OpenFolder.at(tmp_path) as folder:
            for open_it in (folder.inside, folder.open_file):
                for name in ("link", "file"):
                    with pytest.raises(OSError, match=r"is (a symbolic link|not)"):
                        open_it(name)
        with pytest.raises(OSError, match="link is a symbolic link, which is not followed"):
            OpenFolder.real(tmp_path / "link" / "x", make=True)


def write_and_die(path: Path, step: str, count: int) -> None:
    signal_after(os, step, count, signal.SIGKILL)
    with open_atomic(path) as file:
        for _ in range(8):
            file.write(bytes(100_000))
            os.getpid()


@pytest.mark.parametrize(("step", "count"), [("getpid", 1), ("getpid", 8), ("fsync", 1)])
def test_a_kill_before_the_rename_leaves_the_old_file(tmp_path, step, count) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    assert ended_by(write_and_die, path, step, count) == signal.SIGKILL
    assert path.read_text() == "old"
    assert all(one.name.startswith(".file.") for one in tmp_path.iterdir() if one != path)


def test_a_kill_after_the_rename_leaves_the_new_file(tmp_path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    assert ended_by(write_and_die, path, "replace", 1) == signal.SIGKILL
    assert path.read_bytes() == bytes(800_000)
    assert list(tmp_path.iterdir()) == [path]


def test_a_second_name_is_given_once_more(tmp_path) -> None:
    (tmp_path / "rows").write_text("rows")
    for _ in range(2):
        place_atomic(tmp_path / "rows", tmp_path / "beside" / "rows", temporary="rows.tmp")
    assert [path.name for path in (tmp_path / "beside").iterdir()] == ["rows"]
