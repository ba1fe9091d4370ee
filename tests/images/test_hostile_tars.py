"""Tars whose headers are longer, deeper or more than any packer writes: one sentence, and little memory."""

import gzip
import tarfile
from pathlib import Path

import pytest

from lsncli.errors import UsageError
from lsncli.images import tar
from lsncli.images.listing import list_images
from lsncli.images.read import read_bytes

BLOCK = 512


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.USTAR_FORMAT)


def image(name: str = "x.jpg") -> bytes:
    return header(name, 1) + padded(b"x")


def record(key: bytes, value: bytes) -> bytes:
    size = len(key) + len(value) + 3
    length = next(n for n in range(size, size + 10) if n == size + len(str(n)))
    return b"%d %s=%s\n" % (length, key, value)


def extended(*records: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    body = b"".join(records)
    return header("pax", len(body), kind) + padded(body)


def reasons(path: Path) -> list[str]:
    return [problem.reason for problem in list_images([path]).problems]


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    "headers",
    [
        extended(record(b"comment", b"x")) * 1500,
        extended(record(b"comment", b"x"), kind=tarfile.XGLTYPE) * 1500,
        (header("long", 3, tarfile.GNUTYPE_LONGNAME) + padded(b"ab\0")) * 1500,
        (header("long", 3, tarfile.GNUTYPE_LONGLINK) + padded(b"ab\0")) * 1500,
        extended(record(b"path", b"a" * 900_000 + b".jpg")),
        extended(record(b"comment", b"a" * 900_000)),
    ],
    ids=["local", "global", "names", "links", "a name", "a comment"],
)
def test_headers_that_never_end_are_damage(tmp_path: Path, headers: bytes, compressed: bool) -> None:
    write = gzip.compress if compressed else bytes
    path = tmp_path / ("a.tar.gz" if compressed else "a.tar")
    path.write_bytes(write(image("first.jpg") + headers + image("second.jpg") + bytes(1024)))
    (item,) = list_images([path]).items
    assert read_bytes(item) == b"x"
    assert reasons(path) == [
        "the tar is cut short or damaged: headers of more than 128 KiB before one member"
    ]
    path.write_bytes(write(headers + image() + bytes(1024)))
    with pytest.raises(UsageError, match="cannot be read as a tar: headers of more than 128 KiB"):
        list_images([path])


def test_a_name_is_at_most_4096_bytes_long(tmp_path: Path) -> None:
    longest = b"d/" * 2000 + "ä".encode() * 46 + b".jpg"
    assert len(longest) == 4096
    content = b"".join(extended(record(b"path", name)) + image() for name in (longest, b"d" + longest))
    content += extended(record(b"linkpath", b"d" * 4097)) + header("link.jpg", 0, tarfile.SYMTYPE)
    path = tmp_path / "a.tar"
    path.write_bytes(content + image("last.jpg") + bytes(1024))
    listing = list_images([path])
    assert [item.member for item in listing.items] == [longest.decode(), "last.jpg"]
    assert reasons(path) == ["its name is longer than 4096 bytes"] * 2
    assert all(len(problem.key) < 200 for problem in listing.problems)


def test_global_headers_do_not_pile_up(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    content = b""
    for number in range(20):
        fields = [record(b"%d.%d" % (number, field), b"x") for field in range(100)]
        content += extended(*fields, kind=tarfile.XGLTYPE) + image(f"{number}.jpg")
    path.write_bytes(content + bytes(1024))
    assert len(list_images([path]).items) == 10
    assert reasons(path) == ["the tar is cut short or damaged: global headers of more than 1000 fields"]


def test_members_of_nothing_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar, "MOST_MEMBERS", 100)
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(b"".join(image(f"{n}.jpg") for n in range(2000)) + bytes(1024)))
    most = max(100, path.stat().st_size // 20)
    assert most < 2000
    assert len(list_images([path]).items) == most
    assert reasons(path) == [
        f"the tar is cut short or damaged: more than {most:,} members in so small a file"
    ]
