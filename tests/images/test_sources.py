"""Listings: what counts as an image, as a class, as a problem."""

import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsncli.errors import UsageError
from lsncli.images.item import ImageItem, Listing, UniqueNames
from lsncli.images.listing import list_images, short_classes, take_shots


def touch(root: Path, *names: str, data: bytes = b"x") -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def keys(listing: Listing) -> list[str]:
    return [item.key for item in listing.items]


def labels(listing: Listing) -> list[int]:
    return [item.label for item in listing.items]


def make_tar(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def test_subfolders_are_classes_at_any_depth_below(tmp_path: Path) -> None:
    touch(tmp_path, "dog/a.jpg", "cat/b/c/d.PNG", "cat/a.webp")
    listing = list_images([tmp_path])
    assert keys(listing) == ["cat/a.webp", "cat/b/c/d.PNG", "dog/a.jpg"]
    assert labels(listing) == [0, 0, 1]
    assert listing.folders == ("cat", "dog")


def test_an_image_beside_class_folders_has_no_class_and_the_others_keep_theirs(tmp_path: Path) -> None:
    names = ("cat/a.jpg", "dog/a.jpg", "top.jpg")
    touch(tmp_path / "set", *names)
    make_tar(tmp_path / "x.tar", dict.fromkeys(names, b"x"))
    for source in (tmp_path / "set", tmp_path / "x.tar"):
        listing = list_images([source])
        assert labels(listing) == [0, 1, -1]
        assert listing.folders == ("cat", "dog")


def test_a_folder_in_a_folder_is_not_stripped(tmp_path: Path) -> None:
    touch(tmp_path, "set/cat/a.jpg", "set/dog/a.jpg")
    assert list_images([tmp_path]).folders == ("set",)


@pytest.mark.parametrize(
    "extension",
    ["jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "ppm", "jfif", "avif", "HEIC", "Tif"],
)
def test_every_image_extension_counts_in_any_case(tmp_path: Path, extension: str) -> None:
    touch(tmp_path, f"a.{extension}")
    assert keys(list_images([tmp_path])) == [f"a.{extension}"]


def test_other_and_hidden_files_are_counted_not_listed(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "notes.txt", "jpg", ".hidden.jpg", "._a.jpg", "__MACOSX/a.jpg", ".git/b.jpg")
    listing = list_images([tmp_path])
    assert keys(listing) == ["a.jpg"]
    assert listing.ignored == 6


SYSTEM = [
    "@eaDir",
    "#recycle",
    "$RECYCLE.BIN",
    "System Volume Information",
    "lost+found",
    "__MACOSX",
    "@Recycle",
]


def test_system_folders_are_skipped_at_any_depth_counted_and_named(tmp_path: Path) -> None:
    root, hidden = tmp_path / "set", (".Trash-1000", ".ipynb_checkpoints")
    names = ["cat/a.jpg", "cat/deep/b.jpg", "@eaDir.jpg", "recycle/c.jpg"]
    skipped = [f"{folder}{name}/x.jpg" for name in (*SYSTEM, *hidden) for folder in ("", "cat/", "cat/deep/")]
    touch(root, *names, *skipped, "cat/Thumbs.db")
    make_tar(tmp_path / "x.tar", dict.fromkeys([*names, *skipped, "cat/Thumbs.db", "cat/._a.jpg"], b"x"))
    listing = list_images([root])
    assert keys(listing) == sorted(names)
    assert (listing.ignored, listing.system) == (len(skipped) + 1, tuple(sorted(SYSTEM)))
    assert listing.skipped == (
        f"Skipped, as hidden or no image: {len(skipped) + 1}, with system folders "
        "(#recycle, $RECYCLE.BIN, @Recycle, @eaDir, System Volume Information, __MACOSX, lost+found)."
    )
    packed = list_images([tmp_path / "x.tar"])
    assert keys(packed) == sorted(names)
    assert (packed.ignored, packed.system) == (len(skipped) + 2, listing.system)
    assert keys(list_images([root / "**" / "*.jpg"])) == sorted(names)
    assert list_images([root / "cat/a.jpg"]).skipped == ""
    assert keys(list_images([root / "cat/@eaDir"])) == ["x.jpg"]  # whoever names it means it


def test_lists_and_tars_in_system_folders_are_skipped(tmp_path: Path) -> None:
    for name in ("1.tar", "#recycle/2.tar", "a/@eaDir/3.tar", "a/4.tar"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        make_tar(tmp_path / name, {f"{name[-5]}.jpg": b"x"})
    assert keys(list_images([tmp_path / "**" / "*.tar"])) == ["1.tar/1.jpg", "4.tar/4.jpg"]


def test_a_name_that_is_not_utf8_survives(tmp_path: Path) -> None:
    name = b"caf\xe9.jpg"
    (Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name)))).write_bytes(b"x")
    listing = list_images([tmp_path])
    assert keys(listing) == ["caf\udce9.jpg"]
    assert Path(listing.items[0].path).read_bytes() == b"x"
    assert len(listing.digest) == 64


def test_links_inside_the_folder_are_followed(tmp_path: Path) -> None:
    touch(tmp_path, "images/dog/a.jpg")
    (tmp_path / "images/cat").symlink_to("dog")
    (tmp_path / "images/dog/b.jpg").symlink_to(tmp_path / "images/dog/a.jpg")
    listing = list_images([tmp_path / "images"])
    assert keys(listing) == ["cat/a.jpg", "cat/b.jpg", "dog/a.jpg", "dog/b.jpg"]
    assert listing.problems == ()


def test_links_out_of_the_folder_are_problems_unless_they_are_wanted(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/a.jpg", "images2/a.jpg", "elsewhere/notes.txt")
    (tmp_path / "images/dog").mkdir(parents=True)
    (tmp_path / "images/cat").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "images/dog/a.jpg").symlink_to("../../elsewhere/a.jpg")
    (tmp_path / "images/dog/gone.jpg").symlink_to("/nowhere/a.jpg")
    (tmp_path / "images/dog/b").symlink_to("../../images2")  # "images" is only the start of its name
    (tmp_path / "images/dog/notes.txt").symlink_to("../../elsewhere/notes.txt")
    listing = list_images([tmp_path / "images"])
    assert keys(listing) == []
    assert [problem.key for problem in listing.problems] == ["cat/", "dog/a.jpg", "dog/b/", "dog/gone.jpg"]
    assert {problem.reason for problem in listing.problems} == {
        "a link that leads out of the folder, which is not followed"
    }
    assert listing.problem_paths[:2] == (f"{tmp_path}/images/cat/", f"{tmp_path}/images/dog/a.jpg")
    assert listing.ignored == 1
    followed = list_images([tmp_path / "images"], follow_links=True)
    assert keys(followed) == ["cat/a.jpg", "dog/a.jpg", "dog/b/a.jpg", "dog/gone.jpg"]
    assert followed.problems == ()


def test_a_folder_that_is_named_by_a_link_is_its_own_tree(tmp_path: Path) -> None:
    touch(tmp_path, "real/a.jpg")
    (tmp_path / "real/b.jpg").symlink_to("a.jpg")
    (tmp_path / "named").symlink_to("real")
    assert keys(list_images([tmp_path / "named"])) == ["a.jpg", "b.jpg"]


def test_the_same_folder_twice_is_no_loop(tmp_path: Path) -> None:
    touch(tmp_path, "a/x.jpg")
    (tmp_path / "b").symlink_to("a")
    assert keys(list_images([tmp_path])) == ["a/x.jpg", "b/x.jpg"]


def test_a_loop_of_folder_links_is_a_problem_and_ends(tmp_path: Path) -> None:
    touch(tmp_path, "cat/a.jpg")
    (tmp_path / "cat/up").symlink_to("..")
    listing = list_images([tmp_path])
    assert keys(listing) == ["cat/a.jpg"]
    assert [p.key for p in listing.problems] == ["cat/up/"]
    assert "parent" in listing.problems[0].reason


def test_a_link_to_itself_is_listed_when_it_is_named_like_an_image(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").symlink_to("a.jpg")
    (tmp_path / "loop").symlink_to("loop")
    listing = list_images([tmp_path])
    assert [(item.key, item.size) for item in listing.items] == [("a.jpg", None)]
    assert listing.ignored == 1


def test_an_unreadable_folder_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "cat/a.jpg", "dog/a.jpg")
    real = os.scandir

    def scandir(path: str):  # a root user may read everything, so the refusal is played
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    listing = list_images([tmp_path])
    assert keys(listing) == ["cat/a.jpg"]
    assert [(p.key, p.reason) for p in listing.problems] == [("dog/", "unreadable folder: Permission denied")]


def test_a_folder_too_deep_for_a_path_is_a_problem(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(25):
        os.mkdir("d" * 200, dir_fd=here)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    touch(tmp_path, "a/x.jpg")
    listing = list_images([tmp_path])
    assert keys(listing) == ["a/x.jpg"]
    assert "name too long" in listing.problems[0].reason


def test_a_missing_path_and_no_path_are_usage_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no"):
        list_images([tmp_path / "nowhere"])
    with pytest.raises(UsageError, match="No images were named"):
        list_images([])


def test_one_image_is_a_source_whatever_its_name(tmp_path: Path) -> None:
    touch(tmp_path, "photo")
    assert keys(list_images([tmp_path / "photo"])) == ["photo"]


def test_several_sources_have_unique_keys_and_share_classes(tmp_path: Path) -> None:
    touch(tmp_path, "a/set/cat/1.jpg", "b/set/cat/1.jpg", "b/set/dog/1.jpg", "one/1.jpg", "1.jpg")
    listing = list_images(
        [tmp_path / "a/set", tmp_path / "b/set", tmp_path / "one", tmp_path / "1.jpg", tmp_path / "1.jpg"]
    )
    assert dict(zip(keys(listing), labels(listing), strict=True)) == {
        "1.jpg": -1,
        "1.jpg~2": -1,
        "one/1.jpg": -1,
        "set/cat/1.jpg": 0,
        "set~2/cat/1.jpg": 0,
        "set~2/dog/1.jpg": 1,
    }
    assert listing.folders == ("cat", "dog")


def test_a_text_list_names_images_and_classes(tmp_path: Path) -> None:
    touch(tmp_path, "x/a, b.jpg", "c.jpg")
    (tmp_path / "list.txt").write_text("# comment\n\nx/a, b.jpg\tcat\r\n./c.jpg\tdog\nmissing.jpg\tcat\n")
    listing = list_images([tmp_path / "list.txt"])
    assert keys(listing) == ["c.jpg", "missing.jpg", "x/a, b.jpg"]
    assert labels(listing) == [1, 0, 0]
    assert listing.items[1].size is None


def test_a_csv_list_may_quote_commas_and_newlines(tmp_path: Path) -> None:
    touch(tmp_path, "a,b.jpg", "c\nd.jpg")
    (tmp_path / "list.csv").write_text('path,class\n"a,b.jpg",cat\n"c\nd.jpg",\n')
    listing = list_images([tmp_path / "list.csv"])
    assert keys(listing) == ["a,b.jpg", "c\nd.jpg"]
    assert labels(listing) == [0, -1]
    assert all(item.size == 1 for item in listing.items)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("l.txt", "a.jpg\n./a.jpg\n", r"line 2 names './a.jpg' again \(first on line 1\)"),
        ("l.csv", "a.jpg,b,c\n", "found 3 columns"),
        ("l.csv", '"a.jpg\n', "cannot be read"),
        ("l.txt", "a\0.jpg\n", "NUL"),
    ],
)
def test_a_bad_list_is_a_usage_error(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=message):
        list_images([tmp_path / name])


def test_a_tar_lists_as_the_folder_it_holds(tmp_path: Path) -> None:
    touch(tmp_path / "set", "cat/a.jpg", data=b"12345")
    touch(tmp_path / "set", "dog/b.jpg", "dog/c.txt", data=b"678")
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        tar.add(tmp_path / "set", "./set")
    packed, folder = list_images([tmp_path / "t.tar"]), list_images([tmp_path / "set"])
    assert packed.digest == folder.digest
    assert (packed.folders, packed.ignored) == (folder.folders, folder.ignored)
    whole = (tmp_path / "t.tar").read_bytes()
    for item in packed.items:
        assert item.offset is not None
        assert item.size is not None
        data = whole[item.offset : item.offset + item.size]
        assert data == (tmp_path / "set" / item.key).read_bytes()


def test_a_tar_with_two_top_folders_keeps_both(tmp_path: Path) -> None:
    make_tar(tmp_path / "t.tar", {"a/x.jpg": b"1", "b/x.jpg": b"2", "__MACOSX/a/x.jpg": b"3"})
    listing = list_images([tmp_path / "t.tar"])
    assert (listing.folders, listing.ignored) == (("a", "b"), 1)


def test_a_flat_tar_in_one_folder_is_unlabelled(tmp_path: Path) -> None:
    make_tar(tmp_path / "t.tar", {"photos/x.jpg": b"1", "photos/y.jpg": b"2"})
    assert labels(list_images([tmp_path / "t.tar"])) == [-1, -1]


def test_links_inside_a_tar_lead_to_their_member(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        for name, kind, link in [
            ("c/a.jpg", tarfile.REGTYPE, ""),
            ("c/hard.jpg", tarfile.LNKTYPE, "c/a.jpg"),
            ("d/soft.jpg", tarfile.SYMTYPE, "../c/hard.jpg"),
            ("d/loop.jpg", tarfile.SYMTYPE, "loop.jpg"),
            ("d/out.jpg", tarfile.SYMTYPE, "/etc/passwd"),
            ("d/pipe.jpg", tarfile.FIFOTYPE, ""),
        ]:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, link
            member.size = 3 if kind == tarfile.REGTYPE else 0
            tar.addfile(member, io.BytesIO(b"abc") if member.size else None)
    listing = list_images([tmp_path / "t.tar"])
    assert keys(listing) == ["c/a.jpg", "c/hard.jpg", "d/soft.jpg"]
    assert len({(item.offset, item.size) for item in listing.items}) == 1
    assert sorted(problem.key for problem in listing.problems) == ["d/loop.jpg", "d/out.jpg", "d/pipe.jpg"]


def test_a_tar_cut_short_gives_what_is_there_and_a_problem(tmp_path: Path) -> None:
    make_tar(tmp_path / "t.tar", {f"c/{i}.jpg": bytes(600) for i in range(4)})
    data = (tmp_path / "t.tar").read_bytes()
    (tmp_path / "t.tar").write_bytes(data[: 2 * (512 + 1024) + 700])
    listing = list_images([tmp_path / "t.tar"])
    assert len(listing.items) >= 2
    assert "cut short" in listing.problems[0].reason


@pytest.mark.parametrize("name", ["t.rar", "t.tar.zst", "t.7z"])
def test_an_archive_of_another_kind_says_to_unpack_it(tmp_path: Path, name: str) -> None:
    touch(tmp_path, name)
    with pytest.raises(UsageError, match="Unpack it"):
        list_images([tmp_path / name])


@pytest.mark.parametrize("name", ["t.tar", "list.txt"])
def test_a_named_pipe_is_neither_a_tar_nor_a_list(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)  # reading it would wait for ever
    with pytest.raises(UsageError, match="not a regular file"):
        list_images([tmp_path / name])


def test_a_path_that_may_not_be_looked_at_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "stat", refuse)
    monkeypatch.setattr(os.path, "lexists", lambda path: False)
    with pytest.raises(UsageError, match="Permission denied"):
        list_images([tmp_path / "a.jpg"])


def test_order_is_by_key_or_as_it_was_named(tmp_path: Path) -> None:
    touch(tmp_path, "z/2.jpg", "z/1.jpg", "a.jpg", "m.jpg")
    (tmp_path / "list.txt").write_text("m.jpg\na.jpg\nz/2.jpg\na.jpg\n")
    paths = [tmp_path / "z", tmp_path / "list.txt", tmp_path / "a.jpg"]
    with pytest.raises(UsageError, match=r"names 'a\.jpg' again"):
        list_images(paths)
    named = list_images(paths, keep_order=True)
    shown = [Path(item.path).relative_to(tmp_path).as_posix() for item in named.items]
    assert shown == ["z/1.jpg", "z/2.jpg", "m.jpg", "a.jpg", "z/2.jpg", "a.jpg", "a.jpg"]
    assert keys(named)[5:] == ["list.txt/a.jpg~2", "a.jpg"]
    assert len(set(keys(named))) == 7
    (tmp_path / "list.txt").write_text("m.jpg\na.jpg\nz/2.jpg\n")
    assert keys(list_images(paths)) == sorted(keys(list_images(paths)))


def test_many_names_are_made_unique_quickly_and_for_good() -> None:
    unique = UniqueNames()
    given = ["a~2", "a", "a", "b", *["a"] * 50_000]  # a quadratic search would take minutes
    found = [unique(name) for name in given]
    assert found[:4] == ["a~2", "a", "a~3", "b"]
    assert len(set(found)) == len(given)


def listing_of(counts: list[int]) -> Listing:
    items = [
        ImageItem(f"c{label}/{index}.jpg", "", None, 1, label=label)
        for label, count in enumerate(counts)
        for index in range(count)
    ]
    return Listing(tuple(items), tuple(f"c{label}" for label in range(len(counts))), (), 0)


@given(st.lists(st.integers(1, 12), min_size=1, max_size=5), st.integers(1, 9), st.integers(0, 3))
def test_shots_are_exact_ordered_and_nested(counts: list[int], shots: int, seed: int) -> None:
    listing = listing_of(counts)
    taken = take_shots(listing, shots, seed)
    assert [labels(taken).count(c) for c in range(len(counts))] == [min(shots, count) for count in counts]
    assert keys(taken) == [key for key in keys(listing) if key in set(keys(taken))]
    assert set(keys(taken)) <= set(keys(take_shots(listing, shots + 1, seed)))
    assert short_classes(listing, shots) == tuple(f"c{c}" for c, n in enumerate(counts) if n < shots)


def test_shots_of_a_class_do_not_hang_on_other_classes() -> None:
    alone, beside = take_shots(listing_of([20]), 4, 1), take_shots(listing_of([20, 20]), 4, 1)
    assert keys(alone) == [key for key in keys(beside) if key.startswith("c0/")]
    assert keys(alone) != keys(take_shots(listing_of([20]), 4, 2))


def test_shots_need_classes_and_a_number() -> None:
    flat = Listing((ImageItem("a.jpg", "", None, 1),), (), (), 0)
    with pytest.raises(UsageError, match="1 of 1 images have no class"):
        take_shots(flat, 1, 0)
    with pytest.raises(UsageError, match="1 or more"):
        take_shots(listing_of([3]), 0, 0)


def test_the_digest_sees_keys_labels_and_sizes() -> None:
    def digest(key: str, label: int, size: int | None) -> str:
        return Listing((ImageItem(key, "anywhere", None, size, label=label),), (), (), 0).digest

    variants = {
        digest("a", 0, 1),
        digest("b", 0, 1),
        digest("a", 1, 1),
        digest("a", 0, 2),
        digest("a", 0, None),
    }
    assert len(variants) == 5
