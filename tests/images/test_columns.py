"""Lists of every common form: header, separator, and the columns of images and classes."""

import csv
import io
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_sources import make_tar, touch

from lsncli.errors import UsageError
from lsncli.images import listfile, table_layout
from lsncli.images.class_names import classes_of
from lsncli.images.columns import AUTOMATIC, Columns, is_number, label_text, parse_class
from lsncli.images.item import Listing
from lsncli.images.listing import list_images

BODY = "x/1.jpg{0}cat\nx/2.jpg{0}dog\nx/3.jpg{0}cat\n"
CLASSES = {"x/1.jpg": "cat", "x/2.jpg": "dog", "x/3.jpg": "cat"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the images that lists name, and folders named like columns."""
    root = tmp_path_factory.mktemp("lists")
    touch(root, "x/1.jpg", "x/2.jpg", "x/3.jpg", "masks/1.png", "masks/2.png", "image/1.jpg", "x/4")
    return root


def write(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    return folder / name


def classes(listing: Listing) -> dict[str, str | None]:
    return {one.key: listing.folders[one.label] if one.label >= 0 else None for one in listing.items}


def read(folder: Path, name: str, text: str, columns: Columns = AUTOMATIC) -> Listing:
    return list_images([write(folder, name, text)], columns=columns)


@pytest.mark.parametrize(
    "header",
    [
        "file_name,label",
        "filepath,title",
        "image_path,class_name",
        "img,class",
        "id,variety",
        "filename,category",
        "Image File,Ground Truth",
        "path,target",
        "image,y",
        "anything,something",  # known by the content alone
    ],
)
def test_a_header_of_any_words_is_no_image(folder: Path, header: str) -> None:
    listing = read(folder, "l.csv", f"{header}\n{BODY.format(',')}")
    assert classes(listing) == CLASSES
    path, label = header.split(",")
    assert listing.notes == (
        f"l.csv: paths from column '{path}', classes from column '{label}'; line 1 is a header.",
    )


@pytest.mark.parametrize(
    ("name", "separator", "said"),
    [
        ("l.csv", ",", ""),
        ("l.csv", ";", "semicolons"),
        ("l.csv", "\t", "tabs"),
        ("l.tsv", "\t", ""),
        ("l.tsv", ",", "commas"),
        ("l.txt", "\t", ""),
        ("l.txt", ",", "commas"),
        ("l.txt", ";", "semicolons"),
        ("l.txt", " ", "spaces"),
    ],
)
@pytest.mark.parametrize("header", [True, False])
def test_the_separator_is_the_one_that_makes_paths(
    folder: Path, name: str, separator: str, said: str, header: bool
) -> None:
    head = f"img{separator}label\n" if header and separator != " " else ""
    listing = read(folder, name, head + BODY.format(separator))
    assert classes(listing) == CLASSES
    assert (f"separated by {said}" in " ".join(listing.notes)) == bool(said)
    assert bool(listing.notes) == bool(head or said)  # the plain form needs no words


def test_a_mark_of_byte_order_and_windows_lines_change_nothing(folder: Path) -> None:
    text = "\ufeff" + ("file_name,label\n" + BODY.format(",")).replace("\n", "\r\n")
    assert classes(read(folder, "l.csv", text)) == CLASSES
    assert classes(read(folder, "l.txt", "\ufeff" + BODY.format("\t").replace("\n", "\r\n"))) == CLASSES
    for encoding in ("utf-16", "utf-16-be"):  # as Excel saves "Unicode text"
        (folder / "l.tsv").write_bytes(
            ("\ufeff" * (encoding != "utf-16") + BODY.format("\t")).encode(encoding)
        )
        assert classes(list_images([folder / "l.tsv"])) == CLASSES
    (folder / "l.tsv").write_bytes(b"\xff\xfea")
    with pytest.raises(UsageError, match="cannot be read"):
        list_images([folder / "l.tsv"])


def test_blanks_behind_separators_are_no_part_of_paths(folder: Path) -> None:
    for text in (
        "label, img\ncat, x/1.jpg\ndog, x/2.jpg\n",
        '"label"; "img"\n"cat"; "x/1.jpg"\ndog; x/2.jpg\n',
    ):
        listing = read(folder, "l.csv", text)
        assert classes(listing) == {"x/1.jpg": "cat", "x/2.jpg": "dog"}
        assert "and spaces; line 1 is a header." in listing.notes[0]


def test_a_list_behind_a_url_is_known_by_names(tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    from flaky import Flaky, put

    Flaky.reset()
    put({"l.csv": b"id;file;breed\n1;a.jpg;cat\n2;b/c.jpg;\n", "m.txt": b"a.jpg\nb, c.jpg\n"})
    Flaky.behave(lambda number: None)
    listing = list_images([Path("flaky://l.csv")])
    assert list(classes(listing).values()) == ["cat", None]
    assert [one.path.rpartition("//")[2] for one in listing.items] == ["a.jpg", "b/c.jpg"]
    assert len(list_images([Path("flaky://m.txt")]).items) == 2
    for path, columns in (
        ("flaky://l.csv", Columns("file", "id")),
        ("flaky://l.csv#file", Columns(label="id")),
    ):
        assert list(classes(list_images([Path(path)], columns=columns)).values()) == ["1", "2"]
    (found,) = list_images([Path("flaky://*.csv#breed")], columns=Columns(labelled=False)).items
    assert found.path.endswith("/cat")
    Flaky.reset()


def test_a_list_on_standard_input_has_columns(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for columns, expected in ((AUTOMATIC, {"x/1.jpg": "cat"}), (Columns("2", "3"), {"x/2.jpg": "7"})):
        text = b"img,other,id,label\nx/1.jpg,x/2.jpg,7,cat\n"
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
        assert classes(list_images([Path("-")], columns=columns)) == expected


@pytest.mark.parametrize("lines", [1, 2, 3, 4])
def test_a_sample_may_end_within_quotes(folder: Path, monkeypatch: pytest.MonkeyPatch, lines: int) -> None:
    monkeypatch.setattr(table_layout, "SAMPLE", lines)
    monkeypatch.setattr(listfile, "SAMPLE", lines)
    text = 'img,label\nx/1.jpg,"cat"\n"x/2.jpg","big\n\ndog"\nx/3.jpg,cat\n'
    listing = read(folder, "l.csv", text)
    assert [one.key for one in listing.items] == ["x/1.jpg", "x/2.jpg", "x/3.jpg"]
    assert [one.key for one in listing.problems] == ["line 5"]  # no name of a class


def test_a_header_is_known_by_its_words_where_no_image_exists(folder: Path) -> None:
    listing = read(folder, "l.csv", "id;variety\ngone/a;cat\ngone/b;dog\n")
    assert classes(listing) == {"gone/a": "cat", "gone/b": "dog"}


def test_a_first_image_that_is_missing_is_no_header(folder: Path) -> None:
    for text in ("gone.jpg,cat\n", "gone/0001,cat\n", "gone.jpg\n"):
        listing = read(folder, "l.csv", text + "x/1.jpg,dog\n")
        assert text.strip().split(",")[0] in classes(listing)


def test_an_image_without_an_ending_is_no_header(folder: Path) -> None:
    assert classes(read(folder, "l.csv", "x/4,cat\nx/1.jpg,dog\n")) == {"x/4": "cat", "x/1.jpg": "dog"}


def test_a_folder_named_like_the_header_does_not_make_it_an_image(folder: Path) -> None:
    assert classes(read(folder, "l.csv", "image,label\nimage/1.jpg,cat\n")) == {"image/1.jpg": "cat"}


def test_the_images_are_in_whatever_column_exists(folder: Path) -> None:
    text = "id,label,file\n7,cat,x/1.jpg\n8,dog,x/2.jpg\n"
    assert classes(read(folder, "l.csv", text)) == {"x/1.jpg": "cat", "x/2.jpg": "dog"}
    text = "image,mask,label\nx/1.jpg,masks/1.png,cat\ngone.jpg,masks/2.png,dog\n"
    assert classes(read(folder, "l.csv", text)) == {"x/1.jpg": "cat", "gone.jpg": "dog"}
    text = ",Unnamed: 0,img,label,width,split\n0,0,x/1.jpg,cat,3,train\n"  # as pandas writes an index
    assert classes(read(folder, "l.csv", text)) == {"x/1.jpg": "cat"}


def test_more_than_one_plausible_column_is_an_error_that_names_them(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"'label', 'class_name'\. Choose one with --label-column NAME"):
        read(folder, "l.csv", "img,label,class_name,width\nx/1.jpg,1,cat,9\n")
    with pytest.raises(UsageError, match="'camera', 'site'"):
        read(folder, "l.csv", "img,camera,site,width\nx/1.jpg,1,cat,9\n")
    with pytest.raises(UsageError, match=r"images: 'left', 'right'\. Choose one with --path-column NAME"):
        read(folder, "l.csv", "left,right,label\nx/1.jpg,x/2.jpg,cat\n")
    with pytest.raises(UsageError, match="line 1: expected a path and at most one class, found 3 columns"):
        read(folder, "l.csv", "x/1.jpg,cat,9\n")


TABLE = "left,right,a,b\nx/1.jpg,x/2.jpg,cat,9\n"


@pytest.mark.parametrize(
    ("text", "path", "label", "expected"),
    [
        (TABLE, "left", "a", {"x/1.jpg": "cat"}),
        (TABLE, "right", "b", {"x/2.jpg": "9"}),
        (TABLE, "Right", "4", {"x/2.jpg": "9"}),
        (TABLE, "2", "none", {"x/2.jpg": None}),
        (TABLE.split("\n")[1], "2", "4", {"x/2.jpg": "9"}),
        (TABLE.split("\n")[1], "", "3", {"x/1.jpg": "cat"}),
        (TABLE.split("\n")[1], "1", "none", {"x/1.jpg": None}),
    ],
)
def test_columns_are_named_or_numbered(
    folder: Path, text: str, path: str, label: str, expected: dict[str, str | None]
) -> None:
    assert classes(read(folder, "l.csv", text, Columns(path, label))) == expected


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        (TABLE, Columns("left", "c"), r"no column 'c'\. Its columns are 'left', 'right', 'a', 'b'\."),
        (TABLE, Columns("5", "a"), r"no column '5'\. Its columns are 'left'"),
        ("x/1.jpg,cat\n", Columns("", "label"), "no header, and 2 columns. Give --label-column a number"),
        ("x/1.jpg,cat\n", Columns("3"), "Give --path-column a number from 1 to 2"),
    ],
)
def test_a_column_that_is_missing_is_a_usage_error(
    folder: Path, text: str, columns: Columns, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        read(folder, "l.csv", text, columns)


def test_a_column_may_stand_behind_the_list(folder: Path) -> None:
    path = write(folder, "l.csv", TABLE)
    unlabelled = Columns(labelled=False)
    assert [one.key for one in list_images([Path(f"{path}#right")], columns=unlabelled).items] == ["x/2.jpg"]


def test_labels_that_are_not_needed_are_not_looked_for(folder: Path) -> None:
    text = "img,label,class_name\nx/1.jpg,1,cat\n"
    assert classes(read(folder, "l.csv", text, Columns(labelled=False))) == {"x/1.jpg": None}


def test_text_stays_text_and_rows_without_a_class_are_counted(folder: Path) -> None:
    text = "img,label\nx/1.jpg,007\nx/2.jpg,07\nx/3.jpg,7\ny/1.jpg, \ny/2.jpg,-1\ny/3.jpg,NA\ny/4.jpg,1.0\n"
    listing = read(folder, "l.csv", text)
    assert list(classes(listing).values()) == ["007", "07", "7", None, None, "NA", "1.0"]
    said: list[str] = []
    classes_of(listing, remark=said.append)
    assert said[-1].startswith(
        "Warning: 2 of 7 images have no class, so nothing is learned from them: 'y/1.jpg', 'y/2.jpg'."
    )


def test_a_row_without_a_path_is_a_problem_and_not_skipped(folder: Path) -> None:
    listing = read(folder, "l.csv", "img,label\nx/1.jpg,cat\n,dog\n,\n")
    assert [(one.key, one.reason) for one in listing.problems] == [("line 3", "no path in this row")]


def test_names_of_images_in_an_unknown_column_are_no_classes(folder: Path) -> None:
    rows = [f"x/{at}.jpg,word {at}" for at in range(30)]
    listing = read(folder, "l.csv", "\n".join(["img,remarks", *rows]))
    assert listing.folders == ()
    assert "no classes (--label-column names a column)" in listing.notes[0]
    assert len(read(folder, "l.csv", "\n".join(["img,label", *rows])).folders) == 30


def test_what_many_lists_have_in_common_is_said_once(folder: Path) -> None:
    paths = [write(folder, f"part{at}.csv", f"img,label\nx/{at}.jpg,cat\n") for at in range(1, 4)]
    (note,) = list_images(paths).notes
    assert note.startswith("part1.csv and 2 more: paths from column 'img'")


words = st.text("abc;, \"'|", max_size=6)


@given(st.lists(st.tuples(words, words), min_size=1, max_size=5), st.sampled_from(",;\t"), st.booleans())
def test_what_a_csv_writer_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], separator: str, header: bool
) -> None:
    folder = tmp_path_factory.mktemp("any")
    named = [(f"{at}{name}.jpg", label) for at, (name, label) in enumerate(rows)]
    touch(folder, *(name for name, _ in named))
    out = io.StringIO()
    writer = csv.writer(out, delimiter=separator, quoting=csv.QUOTE_ALL)
    writer.writerows([("file_name", "label")] * header + named)
    listing = list_images([write(folder, "l.csv", out.getvalue())])
    assert classes(listing) == {name: label.strip() or None for name, label in named}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (" 007 ", "007"),
        (7, "7"),
        (-1, "-1"),
        (3.0, "3"),
        (True, "true"),
        (False, "false"),
        (b"cat", "cat"),
        ("caf\u00e9".encode(), "caf\u00e9"),
        (None, ""),
        (float("nan"), ""),
        ([], ""),
        (["cat"], "cat"),
        ([3.0], "3"),
        ("nan", "nan"),
    ],
)
def test_values_of_any_type_are_labels(value: object, text: str) -> None:
    assert label_text(value) == text


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1, 2], "2 labels in one row, but an image can have one class only"),
        (0.5, "'0.5' is not a class"),
        (float("inf"), "'inf' is not a class"),
        (b"\xff", "not UTF-8"),
        ({"a": 1}, "is not a class"),
    ],
)
def test_values_that_are_no_labels_say_why(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        label_text(value)


@given(st.integers(-1000, 1000), st.integers(1, 3))
def test_a_number_is_one_only_as_python_writes_it(number: int, zeros: int) -> None:
    assert is_number(str(number))
    assert parse_class(str(number)) == (number if number >= 0 else None) == parse_class(number)
    padded = f"{'-' * (number < 0)}{'0' * zeros}{abs(number)}"
    assert not is_number(padded)
    assert parse_class(padded) == padded


def sidecars(folder: Path, *contents: object) -> Path:
    members = {f"{at}.json": json.dumps(one).encode() for at, one in enumerate(contents)}
    make_tar(folder / "t.tar", members | {f"{at}.jpg": b"x" for at in range(len(contents))})
    return folder / "t.tar"


def test_labels_in_json_files_of_a_tar(tmp_path: Path) -> None:
    path = sidecars(tmp_path, {"variety": "007"}, {"variety": "07"}, {"variety": True}, {"variety": None})
    listing = list_images([path])
    assert list(classes(listing).values()) == ["007", "07", "true", None]
    assert listing.notes == ("t.tar: classes from 'variety' of its .json files.",)
    path = sidecars(tmp_path, {"label": [1, 2]}, {"label": [4]}, {"label": 0.5}, {"label": 3.0})
    listing = list_images([path])
    assert list(classes(listing).values()) == [None, "4", None, "3"]
    assert [one.reason.split(":")[0] for one in listing.problems] == ["its 'label'"] * 2


def test_two_fields_of_json_files_need_a_choice(tmp_path: Path) -> None:
    path = sidecars(tmp_path, {"label": 1, "class_name": "cat", "author": "x"}, {"label": 2})
    with pytest.raises(UsageError, match=r"'label', 'class_name'\. Choose one with --label-column NAME"):
        list_images([path])
    asked = list_images([path], columns=Columns(label="class_name"))
    assert list(classes(asked).values()) == ["cat", None]
    assert list(classes(list_images([path], columns=Columns(label="author"))).values()) == ["x", None]
    with pytest.raises(UsageError, match=r"has a field 'kind'\. Their fields are 'label', 'class_name'"):
        list_images([path], columns=Columns(label="kind"))
    assert list_images([path], columns=Columns(label="none")).folders == ()
    members = {"0.jpg": b"x", "0.cls": b"dog", "0.json": b'{"label": 1, "class_name": "cat"}'}
    make_tar(tmp_path / "u.tar", members)
    assert classes(list_images([tmp_path / "u.tar"])) == {"0.jpg": "dog"}  # what is nothing but a class
    asked = list_images([tmp_path / "u.tar"], columns=Columns(label="class_name"))
    assert (classes(asked), len(asked.notes)) == ({"0.jpg": "cat"}, 1)
    assert len(list_images([path], columns=Columns(labelled=False)).items) == 2
