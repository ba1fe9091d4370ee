"""Servers that never end, hang, lie, expand or refuse; and IPv6. All of them are in this process."""

import asyncio
import base64
import gzip
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from lsncli.errors import LsnError, UsageError
from lsncli.images import http, listfile, remote, remote_listing
from lsncli.images.budget import SECONDS, Budget, Unfetchable
from lsncli.images.item import ImageItem
from lsncli.images.listing import list_images
from lsncli.images.read import Undecodable, read_bytes
from lsncli.images.remote import Remote

pytest.importorskip("aiohttp")

from flaky import Flaky, put

from lsncli.images.http import parse_links

LIMIT = 1 << 20
"""Bytes that an image may have in these tests."""
PAGE = """<a href="?C=N;O=D">Name</a> <a href="/">Up</a> <a class=x HREF='sub/'>sub</a>
<a href="a.jpg">a</a> <a href="/set/b%20c.jpg">b</a> <a href="https://elsewhere/d.jpg">d</a>
<a href="{host}/set/e&amp;f.jpg">e</a> <a href="http://[bad/g.jpg">g</a> <a href="sub/deep.jpg">h</a>"""


class Hostile(BaseHTTPRequestHandler):
    """What it does is the first folder of the path."""

    protocol_version = "HTTP/1.1"
    requests: Counter[str]
    sent: Counter[str]
    stop: threading.Event

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        kind = self.path.split("/")[1].partition("?")[0]
        self.requests[f"{self.command} {kind}"] += 1
        try:
            getattr(self, kind)()
        except OSError:  # the client has had enough
            self.close_connection = True

    def answer(self, body: bytes = b"", status: int = 200, length: int | None = None, **headers: str) -> None:
        """Headers with the length of the body, or another one; -1 for none, and the end of the connection."""
        self.send_response(status)
        length = len(body) if length is None else length
        self.send_header(*(("Connection", "close") if length < 0 else ("Content-Length", str(length))))
        self.close_connection = length < 0
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def flood(self, piece: bytes) -> None:
        while self.command == "GET" and not self.stop.is_set():
            self.wfile.write(piece)
            self.sent[self.path] += len(piece)

    def endless(self) -> None:
        self.answer(length=-1)
        self.flood(bytes(1 << 16))

    def endlesspage(self) -> None:
        self.answer(length=-1, Content_Type="text/html")
        self.flood(b"<b>" * (1 << 14))

    def claims(self) -> None:
        self.answer(length=1 << 40)
        self.flood(bytes(1 << 16))

    def bomb(self) -> None:
        self.answer(gzip.compress(bytes(50 * LIMIT)), Content_Encoding="gzip")

    def encoding(self) -> None:
        self.answer(self.headers["Accept-Encoding"].encode())

    def hang(self) -> None:
        self.stop.wait(60)

    def hangs(self) -> None:
        """Only after the headers."""
        self.answer(length=1000)
        if self.command == "GET":
            self.stop.wait(60)

    def trickle(self) -> None:
        self.answer(length=100_000)
        while self.command == "GET" and not self.stop.wait(0.01):
            self.wfile.write(b"x")

    def trickleheaders(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        while not self.stop.wait(0.01):
            self.wfile.write(b"x")

    def once(self) -> None:
        """Hangs the first time only."""
        if self.requests["GET once"] == 1:
            self.stop.wait(60)
        self.answer(b"image")

    def status(self) -> None:
        # With a body that is no part of the image, and longer than its limit.
        self.answer(b"x" * 2 * LIMIT, status=int(self.path.split("/")[2].partition(".")[0]))

    def private(self) -> None:
        given = self.headers.get("Authorization") == "Basic " + base64.b64encode(b"ann:p@w").decode()
        self.answer(b"image", status=200 if given else 401)

    def whole(self) -> None:
        self.answer(b"0123456789")

    def grows(self) -> None:
        self.answer(b"0123456789", length=4 if self.command == "HEAD" else None)

    def set(self) -> None:
        if self.path in ("/set/", "/set"):
            page = PAGE.format(host=f"http://{self.headers['Host']}")
            self.answer(page.encode(), Content_Type="text/html")
        elif self.path in ("/set/sub/", "/set/sub"):
            self.answer(b'<a href="1.jpg">', Content_Type="text/html")
        else:
            self.answer(self.path.encode())

    def log_message(self, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *args: object) -> None:
        """A client that has had enough is what these tests are about."""


class Server6(Server):
    address_family = socket.AF_INET6


def serving(kind: type[Server], host: str) -> Iterator[str]:
    Hostile.requests, Hostile.sent, Hostile.stop = Counter(), Counter(), threading.Event()
    with kind((host, 0), Hostile) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://{f'[{host}]' if ':' in host else host}:{running.server_address[1]}"
        Hostile.stop.set()
        running.shutdown()
        thread.join()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(remote, "FIRST_WAIT", 0.0)
    monkeypatch.setattr(remote.fetch, "__kwdefaults__", {"limit": LIMIT, "expected": 0, "excess": ""})
    monkeypatch.setattr(remote, "MAX_PAGE", LIMIT)
    monkeypatch.setattr(listfile, "MAX_LIST", LIMIT)
    yield from serving(Server, "127.0.0.1")


@pytest.fixture
def server6(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    try:
        with socket.socket(socket.AF_INET6) as trial:
            trial.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    yield from serving(Server6, "::1")


def reading(url: str, size: int | None = None) -> bytes:
    return read_bytes(ImageItem("k", url, 0, size, Remote(url, size)))


def reason(url: str, size: int | None = None) -> str:
    with pytest.raises(Undecodable) as caught:
        reading(url, size)
    return caught.value.message


def test_a_body_without_end_is_left_at_the_limit(server: str) -> None:
    assert reason(f"{server}/endless/a.jpg") == "too large: more than 1 MiB"
    # What the two ends of the connection hold is a few MiB at most.
    assert Hostile.sent["/endless/a.jpg"] < LIMIT + (16 << 20)


def test_a_body_that_says_that_it_is_too_long_is_not_read(server: str) -> None:
    assert reason(f"{server}/claims/a.jpg") == "too large: more than 1 MiB"
    (item,) = list_images([Path(f"{server}/claims/a.jpg")]).items
    with pytest.raises(Undecodable, match=r"too large: 1024\.0 GiB"):
        read_bytes(item)
    assert Hostile.requests["GET claims"] == 1


def test_a_body_that_expands_is_refused_and_plain_ones_are_asked_for(server: str) -> None:
    assert reason(f"{server}/bomb/a.jpg") == "its server sends it compressed (gzip), though asked not to"
    with pytest.raises(LsnError, match=r"sends it compressed \(gzip\)"):
        list_images([Path(f"{server}/bomb/l.txt")])
    assert reading(f"{server}/encoding/a.jpg") == b"identity"


def test_lists_and_pages_have_limits_of_their_own(server: str) -> None:
    with pytest.raises(LsnError, match="too large: more than 1 MiB"):
        list_images([Path(f"{server}/endless/l.txt")])
    with pytest.raises(LsnError, match="a page of links of more than 1 MiB"):
        list_images([Path(f"{server}/endlesspage/")])


def test_more_than_was_listed_or_asked_for_is_not_read(server: str) -> None:
    (item,) = list_images([Path(f"{server}/grows/a.jpg")]).items
    with pytest.raises(Undecodable, match="changed since it was listed"):
        read_bytes(item)
    for kind in ("endless", "claims", "whole"):
        with pytest.raises(Unfetchable, match="whole files only, no ranges"):
            remote.fetch_range(f"{server}/{kind}/t.tar", 4, 3)
    # Here all of it is what was asked for, but for the place.
    with pytest.raises(Unfetchable, match="whole files only, no ranges"):
        remote.fetch_range(f"{server}/whole/t.tar", 4, 10)
    assert remote.fetch_range(f"{server}/whole/t.tar", 0, 10) == b"0123456789"
    with pytest.raises(Unfetchable, match=r"too large: 1024\.0 GiB"):
        remote.fetch_range(f"{server}/whole/t.parquet", 0, 1 << 40)


def test_other_file_systems_are_asked_for_no_more_than_the_limit() -> None:
    Flaky.reset()
    put({"a.jpg": bytes(5000)})
    with pytest.raises(Unfetchable, match="too large"):
        remote.fetch("flaky://a.jpg", limit=100)
    assert Flaky.fetched == 101
    assert len(remote.fetch("flaky://a.jpg", limit=5000)) == 5000
    Flaky.reset()


@pytest.mark.parametrize("kind", ["hang", "hangs", "trickle", "trickleheaders"])
def test_a_server_that_hangs_or_trickles_is_given_up(
    kind: str, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SECONDS, "0.3")
    assert reason(f"{server}/{kind}/a.jpg").startswith("timed out (tried ")
    assert Hostile.requests[f"GET {kind}"] <= 2
    with pytest.raises(LsnError, match=r"timed out \(tried \d times? in 0\.3 s; --timeout allows more\)"):
        list_images([Path(f"{server}/{kind}/l.txt")])


def test_listing_does_not_wait_for_ever_either(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECONDS, "0.3")
    for name in ("a.jpg", "t.tar", "*.jpg"):
        with pytest.raises(LsnError, match="timed out"):
            list_images([Path(f"{server}/hang/{name}")])


def test_a_request_that_hung_is_made_again(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The first try is over as soon as the server has the request.
    monkeypatch.setattr(Budget, "left_of_try", lambda self: 0.01 * (Hostile.requests["GET once"] < 1))
    monkeypatch.setattr(Budget, "try_again", lambda self: setattr(self, "left_of_try", self.left))
    assert reading(f"{server}/once/a.jpg") == b"image"
    assert Hostile.requests["GET once"] == 2


def test_a_library_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "FIRST_WAIT", 0.0)
    monkeypatch.setenv(SECONDS, "0.2")
    Flaky.reset()
    put({"a.jpg": b"x"})
    release = threading.Event()
    Flaky.behave(lambda number: release.wait(60) and None)
    assert reason("flaky://a.jpg").startswith("timed out (tried ")
    release.set()
    Flaky.reset()


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "permission denied: its server asks for a user and a password, or refuses those given (401)"),
        (403, "permission denied"),
        (404, "no such file"),
        (410, "no such file"),
        (402, "cannot be fetched: its server answers 402 (Payment Required)"),
        (503, "cannot be fetched: its server answers 503 (Service Unavailable) (tried 3 times)"),
    ],
)
def test_refusals_are_reported_as_they_are(status: int, said: str, server: str) -> None:
    assert reason(f"{server}/status/{status}.jpg") == said
    assert reason(f"{server}/status/{status}.jpg", 5) == said
    for name in (f"{status}.jpg", f"{status}/l.txt", f"{status}/t.tar"):
        with pytest.raises(LsnError) as caught:
            list_images([Path(f"{server}/status/{name}")])
        assert f"cannot be read: {said}" in caught.value.message
        assert isinstance(caught.value, UsageError) == (said == "no such file")


def test_a_password_is_used_and_nowhere_shown(server: str) -> None:
    url = server.replace("://", "://ann:p%40w@") + "/private/a.jpg"
    with pytest.raises(LsnError, match=r"asks for a user and a password.*\(401\)"):
        list_images([Path(f"{server}/private/a.jpg")])
    (item,) = list_images([Path(url)]).items
    assert read_bytes(item) == b"image"
    assert item.path == server.replace("://", "://***@") + "/private/a.jpg"


def test_an_ipv6_address_is_no_pattern(server6: str) -> None:
    assert [item.key for item in list_images([Path(f"{server6}/whole/a.jpg")]).items] == ["a.jpg"]
    listing = list_images([Path(f"{server6}/set/")])
    assert [item.key for item in listing.items] == ["a.jpg", "b%20c.jpg", "e&f.jpg", "sub/1.jpg"]
    listing = list_images([Path(f"{server6}/set/*/*.jpg")])
    assert [(item.key, read_bytes(item)) for item in listing.items] == [("sub/1.jpg", b"/set/sub/1.jpg")]
    listing = list_images([Path(f"{server6.replace('[', 'ann:p*w@[')}/set/{{a,b%20c}}.jpg")])
    assert [item.key for item in listing.items] == ["a.jpg", "b%20c.jpg"]


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("http://[::1]:80/a*.jpg", ("http://[::1]:80", "/a*.jpg")),
        ("http://a:[*]@h/b*", ("http://a:[*]@h", "/b*")),
        ("http://a:[*]@[::1]", ("http://a:[*]@[::1]", "")),
        ("s3://bucket*/a", ("s3://", "bucket*/a")),
        ("http://h/a@b*", ("http://", "h/a@b*")),
        ("http://h?x=[a@b]", ("http://", "h?x=[a@b]")),
    ],
)
def test_what_of_a_url_is_no_pattern(url: str, parts: tuple[str, str]) -> None:
    assert remote_listing._split(url) == parts


def test_a_pattern_in_a_query_is_none(server: str) -> None:
    assert [item.key for item in list_images([Path(f"{server}/whole/a.jpg?f[0]=*")]).items] == ["a.jpg"]


def test_links_of_a_page() -> None:
    page = PAGE.format(host="https://HOST").replace("HOST", "host").encode()
    expected = ["sub/", "a.jpg", "b%20c.jpg", "e&f.jpg"]
    for folder in ("http://host/set", "https://ann:pw@host/set/"):
        root = folder.rstrip("/") + "/"
        assert parse_links(page, folder) == [root + name for name in expected]
    assert parse_links(b"files: http://host/set/1.jpg, http://host/set/1.jpg", "http://host/set") == [
        "http://host/set/1.jpg"
    ]
    assert parse_links(b'<a href="%s.jpg">' % (b"x" * 5000), "http://host/set") == []


@pytest.mark.parametrize(
    "piece", ["<a ", "<a " + " " * 3000, "<a href", "<a href=", "http://", "<a\t\thref = '"]
)
def test_no_page_takes_more_than_one_pass(piece: str) -> None:
    """The expression of fsspec takes hours for these; a slow one would run into the limit of the suite."""
    page = (piece * (1_000_000 // len(piece))).encode()
    assert parse_links(page, "http://host/") == []


def test_a_site_without_end_is_left(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_listing, "MOST_FOLDERS", 1)
    with pytest.raises(LsnError, match="has more than 1 folders"):
        list_images([Path(f"{server}/set/")])


@pytest.mark.parametrize(("length", "together"), [(None, 1), (4900, 2)])
def test_large_bodies_share_one_room(
    length: int | None, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many threads read; without it each could fill memory up to the limit of an image."""
    monkeypatch.setattr(http, "LARGE", 1000)
    monkeypatch.setattr(http, "ROOM", 10_000)
    beyond: set[int] = set()
    most = 0

    class Body:
        status, content_length, request_info = 200, length, SimpleNamespace(headers={})
        _read_into = http.Response._read_into

        def __init__(self, number: int) -> None:
            self.number, self.left, self.content = number, 50, self

        async def readany(self) -> bytes:
            nonlocal most
            await asyncio.sleep(0)
            self.left -= 1
            if 50 - self.left > 11:  # room is needed behind the eleventh piece
                beyond.add(self.number)
                most = max(most, len(beyond))
            if self.left:
                return b"%100d" % self.number
            beyond.discard(self.number)
            return b""

    async def all_of_them() -> list[bytes]:
        bodies = (http.Response._read_within(Body(number), Budget(8000)) for number in range(5))
        return await asyncio.gather(*bodies)

    assert asyncio.run(all_of_them()) == [b"%100d" % number * 49 for number in range(5)]
    assert most == together


def test_room_is_given_back_by_whoever_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "ROOM", 100)

    async def hold(room: http.BodyBudget, size: int) -> None:
        async with room.reserve(size):
            await asyncio.sleep(60)

    async def run() -> str:
        room = http.BodyBudget()
        tasks = [asyncio.ensure_future(hold(room, size)) for size in (80, 1000, 60)]
        for task in tasks:
            await asyncio.sleep(0)
            task.cancel()
        await asyncio.wait(tasks)
        async with room.reserve(100):
            return "all of it"

    assert asyncio.run(run()) == "all of it"


def test_a_list_behind_credentials_keeps_them_to_itself(tmp_path: Path, server: str) -> None:
    Flaky.reset()
    signed = f"{server}/encoding/1.jpg?sig="
    text = f"{signed}S3CRET\n{signed}S3CRET2\n{server.replace('://', '://ann:S3CRET@')}/encoding/2.jpg\n"
    (tmp_path / "l.txt").write_text(text)
    put({"l.txt?token=S3CRET": text.encode() + b"3.jpg?token=S3CRET\n"})
    for place, more in ((tmp_path / "l.txt", 0), ("flaky://l.txt?token=S3CRET", 1)):
        listing = list_images([Path(place)], keep_order=True)
        shown = [(item.key, item.path) for item in listing.items]
        assert "S3CRET" not in repr((shown, listing.problems, listing.problem_paths, listing.notes))
        assert [item.key for item in listing.items][:2] == [f"{signed}***", f"{signed}***~2"]
        assert len(set(shown)) == 3 + more
        assert [read_bytes(item) for item in listing.items[:3]] == [b"identity"] * 3
        assert "S3CRET" in repr(listing.items[0].content)
    Flaky.reset()
