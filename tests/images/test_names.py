"""Names of classes: made from folders, or attached from a file by keys, numbers or order."""

import json
import tarfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lsncli.errors import UsageError
from lsncli.images.class_names import check_distinct, class_names, classes_of
from lsncli.images.listing import list_images
from lsncli.reference.classes import class_list, class_lists

FOLDERS = ("cassette_player", "n01440764_tench", "n02102040_English_springer")
DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"]


def write(tmp_path: Path, name: str, text: str) -> Path:
    (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path / name


def test_wordnet_ids_go_and_underscores_become_spaces() -> None:
    assert class_names(FOLDERS, None) == ("cassette player", "tench", "English springer")
    names = class_names(("n01440764 x", "n01440764-y", "n0144_z", "n01440764"), None)
    assert names == ("x", "y", "n0144 z", "n01440764")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("n.json", json.dumps({FOLDERS[1]: "fish", FOLDERS[0]: "player", FOLDERS[2]: "spaniel"})),
        ("n.json", json.dumps(["player", "fish", "spaniel"])),
        ("n.txt", f"{FOLDERS[2]}\tspaniel\n{FOLDERS[1]}\tfish\n\n{FOLDERS[0]}\tplayer\n"),
        ("n.txt", "player\nfish\nspaniel"),
    ],
)
def test_a_names_file_overrides(tmp_path: Path, name: str, text: str) -> None:
    assert class_names(FOLDERS, write(tmp_path, name, text)) == ("player", "fish", "spaniel")


# Class folders 0 ... 12 lie in text order: 0, 1, 10, 11, 12, 2 ...
@pytest.mark.parametrize("code", [str, "{:02d}".format, "{:03d}".format], ids=["7", "07", "007"])
@pytest.mark.parametrize("first", [0, 1])
def test_class_number_k_is_name_k_from_0_or_1(tmp_path: Path, code, first: int) -> None:
    numbers = sorted(range(first, first + 12), key=code)
    names = class_names([code(k) for k in numbers], write(tmp_path, "n.txt", "\n".join(DIGITS)))
    assert names == tuple(DIGITS[k - first] for k in numbers)


@given(st.data())
def test_names_of_some_numbers_are_those_of_their_lines(tmp_path_factory, data) -> None:
    """With a class 0 the list counts from 0, however many classes have no images."""
    lines = data.draw(st.integers(1, 40))
    numbers = data.draw(st.sets(st.integers(0, lines - 1))) | {0}
    codes = data.draw(st.permutations([str(k).zfill(data.draw(st.integers(1, 3))) for k in numbers]))
    path = tmp_path_factory.getbasetemp() / "lines.txt"
    path.write_text("\n".join(f"name of {k}" for k in range(lines)))
    assert class_names(codes, path) == tuple(f"name of {int(code)}" for code in codes)


def test_a_number_beyond_the_list_and_one_of_two_readings_are_errors(tmp_path: Path) -> None:
    names = write(tmp_path, "n.txt", "zero\none\ntwo\nthree")
    said: list[str] = []
    assert class_names(("0", "2"), names, remark=said.append) == ("zero", "two")
    assert class_names(("1", "4"), names, remark=said.append) == ("zero", "three")  # 4 is no name from 0
    assert ["counted from 0" in said[0], "counted from 1" in said[1]] == [True, True]
    for codes in (("0", "4"), ("0", "1", "2", "3", "4"), ("5",)):
        with pytest.raises(UsageError, match=f"for the class number {codes[-1]}, found 4 names"):
            class_names(codes, names)
    with pytest.raises(UsageError, match=r"class 2 is 'two' .* count from 0, and 'one' .* from 1") as caught:
        class_names(("2", "3"), names)
    assert "2<TAB>two" in caught.value.hint
    assert class_names(("2", "3"), write(tmp_path, "k.txt", "3 three\n2 two")) == ("two", "three")
    for codes in (("0", "cat", "dog", "x"), ("²", "³", "a", "b")):
        with pytest.raises(UsageError, match="order"):
            class_names(codes, names)


WNIDS = ("n01440764", "n02102040", "n02979186")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("n.txt", "{2} tape player\n{0} tench, Tinca\n{1} golden retriever\n"),
        (
            "n.txt",
            "\ufeff# comment\r\n{2}\ttape player\r\n\r\n{0}\ttench, Tinca\r\n{1}\tgolden retriever\r\n",
        ),
        ("n.csv", '{2},tape player\n{0},"tench, Tinca"\n{1},golden retriever\n'),
        ("n.csv", "id,name\n{2},tape player\n{0},tench, Tinca\n{1},golden retriever\n"),
        ("n.csv", "{2};tape player\n{0};tench, Tinca\n{1};golden retriever\n"),
        ("n.txt", "{2}: tape player\n{0}: tench, Tinca\n{1}: golden retriever\n"),
        ("n.json", '{{"{2}": "tape player", "{0}": "tench, Tinca", "{1}": "golden retriever"}}'),
        ("n.json", '{{"tape player": "{2}", "tench, Tinca": "{0}", "golden retriever": "{1}"}}'),
        ("n.json", '[["{2}", "tape player"], ["{0}", "tench, Tinca"], ["{1}", "golden retriever"]]'),
        ("n.json", '{{"{2}": ["tape player", "x"], "{0}": ["tench, Tinca"], "{1}": ["golden retriever"]}}'),
    ],
)
@pytest.mark.parametrize("codes", [WNIDS, ("0", "1", "10"), ("00", "01", "10"), ("c0", "c1", "c10")])
def test_names_with_keys_are_joined_by_them(tmp_path: Path, name: str, text: str, codes) -> None:
    if codes[0] == "00":  # numbers are compared by value
        path = write(tmp_path, name, text.format("0", "1", "10"))
    else:
        path = write(tmp_path, name, text.format(*codes))
    assert class_names(codes, path) == ("tench, Tinca", "golden retriever", "tape player")


@pytest.mark.parametrize("codes", [WNIDS, ("0", "1", "10")])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "index.json",
            '{"10": ["n02979186", "tape"], "0": ["n01440764", "fish"], "1": ["n02102040", "dog"]}',
        ),
        ("index.json", '{"n02979186": [10, "tape"], "n01440764": [0, "fish"], "n02102040": [1, "dog"]}'),
        ("map_clsloc.txt", "n02979186 10 tape\nn01440764 0 fish\nn02102040 1 dog\n"),
        ("map.csv", "10,n02979186,tape\n0,n01440764,fish\n1,n02102040,dog\n"),
    ],
)
def test_of_two_keys_the_one_that_the_classes_have_counts(tmp_path: Path, codes, name, text) -> None:
    assert class_names(codes, write(tmp_path, name, text)) == ("fish", "dog", "tape")


@pytest.mark.parametrize("codes", [("0", "1", "2"), ("cat", "golden_retriever", "zebra")])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("n.json", '{"golden_retriever": 1, "zebra": 2, "cat": 0}'),
        ("n.csv", "golden_retriever,1\nzebra,2\ncat,0\n"),
        ("n.txt", "golden_retriever\t1\nzebra\t2\ncat\t0\n"),
    ],
)
def test_a_number_after_each_name_is_its_key(tmp_path: Path, codes, name, text) -> None:
    wanted = ("cat", "golden_retriever", "zebra")
    plain = tuple(one.replace("_", " ") for one in wanted)  # a name that is the folder's own
    assert class_names(codes, write(tmp_path, name, text)) == (wanted if codes[0] == "0" else plain)


def test_a_file_of_wordnet_ids_stands_for_imagenets_names(tmp_path: Path) -> None:
    index = write(tmp_path, "class_to_idx.json", '{"n02102040": 1, "n01440764": 0}')
    assert class_names(("0", "1"), index) == ("tench", "English Springer Spaniel")
    assert class_names(("n01440764", "n02102040"), index) == ("tench", "English Springer Spaniel")
    lines = write(tmp_path, "wnids.txt", "n01440764\nn02102040\n")
    assert class_names(("0", "1"), lines) == ("tench", "English Springer Spaniel")


WORDS = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=5)
ROWS = st.dictionaries(WORDS, WORDS, min_size=1, max_size=6).flatmap(
    lambda called: st.permutations(sorted(called.items()))
)


@given(ROWS)
@example([("WNID", "0"), ("X", "0")])
@example([("X", "0"), ("WNID", "1")])
@example([("WNID", "1"), ("X", "0")])
@example([("id", "1"), ("ID", "0")])
def test_whatever_keys_and_names_are_their_order_in_the_file_does_not_matter(tmp_path_factory, rows) -> None:
    """Two keys of one number ("07", "7"), and two classes of one name, are errors and no other classes."""
    called = dict(rows)
    lines = [f"{code}\tthe {name}" for code, name in rows]
    path = tmp_path_factory.getbasetemp() / "keyed.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    codes = sorted(called)
    if len(set(called.values())) < len(called):
        with pytest.raises(UsageError, match="same name"):
            class_names(codes, path)
    else:
        assert class_names(codes, path) == tuple(f"the {called[code]}" for code in codes)


def test_a_first_row_is_a_header_unless_it_is_the_key_of_a_class(tmp_path: Path) -> None:
    header = write(tmp_path, "h.txt", "WNID\tname\nwnid\tthe id\nX\tthe letter\n")
    assert class_names(("X", "wnid"), header) == ("the letter", "the id")
    both = write(tmp_path, "b.txt", "wnid\tname\nwnid\tthe id\nX\tthe letter\n")
    with pytest.raises(UsageError, match="'wnid' has two names"):
        class_names(("X", "wnid"), both)


def test_a_folder_in_another_unicode_form_has_its_name(tmp_path: Path) -> None:
    path = write(tmp_path, "n.txt", "caf\u00e9\tcoffee house\nbar\tpub\n")
    assert class_names(("bar", "cafe\u0301"), path) == ("pub", "coffee house")
    assert class_names(("bar", "cafe\u0301"), write(tmp_path, "l.txt", "caf\u00e9\nbar")) == (
        "bar",
        "caf\u00e9",
    )


def test_cubs_own_file_of_folders_names_them(tmp_path: Path) -> None:
    folders = ("001.Black_footed_Albatross", "002.Laysan_Albatross", "010.Sooty_Albatross")
    path = write(tmp_path, "classes.txt", "\n".join(f"{int(name[:3])} {name}" for name in reversed(folders)))
    assert class_names(folders, path) == ("Black footed Albatross", "Laysan Albatross", "Sooty Albatross")


def test_names_of_several_words_are_not_taken_for_keys(tmp_path: Path) -> None:
    lines = ["golden retriever", "tabby cat", "white shark"]
    path = write(tmp_path, "n.txt", "\n".join(lines))
    assert class_names(("a", "b", "d"), path) == tuple(lines)
    assert class_names(("0", "1", "2"), path) == tuple(lines)
    for codes in (
        ("golden_retriever", "tabby_cat", "white_shark"),
        ("White Shark", "tabby cat", "GOLDEN_retriever"),
    ):
        assert set(class_names(codes, path)) == set(lines)
    with pytest.raises(UsageError, match="'golden retriever' may be a name, or the name 'retriever'"):
        class_names(("golden", "tabby", "white"), path)


def test_a_list_of_the_folders_is_no_list_of_new_names(tmp_path: Path) -> None:
    """However it is sorted, a class keeps its own name."""
    path = write(tmp_path, "n.txt", "zebra\ncat\n# no dog\nGolden  Retriever\nunicorn\n")
    said: list[str] = []
    names = class_names(("cat", "golden_retriever", "zebra"), path, remark=said.append)
    assert names == ("cat", "Golden Retriever", "zebra")
    assert said == [f"1 of the 4 classes in {path} have no images."]
    with pytest.raises(UsageError, match="names 'cat' twice"):
        class_names(("cat",), write(tmp_path, "n.txt", "cat\ndog\ncat"))
    with pytest.raises(UsageError, match="class 'cat' would be called 'dog'"):
        class_names(("cat", "hound"), write(tmp_path, "n.txt", "dog\ncat"))
    assert class_names(("cat", "hound"), write(tmp_path, "n.txt", "Cat\ndog")) == ("Cat", "dog")


def test_names_by_order_are_told_and_need_an_order_beyond_doubt(tmp_path: Path) -> None:
    path = write(tmp_path, "n.txt", "first\nsecond\nthird\nfourth")
    said: list[str] = []
    assert class_names(("a", "b", "c", "d"), path, remark=said.append)[3] == "fourth"
    order = "'a' is 'first', 'b' is 'second', ... 'd' is 'fourth'."
    assert [text.endswith(f"sorted order: {order}") for text in said] == [True]
    for codes in (("c1", "c10", "c2", "c3"), ("Zebra", "ape", "bear", "cat"), ("1", "2", "3", "x")):
        assert list(codes) == sorted(codes)
        with pytest.raises(UsageError, match="ambiguous"):
            class_names(codes, path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("n.json", json.dumps({"a": "x"}), "no name for the classes 'b'"),
        ("n.json", json.dumps({"a": "x", "b": "y", "c": "z"}), "the keys 'c' match no class"),
        ("n.json", '{"a": "x", "a": "y"}', "'a' has two names"),
        ("n.json", json.dumps(["x"]), "expected 2 names.*found 1"),
        ("n.json", json.dumps(["x", 1]), "names"),
        ("n.json", json.dumps({"a": True, "b": "y"}), "names"),
        ("n.json", "[]", "expected a list"),
        ("n.json", "{", "not valid JSON"),
        ("n.json", "[" * 100_000, "not valid JSON"),
        ("n.txt", "x\ny\nz", "expected 2 names.*found 3"),
        ("n.txt", "a\tx\ny", "some lines"),
        ("n.txt", "a\tx\na\ty", "'a' has two names"),
        ("n.txt", "a\t \nb\ty", "'a' has an empty name"),
        ("n.txt", "x\nx", "same name 'x'"),
        ("n.txt", "c\tx\nd\ty", r"none of its keys \('c', 'd'\) is a class; the classes are 'a', 'b'"),
        ("n.txt", "0 x\n1 y", "none of its keys"),
        ("n.txt", "a,x\nb,y\n7,z", "the keys '7' match no class"),
        ("n.txt", " \n# nothing\n", "is empty"),
        ("n.txt", "9" * 5000 + " x", "a name of 5,002 characters"),
        ("n.txt", "x" * 200_000, "a name of 200,000 characters"),
    ],
)
def test_a_bad_names_file_says_which_class(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        class_names(("a", "b"), write(tmp_path, name, text))


def test_images_without_classes_have_none_to_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no image has a class"):
        class_names((), write(tmp_path, "n.txt", "cat\ndog"))


def test_a_missing_names_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        class_names(("a",), tmp_path / "nowhere.txt")


def test_two_folders_of_one_name_are_named_in_the_error() -> None:
    with pytest.raises(UsageError, match="'n02012849_crane', 'n03126707_crane'") as caught:
        class_names(("n02012849_crane", "n03126707_crane"), None)
    assert "--classes" in caught.value.hint


def test_bare_wordnet_ids_get_imagenets_names_if_all_are_known() -> None:
    known, said = class_list("imagenet1k"), []
    wnids = sorted(known.by_key)
    assert class_names(wnids, None, remark=said.append) == tuple(known.by_key[one] for one in wnids)
    assert said == ["All 1000 classes are WordNet ids of ImageNet and get its names: 'n01440764' is 'tench'."]
    for codes in (("n01440764", "n99999999"), ("cat", "n01440764")):
        said.clear()
        assert class_names(codes, None, remark=said.append) == codes
        assert [part in said[0] for part in ("Warning: ", "'n01440764' ('tench')", "--classes")] == [True] * 3


@pytest.mark.parametrize(
    ("codes", "names"),
    [
        (("001.Black_footed_Albatross", "014.Indigo_Bunting"), ("Black footed Albatross", "Indigo Bunting")),
        (("0. cat", "1. dog"), ("cat", "dog")),
        (("01_cat", "02_dog", "10_cow"), ("cat", "dog", "cow")),
        (("3_series", "5_series"), None),
        (("2019_model", "2020_convertible"), None),
        (("001.cat", "dog"), None),
        (("001.cat", "002.Cat"), None),
        (("001.cat", "01.dog"), None),
        (("5.56mm", "7.62mm"), None),
        (("007", "008"), None),
    ],
)
def test_numbers_before_all_names_are_left_out_and_that_is_said(codes, names) -> None:
    said: list[str] = []
    made = class_names(codes, None, remark=said.append)
    assert made == (names or tuple(code.replace("_", " ") for code in codes))
    assert [f"'{codes[0]}' is" in text for text in said] == [True] * (names is not None)


ONE_TEXT = [
    ("Church", "church"),
    ("caf\u00e9", "cafe\u0301"),
    ("bed &amp; breakfast", "bed & breakfast"),
    ("golden  retriever", "golden retriever"),
    ("\uff23at", "Cat"),
]


@pytest.mark.parametrize("names", ONE_TEXT)
@pytest.mark.parametrize("by_tokens", [True, False])
def test_names_that_are_one_text_are_refused_with_both(names, by_tokens: bool, tiny_backbone) -> None:
    ids = tiny_backbone.text_ids if by_tokens else None
    with pytest.raises(UsageError) as caught:
        check_distinct(["dog", *names], ids)
    assert all(f"'{name}'" in caught.value.message for name in names)


def test_tokens_decide_where_there_is_a_text_encoder(tiny_backbone) -> None:
    """One that reads capitals tells two classes apart; one that skips signs reads nothing in some names."""
    check_distinct(["Church", "church"], lambda texts: list(texts))
    check_distinct(["caf\udce9", "bar"], tiny_backbone.text_ids)  # a folder whose name is not UTF-8
    with pytest.raises(UsageError, match="reads nothing in '!!!'"):
        check_distinct(["cat", "!!!"], lambda texts: [text.strip("!") for text in texts])


@pytest.mark.parametrize("key", class_lists())
def test_no_bundled_list_has_two_classes_of_one_text(key: str, tiny_backbone) -> None:
    """ImageNet's published names hold two twice; the lists call these by their WordNet names."""
    check_distinct(class_list(key).names, tiny_backbone.text_ids)
    check_distinct(class_list(key).names)


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def test_images_without_a_class_are_counted(tmp_path: Path) -> None:
    said: list[str] = []
    mixed = list_images([touch(tmp_path / "mixed", "cat/a.jpg", "dog/a.jpg", "top.jpg")])
    assert classes_of(mixed, remark=said.append) == ("cat", "dog")
    assert said == [
        "Warning: 1 of 3 images have no class, so nothing is learned from them: 'top.jpg'. They are in no "
        "class folder, or their class is empty. Move each into the folder of its class and read the folder "
        "anew (lsn extract --overwrite), or leave it so."
    ]
    many = list_images([touch(tmp_path / "many", "cat/a.jpg", *(f"{number}.jpg" for number in range(7)))])
    assert classes_of(many, remark=said.append) == ("cat",)
    assert "7 of 8 images have no class" in said[-1]
    assert "from them: '0.jpg', '1.jpg', '2.jpg' and 4 more. They" in said[-1]
    flat = list_images([touch(tmp_path / "flat", "a.jpg")])
    assert classes_of(flat, remark=said.append) == ()
    assert len(said) == 2


def test_splits_of_a_data_set_are_no_classes(tmp_path: Path) -> None:
    root = touch(tmp_path / "set", "train/cat/a.jpg", "train/dog/a.jpg", "Val/cat/b.jpg", "test/c.jpg")
    with pytest.raises(UsageError, match=r"its folders are splits .'train' and 'Val' and 'test'.") as caught:
        classes_of(list_images([root, touch(tmp_path / "flat", "a.jpg")]))
    assert caught.value.message.startswith(f"'{root}' is the root of a data set")
    assert f"lsn extract {root}/train, lsn extract --split test {root}/Val" in caught.value.hint
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        tar.add(root, arcname=".")
    with pytest.raises(UsageError, match=r"set\.tar' is the root") as caught:
        classes_of(list_images([tmp_path / "set.tar"]))
    assert "Unpack it into DIR and extract each: lsn extract DIR/train, lsn" in caught.value.hint
    assert classes_of(list_images([root / "train"])) == ("cat", "dog")
    loose = touch(tmp_path / "loose", "train/cat/a.jpg", "val/cat/b.jpg", "cover.jpg")
    with pytest.raises(UsageError, match=r"loose' is the root of a data set: its folders are splits"):
        classes_of(list_images([loose]))
    only = touch(tmp_path / "only", "train/cat/a.jpg")
    with pytest.raises(UsageError, match="its folder is a split"):
        classes_of(list_images([only]))
    for kept in (("train/a.jpg",), ("train/a.jpg", "bus/a.jpg"), ("cat/train/a.jpg", "dog/val/a.jpg")):
        assert classes_of(list_images([touch(tmp_path / "-".join(kept).replace("/", "_"), *kept)]))
