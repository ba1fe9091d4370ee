"""URLs through fsspec: all that folders, lists, tars and tables are on a disk; and networks that fail."""

import io
import os
import pickle
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
from test_sources import keys, touch

from lsncli.errors import LsnError, UsageError
from lsncli.images import remote
from lsncli.images.item import ImageItem
from lsncli.images.listing import list_images, shareable
from lsncli.images.read import Undecodable, read_bytes
from lsncli.images.remote import Remote, as_url

pytest.importorskip("fsspec")

from flaky import Flaky, put


@pytest.fixture(autouse=True)
def _empty(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(remote, "FIRST_WAIT", 0.0)
    Flaky.reset()
    yield
    Flaky.reset()


def tar_of(members: dict[str, bytes], mode: str = "w") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return file.getvalue()


SET = {
    "cat/1.jpg": b"one",
    "cat/deep/2.png": b"two",
    "dog/3.jpg": b"three",
    "dog/notes.txt": b"",
    "dog/._3.jpg": b"",
    "dog/@eaDir/3.jpg": b"",
}


def test_a_folder_behind_a_url_lists_as_on_a_disk(tmp_path: Path) -> None:
    put({f"set/{name}": data for name, data in SET.items()})
    for name, data in SET.items():
        touch(tmp_path / "set", name, data=data)
    there, here = list_images([Path("flaky://set")]), list_images([tmp_path / "set"])
    assert there.digest == here.digest
    assert (there.folders, there.ignored, there.problems) == (here.folders, here.ignored, ())
    assert there.system == here.system == ("@eaDir",)
    assert [read_bytes(item) for item in there.items] == [b"one", b"two", b"three"]
    assert [item.path for item in there.items] == [f"flaky://set/{key}" for key in keys(there)]
    assert pickle.loads(pickle.dumps(there.items)) == there.items


def test_an_image_beside_class_folders_behind_a_url_has_no_class() -> None:
    put({"mixed/cat/1.jpg": b"x", "mixed/top.jpg": b"x"})
    listing = list_images([Path("flaky://mixed")])
    assert [(item.key, item.label) for item in listing.items] == [("cat/1.jpg", 0), ("top.jpg", -1)]


def test_patterns_and_braces_in_urls() -> None:
    put({f"set/{name}": data for name, data in SET.items()})
    assert keys(list_images([Path("flaky://set/**/*.jpg")])) == ["cat/1.jpg", "dog/3.jpg"]
    assert keys(list_images([Path("flaky://*/cat")])) == ["set/cat/1.jpg", "set/cat/deep/2.png"]
    assert keys(list_images([Path("flaky://set/{cat/1,dog/3}.jpg")])) == ["1.jpg", "3.jpg"]
    put({f"shards/{number}.tar": tar_of({f"{number}.jpg": b"x"}) for number in range(3)})
    every = list_images([Path("flaky://shards/*.tar")])
    assert keys(every) == ["0.tar/0.jpg", "1.tar/1.jpg", "2.tar/2.jpg"]
    assert list_images([Path("flaky://shards/{0..2}.tar")]).digest == every.digest
    with pytest.raises(UsageError, match="No image matches"):
        list_images([Path("flaky://set/*.gif")])


def test_many_shards_are_listed_side_by_side_and_as_on_a_disk(tmp_path: Path) -> None:
    for number in range(40):
        data = tar_of({f"{number}-{row}.jpg": bytes(row + 1) for row in range(5)} | {f"{number}-0.cls": b"3"})
        put({f"shards/{number:02d}.tar": data})
        touch(tmp_path, f"shards/{number:02d}.tar", data=data)
    there, here = list_images([Path("flaky://shards/{00..39}.tar")]), list_images([tmp_path / "shards/*.tar"])
    assert (there.digest, keys(there), there.folders) == (here.digest, keys(here), ("3",))


def test_ranges_of_a_tar_are_read_and_never_all_of_it() -> None:
    members = {f"{number}.jpg": os.urandom(300_000) for number in range(8)} | {"0.cls": b"7"}
    whole = tar_of(members)
    put({"t.tar": whole})
    listing = list_images([Path("flaky://t.tar")])
    assert Flaky.fetched < len(whole) / 3
    Flaky.behave(lambda number: None)
    assert read_bytes(listing.items[3]) == members["3.jpg"]
    assert (Flaky.calls, Flaky.fetched) == ({"cat": 1}, 300_000)
    assert listing.folders == ("7",)
    assert listing.items[3].path == "flaky://t.tar"
    assert listing.items[3].member == "3.jpg"
    assert shareable(listing) == ""


def test_a_compressed_tar_behind_a_url_is_unpacked_here() -> None:
    put({"t.tar.gz": tar_of({"a.jpg": b"abc"}, "w:gz")})
    listing = list_images([Path("flaky://t.tar.gz")])
    assert [read_bytes(item) for item in listing.items] == [b"abc"]
    assert "is compressed" in shareable(listing)


def test_lists_name_urls_and_lists_lie_behind_urls(tmp_path: Path) -> None:
    put({"a/1.jpg": b"one", "b/2.jpg": b"two", "a/list.csv": b"path,class\n1.jpg,cat\nflaky://b/2.jpg,dog\n"})
    (tmp_path / "list.txt").write_text(f"flaky://a/1.jpg\tcat\n{(tmp_path / 'x y.jpg').as_uri()}\tdog\n")
    touch(tmp_path, "x y.jpg", data=b"here")
    there, here = list_images([Path("flaky://a/list.csv")]), list_images([tmp_path / "list.txt"])
    assert [read_bytes(item) for item in there.items] == [b"one", b"two"]
    assert sorted(read_bytes(item) for item in here.items) == [b"here", b"one"]
    assert there.folders == here.folders == ("cat", "dog")


def test_a_file_url_is_a_path(tmp_path: Path) -> None:
    touch(tmp_path, "a b/1.jpg")
    listing = list_images([Path((tmp_path / "a b").as_uri())])
    assert [item.path for item in listing.items] == [str(tmp_path / "a b/1.jpg")]
    assert listing.items[0].content is None


def test_what_fails_for_a_while_is_tried_again() -> None:
    put({f"set/{name}": data for name, data in SET.items()})
    Flaky.behave(lambda number: None if number % 3 == 2 else ConnectionResetError("by peer"))
    listing = list_images([Path("flaky://set")])
    assert [read_bytes(item) for item in listing.items] == [b"one", b"two", b"three"]


@pytest.mark.parametrize(
    ("error", "calls", "reason"),
    [
        (TimeoutError("too slow"), 3, "cannot be fetched: TimeoutError: too slow (tried 3 times)"),
        (
            RuntimeError("of some\nlibrary"),
            3,
            "cannot be fetched: RuntimeError: of some library (tried 3 times)",
        ),
        (FileNotFoundError("a"), 1, "no such file"),
        (PermissionError("a"), 1, "permission denied"),
        (IsADirectoryError("a"), 1, "is a folder"),
        (ValueError("absurd"), 1, "cannot be fetched: ValueError: absurd"),
    ],
)
def test_a_failure_has_a_reason(error: Exception, calls: int, reason: str) -> None:
    put({"a.jpg": b"x"})
    (item,) = list_images([Path("flaky://a.jpg")]).items
    Flaky.behave(lambda number: error)
    with pytest.raises(Undecodable) as caught:
        read_bytes(item)
    assert caught.value.message == reason
    assert Flaky.calls.total() == calls


@pytest.mark.parametrize(("status", "calls"), [(404, 1), (403, 1), (400, 1), (429, 3), (408, 3), (503, 3)])
def test_refusals_of_a_server_are_told_apart(status: int, calls: int) -> None:
    class Refusal(Exception):
        pass

    Refusal.status = status  # as aiohttp's errors have it
    put({"a.jpg": b"x"})
    (item,) = list_images([Path("flaky://a.jpg")]).items
    Flaky.behave(lambda number: Refusal())
    with pytest.raises(Undecodable):
        read_bytes(item)
    assert Flaky.calls.total() == calls


def test_the_number_of_tries_can_be_set_and_waits_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    put({"a.jpg": b"x"})
    (item,) = list_images([Path("flaky://a.jpg")]).items
    waits: list[float] = []
    monkeypatch.setattr(remote, "FIRST_WAIT", 0.5)
    monkeypatch.setattr(remote, "time", SimpleNamespace(sleep=waits.append))
    monkeypatch.setenv(remote.TRIES, "6")
    Flaky.behave(lambda number: OSError("down"))
    with pytest.raises(Undecodable, match="tried 6 times"):
        read_bytes(item)
    assert len(waits) == 5
    assert all(low * 0.75 <= wait <= low * 1.25 for wait, low in zip(waits, (0.5, 2, 8, 30, 30), strict=True))
    monkeypatch.setenv(remote.TRIES, "none")
    with pytest.raises(Undecodable, match=f"{remote.TRIES}: expected a number"):
        read_bytes(item)


def test_a_listing_with_a_hole_is_an_error_not_a_shorter_listing() -> None:
    put({f"set/{name}": data for name, data in SET.items()})

    def fails(error: Exception) -> Callable[[int], Exception | None]:
        return lambda number: error if number >= 4 else None

    Flaky.behave(fails(OSError("down")))
    with pytest.raises(LsnError, match="cannot be listed: cannot be fetched"):
        list_images([Path("flaky://set")])
    Flaky.behave(fails(PermissionError("no")))
    listing = list_images([Path("flaky://set")])
    assert [problem.reason for problem in listing.problems] == ["unreadable folder: permission denied"]


def test_what_is_not_there_and_what_cannot_be_had_are_sentences() -> None:
    for name in ("nowhere", "a.jpg", "t.tar", "l.csv", "x.parquet"):
        with pytest.raises(UsageError, match=rf"'flaky://{name}' cannot be read: no such file"):
            list_images([Path(f"flaky://{name}")])
    put({"t.tar": b"no tar" * 99, "z.7z": b"", "z.zip": b""})
    with pytest.raises(UsageError, match="cannot be read as a tar"):
        list_images([Path("flaky://t.tar")])
    with pytest.raises(UsageError, match="is an archive"):
        list_images([Path("flaky://z.7z")])
    with pytest.raises(UsageError, match="lies behind a URL, where zip archives cannot be read"):
        list_images([Path("flaky://z.zip")])
    Flaky.behave(lambda number: OSError("down"))
    with pytest.raises(LsnError, match="tried 3 times"):
        list_images([Path("flaky://t.tar")])
    with pytest.raises(UsageError, match="Protocol not known: nosuch"):
        list_images([Path("nosuch://a.jpg")])


def test_an_object_of_another_size_changed_since_it_was_listed() -> None:
    put({"a.jpg": b"abc", "t.tar": tar_of({"b.jpg": bytes(2000)})})
    items = list_images([Path("flaky://a.jpg"), Path("flaky://t.tar")]).items
    put({"a.jpg": b"ab", "t.tar": tar_of({})[:600]})
    for item in items:
        with pytest.raises(Undecodable, match="changed since it was listed"):
            read_bytes(item)


def test_a_huge_object_is_not_fetched() -> None:
    huge = ImageItem("a", "flaky://a", 0, 1 << 40, Remote("flaky://a", 1 << 40))
    with pytest.raises(Undecodable, match="too large: 1024"):
        read_bytes(huge)
    assert not Flaky.calls


def test_memory_is_not_shared() -> None:
    import fsspec

    fsspec.filesystem("memory").pipe("/lsn/a.jpg", b"x")
    listing = list_images([Path("memory://lsn")])
    assert shareable(listing) == "'memory://lsn/a.jpg' lies in the memory of this process."
    fsspec.filesystem("memory").rm("/lsn", recursive=True)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("s3://b/k", "s3://b/k"),
        (Path("s3://b/k"), "s3://b/k"),
        ("memory:///a", "memory://a"),
        ("simplecache::s3://b/k", "simplecache::s3://b/k"),
        (Path("HTTPS://h/x.jpg"), "https://h/x.jpg"),
        ("C:/x", None),
        ("a/b", None),
        ("a:b", None),
    ],
)
def test_what_is_a_url(text: str | Path, url: str | None) -> None:
    assert as_url(text) == url


class Server(BaseHTTPRequestHandler):
    """Serves ``files``, with or without ranges; each path fails once with 503."""

    files: ClassVar[dict[str, bytes]] = {}
    ranges = True
    failed: ClassVar[set[str]] = set()

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        data = self.files.get(self.path)
        if data is None or self.path not in self.failed:
            self.failed.add(self.path)
            self.send_error(404 if data is None else 503)
            return
        asked = self.headers.get("Range")
        status = 206 if asked and self.ranges else 200
        if status == 206:
            first, last = asked.removeprefix("bytes=").split("-")
            data = data[int(first) : int(last) + 1]
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    pytest.importorskip("aiohttp")
    Server.failed = set()
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


def test_a_web_server_gives_images_and_ranges_of_tars(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tar = tar_of({"b.jpg": b"in a tar", "c.jpg": bytes(90_000)})
    monkeypatch.setattr(Server, "files", {"/a.jpg": b"alone", "/t.tar": tar})
    listing = list_images([Path(f"{server}/a.jpg"), Path(f"{server}/t.tar")])
    assert [read_bytes(item) for item in listing.items] == [b"alone", b"in a tar", bytes(90_000)]
    assert listing.items[0].path == f"{server}/a.jpg"
    with pytest.raises(UsageError, match="no such file"):
        list_images([Path(f"{server}/gone.jpg")])
    with pytest.raises(LsnError, match=r"Cannot connect.*tried 3 times"):
        list_images([Path("http://127.0.0.1:1/a.jpg")])
    monkeypatch.setattr(Server, "ranges", False)
    with pytest.raises(Undecodable, match="its server sends whole files only"):
        read_bytes(listing.items[1])


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        (ConnectionResetError("reset"), "cannot be fetched: ConnectionResetError: reset"),
        (LsnError("More than allowed."), "cannot be fetched: LsnError: More than allowed."),
        (
            type("Strange", (Exception,), {"__module__": "aiohttp.client"})("no"),
            "cannot be fetched: Strange: no",
        ),
        (type("Refused", (Exception,), {"status": 403})("no"), remote.DENIED),
        (KeyError("no entry"), remote.NO_SUCH_FILE),
    ],
    ids=["of the system", "ours", "of aiohttp", "a status", "none of the network"],
)
def test_a_file_is_only_missing_where_its_server_says_so(cause: Exception, said: str) -> None:
    """fsspec says "no such file" of anything; what it was lies behind."""
    error = FileNotFoundError("http://h/a.jpg")
    error.__cause__ = cause
    assert remote._reason(remote._cause(error)) == said
