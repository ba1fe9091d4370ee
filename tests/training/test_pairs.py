"""Image-caption sets from csv files and tars, whole and broken."""

from pathlib import Path

import pytest
from pair_samples import png, samples, write_csv, write_tar

from lsncli.errors import LsnError, UsageError
from lsncli.images.decode import decode
from lsncli.images.read import read_bytes
from lsncli.training.image_captions import LONGEST, read_pairs
from lsncli.types import Failure


def text(path: Path, content: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(content.encode(encoding))
    return path


def test_a_csv_names_images_beside_it(tmp_path) -> None:
    found = read_pairs([write_csv(tmp_path, 5)])
    assert found.captions == tuple(caption for _, _, caption in samples(5))
    assert [item.label for item in found.items] == [0, 1, 2, 3, 4]
    assert found.items[3].key == "images/003.png"
    assert read_bytes(found.items[3]) == samples(5)[3][1]
    assert found.problems == ()


def test_columns_may_stand_anywhere_and_captions_hold_anything(tmp_path) -> None:
    path = text(
        tmp_path / "p.csv",
        '\ufeffid, Caption ,IMAGE\r\n1,"a cat, and\n""a"" dog",x/a.jpg\r\n\r\n2,ein Bär,b.jpg\r\n',
    )
    found = read_pairs([path])
    assert found.captions == ('a cat, and\n"a" dog', "ein Bär")
    assert [item.key for item in found.items] == ["x/a.jpg", "b.jpg"]
    assert found.items[0].path == str(tmp_path / "x/a.jpg")


def test_a_tsv_is_separated_by_tabs(tmp_path) -> None:
    assert read_pairs([text(tmp_path / "p.tsv", "image\tcaption\na.jpg\ta cat, a dog\n")]).captions == (
        "a cat, a dog",
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"line 1: expected the columns image,caption, found none"),
        ("file,caption\na,b\n", r"line 1: expected the columns image,caption, found file,caption"),
        ("image,caption\na.jpg,one\nb.jpg\n", "line 3: expected 2 columns, found 1"),
        ("image,caption\na.jpg,one, two\n", "line 2: expected 2 columns, found 3"),
        ("image,caption\na.jpg,one\n\nb.jpg, \n", "line 4: the caption is empty"),
        ("image,caption\n ,one\n", "line 2: the image is empty"),
        ("image,caption\na\0.jpg,one\n", "line 2: .*NUL"),
        ('image,caption\na.jpg,"one\n', "line 2: unexpected end of data"),
        ("image,caption\n", "There are no image-caption pairs"),
    ],
)
def test_a_csv_that_is_not_well_formed_is_refused_with_its_line(tmp_path, content, message) -> None:
    with pytest.raises(LsnError, match=message):
        read_pairs([text(tmp_path / "p.csv", content)])


def test_a_csv_in_another_encoding_is_refused(tmp_path) -> None:
    with pytest.raises(LsnError, match="line 3: the caption is not UTF-8"):
        read_pairs([text(tmp_path / "p.csv", "image,caption\na.jpg,one\nb.jpg,ein Bär\n", "latin-1")])


def test_a_tar_pairs_files_of_one_name(tmp_path) -> None:
    members = [
        item
        for name, data, caption in samples(4)
        for item in ((f"00/{name}", data), (f"00/{name[:-4]}.txt", caption.encode()))
    ]
    found = read_pairs([write_tar(tmp_path / "p.tar", [*members, ("00/000.json", b"{}")])])
    assert found.captions == tuple(caption for _, _, caption in samples(4))
    assert [item.key for item in found.items] == [f"00/{name}" for name, _, _ in samples(4)]
    assert decode(read_bytes(found.items[2])).size == (32, 32)
    assert found.problems == ()


def test_what_cannot_be_paired_in_a_tar_is_recorded(tmp_path) -> None:
    image = png("red", 1)
    members = [
        ("a.png", image),
        ("a.txt", b"good"),
        ("a.jpg", image),
        ("b.png", image),
        ("c.txt", b"alone"),
        ("d.png", image),
        ("d.txt", b" \n"),
        ("e.png", image),
        ("e.txt", b"x" * (LONGEST + 1)),
        ("._f.png", b""),
    ]
    found = read_pairs([write_tar(tmp_path / "p.tar", members)])
    assert found.captions == ("good",)
    assert set(found.problems) == {
        Failure("a.jpg", "a second image beside a.png"),
        Failure("b.png", "no caption beside it"),
        Failure("c.txt", "no image beside it"),
        Failure("d.png", "no usable caption"),
        Failure("e.png", "no usable caption"),
    }


def test_a_tar_that_ends_too_early_gives_what_lies_before_the_cut(tmp_path) -> None:
    members = [
        ("a.png", png("red", 1)),
        ("a.txt", b"good"),
        ("b.png", png("red", 2) * 40),
        ("b.txt", b"lost"),
    ]
    path = write_tar(tmp_path / "p.tar", members)
    path.write_bytes(path.read_bytes()[:9000])
    found = read_pairs([path])
    assert found.captions == ("good",)
    assert any("cut short" in problem.reason for problem in found.problems)


def test_several_files_are_one_set(tmp_path) -> None:
    tar = write_tar(tmp_path / "p.tar", [("a.png", png("red", 1)), ("a.txt", b"one"), ("b.txt", b"alone")])
    found = read_pairs([tar, text(tmp_path / "q.csv", "image,caption\nb.png,two\n")])
    assert [(item.key, item.label) for item in found.items] == [("p.tar/a.png", 0), ("q.csv/b.png", 1)]
    assert found.captions == ("one", "two")
    assert found.problems == (Failure("p.tar/b.txt", "no image beside it"),)


def test_files_of_another_kind_are_refused(tmp_path) -> None:
    with pytest.raises(UsageError, match="There is no file"):
        read_pairs([tmp_path / "none.csv"])
    with pytest.raises(UsageError, match=r"neither a \.csv nor a \.tar"):
        read_pairs([text(tmp_path / "p.json", "[]")])
    with pytest.raises(UsageError, match="cannot be read as an uncompressed tar"):
        read_pairs([text(tmp_path / "p.tar", "no tar at all" * 100)])
