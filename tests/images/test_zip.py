"""Zip archives: the images of the same folder, in place; and what is damaged, hostile or not an image."""

import stat
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from photo_samples import photos

from lsncli.errors import UsageError
from lsncli.extraction.part_job import read_manifest, write_manifest
from lsncli.images import zip as zip_files
from lsncli.images.listing import list_images, shareable
from lsncli.images.read import Undecodable, read_bytes
from lsncli.store.staging import ExtractionPlan

METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]


def archive(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def patched(path: Path, old: bytes, new: bytes, count: int = -1) -> Path:
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, count))
    return path


def reasons(path: Path) -> dict[str, str]:
    return {problem.key: problem.reason for problem in list_images([path]).problems}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("top", ["", "set/"])
def test_an_archive_holds_what_its_folder_does(tmp_path, method, top) -> None:
    folder = photos(tmp_path / "photos", 3)
    members = {
        f"{top}{path.relative_to(folder).as_posix()}": path.read_bytes() for path in folder.rglob("*.png")
    }
    packed = list_images([archive(tmp_path / "x.zip", members, method)])
    plain = list_images([folder])
    assert packed.folders == plain.folders
    assert [(one.key, one.label) for one in packed.items] == [(one.key, one.label) for one in plain.items]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(read_bytes, packed.items * 5)) == list(map(read_bytes, plain.items * 5))


def test_classes_lie_beside_images(tmp_path) -> None:
    members = {"0.jpg": b"a", "0.cls": b"7", "1.jpg": b"b", "1.cls": b"8", "notes.txt": b""}
    found = list_images([archive(tmp_path / "x.zip", members)])
    assert [(one.key, found.folders[one.label]) for one in found.items] == [("0.jpg", "7"), ("1.jpg", "8")]
    assert found.ignored == 1


def test_a_class_that_cannot_be_read_is_a_problem(tmp_path) -> None:
    path = archive(tmp_path / "x.zip", {"0.jpg": b"a", "0.cls": b"seven"})
    assert reasons(patched(path, b"seven", b"eight", 1)) == {
        "0.cls": "damaged in its archive: Bad CRC-32 for file '0.cls'"
    }


def test_patterns_and_other_processes(tmp_path) -> None:
    for number in range(2):
        archive(tmp_path / f"{number}.zip", {f"cat/{one}.jpg": bytes([one]) for one in range(3)})
    listing = list_images([tmp_path / "*.zip"])
    assert [item.key for item in listing.items][::3] == ["0.zip/0.jpg", "1.zip/0.jpg"]
    assert shareable(listing) == ""
    plan = ExtractionPlan(listing.digest, "", 6, dim=1, batch_size=2, part_rows=4)
    write_manifest(tmp_path, plan, listing.items)
    assert [*read_manifest(tmp_path, plan, 0), *read_manifest(tmp_path, plan, 1)] == list(listing.items)


def test_hidden_files_are_skipped_and_counted(tmp_path) -> None:
    members = {"cat/1.jpg": b"a", "__MACOSX/cat/._1.jpg": b"b", "cat/.thumb.jpg": b"c", "cat/": b""}
    found = list_images([archive(tmp_path / "x.zip", members)])
    assert (len(found.items), found.ignored, found.system) == (1, 2, ("__MACOSX",))


def test_what_cannot_be_an_image_is_a_problem(tmp_path, monkeypatch) -> None:
    link = zipfile.ZipInfo("cat/link.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(link, "/etc/passwd")
        file.writestr("../out.jpg", b"a")
        file.writestr("cat/large.jpg", bytes(200))
        file.writestr("n" * 5000 + ".jpg", b"a")
        file.writestr("cat/good.jpg", b"good")
    monkeypatch.setattr(zip_files, "MAX_BYTES", 100)
    found = reasons(path)
    assert found.pop("cat/large.jpg").startswith("too large")
    assert found == {
        "cat/link.jpg": "a symbolic link inside the archive",
        "../out.jpg": "its name leads out of the archive",
        f"{'n' * 100}...": "its name is longer than 4096 bytes",
    }


def test_an_encrypted_member_is_a_problem(tmp_path) -> None:
    path = archive(tmp_path / "x.zip", {"a.jpg": b"a"})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)
    assert reasons(path) == {"a.jpg": "encrypted"}


def test_damaged_members_cost_themselves_alone(tmp_path) -> None:
    path = archive(tmp_path / "x.zip", {"a.jpg": b"first image", "b.jpg": b"second"})
    first, second = list_images([patched(path, b"first image", b"worst image")]).items
    with pytest.raises(Undecodable, match="damaged in its archive: Bad CRC"):
        read_bytes(first)
    assert read_bytes(second) == b"second"


def test_a_member_that_holds_more_than_it_says_is_damaged(tmp_path) -> None:
    path = archive(tmp_path / "x.zip", {"a.jpg": bytes(10_000_000)}, zipfile.ZIP_DEFLATED)
    patched(path, (10_000_000).to_bytes(4, "little"), (1000).to_bytes(4, "little"))
    (item,) = list_images([path]).items
    with pytest.raises(Undecodable, match="damaged in its archive"):
        read_bytes(item)


def test_an_unknown_method_of_compression_is_named(tmp_path) -> None:
    path = archive(tmp_path / "x.zip", {"a.jpg": b"a"})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\1\2") + 10] = data[8] = 99
    path.write_bytes(data)
    (item,) = list_images([path]).items
    with pytest.raises(Undecodable, match="compression"):
        read_bytes(item)


def test_an_archive_that_changed_is_not_read(tmp_path) -> None:
    path = archive(tmp_path / "x.zip", {"a.jpg": b"a"})
    (item,) = list_images([path]).items
    assert read_bytes(item) == b"a"
    archive(path, {"a.jpg": b"another"})
    with pytest.raises(Undecodable, match="its archive changed since it was listed"):
        read_bytes(item)
    path.unlink()
    with pytest.raises(Undecodable, match="no such file"):
        read_bytes(item)


@pytest.mark.parametrize("data", [b"", b"PK\5\6", b"no archive" * 100])
def test_what_is_no_archive_is_a_sentence(tmp_path, data) -> None:
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(UsageError, match="cannot be read as a zip archive"):
        list_images([tmp_path / "x.zip"])


def test_an_archive_cut_short_is_a_sentence(tmp_path) -> None:
    path = archive(tmp_path / "x.zip", {f"{one}.jpg": bytes(100) for one in range(9)})
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UsageError, match=r"Give a whole \.zip|cannot be read"):
        list_images([path])
