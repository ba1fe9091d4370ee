"""Compressed tars: the same images as unpacked ones; nothing escapes, nothing grows without bound."""

import gc
import io
import os
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from test_sources import keys, touch

from lsncli.errors import LsnError, UsageError
from lsncli.images import decode, tar, tar_stream
from lsncli.images.listing import list_images
from lsncli.images.read import read_bytes

MODES = {"t.tar": "w", "t.tar.gz": "w:gz", "t.tgz": "w:gz", "t.tar.bz2": "w:bz2", "t.tar.xz": "w:xz"}


def pack(path: Path, members: list[tuple[str, bytes | str]], mode: str) -> None:
    """Members with bytes are files, those with a text are symbolic links to it."""
    with tarfile.open(path, mode, format=tarfile.PAX_FORMAT) as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


def random_bytes(size: int, seed: int) -> bytes:
    return np.random.default_rng(seed).bytes(size)


@pytest.mark.parametrize(("name", "mode"), MODES.items())
def test_every_compression_gives_the_images_of_the_folder(tmp_path: Path, name: str, mode: str) -> None:
    sizes = [0, 1, 511, 512, 513, 1024, (1 << 20) + 7, 3 << 20]  # around tar's blocks and ours
    for number, size in enumerate(sizes):
        data = (random_bytes(997, number) * (size // 997 + 1))[:size]
        touch(tmp_path / "set", f"{'cat' if number % 2 else 'dog'}/{number}.jpg", data=data)
    touch(tmp_path / "set", "dog/notes.txt")
    with tarfile.open(tmp_path / name, mode) as archive:
        archive.add(tmp_path / "set", "set")
    packed, folder = list_images([tmp_path / name]), list_images([tmp_path / "set"])
    assert packed.digest == folder.digest
    assert (packed.folders, packed.ignored, packed.problems) == (folder.folders, 1, ())
    assert {item.path for item in packed.items} == {str(tmp_path / name)}
    for item in packed.items:
        assert read_bytes(item) == (tmp_path / "set" / item.key).read_bytes()


def test_the_content_tells_the_compression(tmp_path: Path) -> None:
    pack(tmp_path / "t.tar", [("a.jpg", b"abc")], "w:gz")
    pack(tmp_path / "u.tar.gz", [("a.jpg", b"abc")], "w")
    assert [read_bytes(list_images([tmp_path / name]).items[0]) for name in ("t.tar", "u.tar.gz")] == [
        b"abc"
    ] * 2


def test_threads_read_an_unpacked_tar_side_by_side(tmp_path: Path) -> None:
    contents = {f"{i:03d}.jpg": random_bytes(3000 + i, i) for i in range(200)}
    pack(tmp_path / "t.tar.gz", list(contents.items()), "w:gz")
    items = list_images([tmp_path / "t.tar.gz"]).items
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read_bytes, items)) == list(contents.values())


@pytest.mark.parametrize("name", ["t.tar", "t.tar.gz"])
def test_members_that_lead_out_of_the_tar_are_problems(tmp_path: Path, name: str) -> None:
    members: list[tuple[str, bytes | str]] = [
        ("c/a.jpg", b"abc"),
        ("../out.jpg", b"x"),
        ("c/../../out2.jpg", b"x"),
        ("/abs.jpg", b"x"),
        ("c/soft.jpg", "a.jpg"),
        ("c/passwd.jpg", "/etc/passwd"),
        ("c/up.jpg", "../../out.jpg"),
        ("c/.hidden.jpg", b"x"),
    ]
    pack(tmp_path / name, members, MODES[name])
    listing = list_images([tmp_path / name])
    assert keys(listing) == ["abs.jpg", "c/a.jpg", "c/soft.jpg"]
    assert [read_bytes(item) for item in listing.items] == [b"x", b"abc", b"abc"]
    assert {problem.key: problem.reason for problem in listing.problems} == {
        "../out.jpg": "its name leads out of the tar",
        "../out2.jpg": "its name leads out of the tar",
        "c/passwd.jpg": "a link to nothing inside the tar",
        "c/up.jpg": "a link to nothing inside the tar",
    }
    assert listing.problem_paths[0] == f"{tmp_path / name}:../out.jpg"
    assert listing.ignored == 1
    assert sorted(os.listdir(tmp_path)) == [name]


@pytest.mark.parametrize("mode", ["gz", "bz2", "xz"])
def test_a_compressed_tar_cut_short_gives_what_is_there(tmp_path: Path, mode: str) -> None:
    path = tmp_path / f"t.tar.{mode}"
    pack(path, [(f"{i}.jpg", random_bytes(150_000, i)) for i in range(9)], f"w:{mode}")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    listing = list_images([path])
    assert 1 <= len(listing.items) < 9
    assert "cut short or damaged" in listing.problems[0].reason
    assert [read_bytes(item) for item in listing.items] == [
        random_bytes(150_000, i) for i in range(len(listing.items))
    ]


@pytest.mark.parametrize(
    "data", [b"", b"\x1f\x8b\x08", b"BZh9junk", b"\xfd7zXZ\0junk", b"no tar at all" * 99]
)
def test_what_is_no_tar_is_a_usage_error(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "t.tar.gz").write_bytes(data)
    with pytest.raises(UsageError, match="cannot be read as a tar"):
        list_images([tmp_path / "t.tar.gz"])


def test_a_tar_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack(tmp_path / "t.tar.gz", [("zeros.bin", bytes(30 << 20)), ("a.jpg", b"x")], "w:gz")
    assert (tmp_path / "t.tar.gz").stat().st_size < 1 << 17
    assert keys(list_images([tmp_path / "t.tar.gz"])) == ["a.jpg"]
    monkeypatch.setattr(tar_stream, "MAX_UNPACKED", 20 << 20)
    with pytest.raises(LsnError, match=r"unpacks to more than 0\.0195 GiB"):
        list_images([tmp_path / "t.tar.gz"])


def test_a_member_that_is_too_large_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar, "MAX_BYTES", 1000)
    pack(tmp_path / "t.tgz", [("big.jpg", bytes(1001)), ("small.jpg", bytes(1000))], "w:gz")
    listing = list_images([tmp_path / "t.tgz"])
    assert keys(listing) == ["small.jpg"]
    assert listing.problems[0].reason.startswith("too large")


def test_a_header_that_claims_to_be_huge_costs_no_memory(tmp_path: Path) -> None:
    for kind in (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE):
        huge = tarfile.TarInfo("x")
        huge.type, huge.size = kind, 8 << 30
        for name, mode in (("t.tar.gz", "w:gz"), ("t.tar", "w")):
            with tarfile.open(tmp_path / name, mode) as archive:
                first = tarfile.TarInfo("a.jpg")
                first.size = 3
                archive.addfile(first, io.BytesIO(b"abc"))
                archive.fileobj.write(huge.tobuf(tarfile.GNU_FORMAT))
                archive.fileobj.write(bytes(1 << 20))
            listing = list_images([tmp_path / name])
            assert keys(listing) == ["a.jpg"]
            assert "invalid length" in listing.problems[0].reason


def test_a_full_disk_is_an_error_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack(tmp_path / "t.tgz", [("a.jpg", b"x")], "w:gz")
    monkeypatch.setattr(tar_stream, "SPARE", 1 << 60)
    with pytest.raises(LsnError, match="does not fit") as caught:
        list_images([tmp_path / "t.tgz"])
    assert "TMPDIR" in caught.value.hint


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="open files are counted through /proc")
def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", None)
    pack(tmp_path / "t.tgz", [("a.jpg", random_bytes(10_000, 0))], "w:gz")
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    listing = list_images([tmp_path / "t.tgz"])
    assert os.listdir(tmp_path / "temporary") == []  # the file has no name even while it is used
    assert len(os.listdir("/proc/self/fd")) == before + 1
    del listing
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("name", ["t.tar", "t.tar.gz"])
@pytest.mark.parametrize("size", [-512, -1024, 1 << 70])
def test_sizes_that_no_member_has_do_not_hang(tmp_path: Path, name: str, size: int) -> None:
    pack(tmp_path / name, [("a.jpg", b"abc")], MODES[name])
    bad = tarfile.TarInfo("b.jpg")
    header = bytearray(bad.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = (
        size.to_bytes(12, "big", signed=True) if size < 0 else b"\x80" + size.to_bytes(11, "big")
    )
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    with tarfile.open(tmp_path / name, MODES[name]) as archive:
        first = tarfile.TarInfo("a.jpg")
        first.size = 3
        archive.addfile(first, io.BytesIO(b"abc"))
        archive.fileobj.write(bytes(header) + bytes(2048))
    listing = list_images([tmp_path / name])
    assert keys(listing)[0] == "a.jpg"
    assert len(listing.items) + len(listing.problems) <= 3
    assert listing.problems


def test_a_member_is_known_by_the_name_that_the_tar_has(tmp_path: Path) -> None:
    pack(tmp_path / "t.tgz", [("./set/a.jpg", b"x"), ("set/b.jpg", b"y")], "w:gz")
    touch(tmp_path, "other/c.jpg")
    for listing in (list_images([tmp_path / "t.tgz"]), list_images([tmp_path / "t.tgz", tmp_path / "other"])):
        assert [item.member for item in listing.items if item.offset is not None] == [
            "set/a.jpg",
            "set/b.jpg",
        ]


@pytest.mark.parametrize("name", ["t.tar", "t.tar.gz", "t.tar.xz"])
def test_a_damaged_tar_is_a_listing_or_a_sentence(tmp_path: Path, name: str) -> None:
    pack(tmp_path / name, [(f"c/{i}.jpg", random_bytes(700, i)) for i in range(5)], MODES[name])
    whole = (tmp_path / name).read_bytes()
    random = np.random.default_rng(4)
    for _ in range(150):
        data = bytearray(whole)
        for at in random.integers(0, len(data), int(random.choice([1, 8]))):
            data[at] = random.integers(0, 256)
        (tmp_path / name).write_bytes(data)
        try:
            listing = list_images([tmp_path / name])
        except UsageError:
            continue
        assert len(listing.items) <= 5
        assert listing.problems or len(listing.items) == 5 or name == "t.tar"


@pytest.mark.parametrize("size", [[], [-1], [tar_stream.PIECE + 1]])
def test_a_tar_is_never_read_in_one_go(size: list[int]) -> None:
    with pytest.raises(ValueError, match="a header of invalid length"):
        tar_stream.LimitedFile(io.BytesIO(b"abc")).read(*size)
    assert tar_stream.LimitedFile(io.BytesIO(b"abc")).read(tar_stream.PIECE) == b"abc"


def test_limits_in_documents_are_those_of_the_code() -> None:
    text = (Path(__file__).parents[2] / "docs/sources.md").read_text(encoding="utf-8")
    assert tar_stream.MAX_UNPACKED == 64 << 30
    assert "at most 64 GiB, gone when the command ends" in text
    assert tar.MAX_BYTES == 512 << 20
    assert round(decode.MAX_PIXELS / 1e6) == 89
    assert "| file | 512 MiB, and" in text
    assert "| pixels | 89 million;" in text
