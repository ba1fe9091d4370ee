"""Parquet files: rows are images, in order, decoded once; nulls and damage are failures with a reason."""

import json
import os
import pickle
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_sources import keys

from lsncli.errors import UsageError
from lsncli.images import parquet, parquet_file
from lsncli.images.columns import Columns
from lsncli.images.item import Listing
from lsncli.images.listing import list_images, shareable, take_shots
from lsncli.images.parquet_file import ParquetFile
from lsncli.images.read import Undecodable, read_bytes

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def images(count: int, size: int = 1000) -> list[bytes]:
    random = np.random.default_rng(count)
    return [random.bytes(size + number) for number in range(count)]


def write(path: Path, columns: dict[str, Any], *, group: int = 10, names: Sequence[str] = ()) -> Path:
    table = pa.table(columns)
    if names:
        features = {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path, row_group_size=group, write_page_index=False)
    return path


def classes(listing: Listing) -> list[str | None]:
    return [listing.folders[item.label] if item.label >= 0 else None for item in listing.items]


def test_a_data_set_of_hugging_face_has_images_names_and_classes(tmp_path: Path) -> None:
    data = images(5)
    column = [{"bytes": one, "path": f"train/n0{row}.JPEG"} for row, one in enumerate(data)]
    column[3]["path"] = None
    write(tmp_path / "t.parquet", {"image": column, "label": [1, 0, 1, -1, 1]}, names=["dog", "a cat"])
    listing = list_images([tmp_path / "t.parquet"])
    assert keys(listing)[2:4] == ["000000002-n02.JPEG", "000000003"]
    assert classes(listing) == ["a cat", "dog", "a cat", None, "a cat"]
    assert [read_bytes(item) for item in listing.items] == data
    assert {item.path for item in listing.items} == {str(tmp_path / "t.parquet")}
    assert [item.member for item in listing.items] == keys(listing)
    assert shareable(listing) == ""


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([10, 9, None], ["10", "9", None]),
        (["cat", "10", "cat"], ["cat", "10", "cat"]),
        (pa.array(["cat", None, "dog"]).dictionary_encode(), ["cat", None, "dog"]),
        (pa.array(["cat", "dog", "cat"], pa.large_string()), ["cat", "dog", "cat"]),
        ([[1], [2], []], ["1", "2", None]),
    ],
)
def test_plain_columns_of_bytes_and_classes(tmp_path: Path, labels: Any, expected: list[str | None]) -> None:
    write(tmp_path / "t.parquet", {"jpg": images(3), "id": [1, 2, 3], "label": labels})
    listing = list_images([tmp_path / "t.parquet"])
    assert classes(listing) == expected
    assert [read_bytes(item) for item in listing.items] == images(3)


FEW = [3, 1, 3]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["007", "07", "7"], ["007", "07", "7"]),
        (pa.array(["007", "07", "007"]).dictionary_encode(), ["007", "07", "007"]),
        ([b"cat", None, b"dog"], ["cat", None, "dog"]),
        (["nan", "", "None"], ["nan", None, "None"]),
        ([3.0, float("nan"), None], ["3", None, None]),
        ([True, False, None], ["true", "false", None]),
        ([["cat"], [], None], ["cat", None, None]),
        (pa.array(FEW, pa.uint8()), ["3", "1", "3"]),
        (pa.array(FEW, pa.float16()), ["3", "1", "3"]),
        (pa.array(FEW, pa.decimal128(5, 1)), ["3", "1", "3"]),
        (pa.array([[3], [1], [3]], pa.list_(pa.int8(), 1)), ["3", "1", "3"]),
    ],
)
def test_labels_of_any_type_are_classes(tmp_path: Path, labels: Any, expected: list[str | None]) -> None:
    for name in ("label", "target"):
        write(tmp_path / "t.parquet", {"image": images(3), name: labels})
        listing = list_images([tmp_path / "t.parquet"])
        assert classes(listing) == expected
        assert listing.notes == (f"t.parquet: images from column 'image', classes from '{name}'.",)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([["cat"], ["cat", "dog"]], "column 'label', row 1: 2 labels in one row, but an image can have one"),
        ([1.0, 0.5], r"column 'label', row 1: '0\.5' is not a class"),
        ([b"cat", b"\xff"], "column 'label', row 1: a class that is not UTF-8"),
        ([{"a": 1}, {"a": 2}], "column 'label', row 0: .* is not a class"),
        (pa.array([1, 2], pa.timestamp("s")), "column 'label', row 0: .* is not a class"),
    ],
)
def test_labels_that_are_no_classes_are_one_sentence(tmp_path: Path, labels: Any, message: str) -> None:
    path = write(tmp_path / "t.parquet", {"image": images(2), "label": labels})
    with pytest.raises(UsageError, match=message) as caught:
        list_images([path])
    assert "--label-column none leaves classes out" in caught.value.hint
    assert len(list_images([path], columns=Columns(label="none")).items) == 2
    assert len(list_images([path], columns=Columns(labelled=False)).items) == 2


def test_a_column_of_another_name_holds_the_classes_if_no_other_may(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write(path, {"image": images(2), "id": [1, 2], "variety": ["setosa", "virginica"], "width": [3, 4]})
    assert classes(list_images([path])) == ["setosa", "virginica"]
    write(path, {"image": images(2), "edible": [True, False]})
    assert classes(list_images([path])) == ["true", "false"]
    write(path, {"image": images(2), "kind": [1.0, None]})  # integers, once a value is missing
    assert classes(list_images([path])) == ["1", None]
    write(path, {"image": images(2), "caption": ["a", "b"], "sharpness": [0.5, 1.0]})
    listing = list_images([path])
    assert classes(listing) == [None, None]
    assert "no classes (--label-column names a column)" in listing.notes[0]


def test_two_columns_of_classes_need_a_choice(tmp_path: Path) -> None:
    columns = {"image": images(2), "label": [0, 1], "variety": ["setosa", "virginica"], "site": ["a", "b"]}
    path = write(tmp_path / "t.parquet", columns)
    with pytest.raises(UsageError, match=r"'label', 'variety'\. Choose one with --label-column NAME"):
        list_images([path])
    for name in ("label", "variety", "site"):
        assert classes(list_images([path], columns=Columns(label=name))) == [
            str(one) for one in columns[name]
        ]
    with pytest.raises(UsageError, match=r"no column 'kind'\. Its columns are 'image', 'label', 'variety'"):
        list_images([path], columns=Columns(label="kind"))
    del columns["label"], columns["variety"]
    path = write(tmp_path / "t.parquet", columns | {"camera": ["x", "x"]})
    with pytest.raises(UsageError, match="'site', 'camera'"):
        list_images([path])


def test_names_of_hugging_face_serve_lists_and_any_column(tmp_path: Path) -> None:
    table = pa.table({"image": images(3), "fine": [[1], [0], []], "coarse": [0, 0, -1], "label": ["x"] * 3})
    features = {
        "fine": {"feature": {"names": ["dog", "cat"], "_type": "ClassLabel"}, "_type": "Sequence"},
        "coarse": {"names": ["animal"], "_type": "ClassLabel"},
        "label": [{"_type": "Value"}],
    }
    path = tmp_path / "t.parquet"

    def save(*named: str) -> None:
        info = {"info": {"features": {name: features[name] for name in named}}}
        pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(info)}), path)

    save("fine", "label")
    assert classes(list_images([path])) == ["cat", "dog", None]
    save("fine", "coarse", "label")
    with pytest.raises(UsageError, match=r"'fine', 'coarse'\."):
        list_images([path])
    assert classes(list_images([path], columns=Columns(label="coarse"))) == ["animal", "animal", None]
    assert classes(list_images([path], columns=Columns(label="label"))) == ["x"] * 3


def test_the_option_names_the_column_of_images_too(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", {"front": images(2), "back": images(2, 50), "label": [b"x", b"y"]})
    (item, _) = list_images([path], columns=Columns("back")).items
    assert len(read_bytes(item)) == 50
    (item, _) = list_images([Path(f"{path}#front")], columns=Columns("back")).items
    assert len(read_bytes(item)) == 1000


def test_a_class_that_cannot_be_one_is_a_problem_once(tmp_path: Path) -> None:
    write(tmp_path / "t.parquet", {"image": images(4), "label": [0, 7, 7, 1]}, names=["cat", "dog"])
    listing = list_images([tmp_path / "t.parquet"])
    assert classes(listing) == ["cat", None, None, "dog"]
    assert [(one.key, one.reason) for one in listing.problems] == [
        ("000000001#label", "class 7, but there are 2 names")
    ]


def test_the_column_is_found_or_named(tmp_path: Path) -> None:
    both = {"front": images(2), "back": images(2, 50), "text": ["a", "b"]}
    path = write(tmp_path / "t.parquet", both)
    with pytest.raises(UsageError, match=r"several columns may hold images: front, back, text.*#COLUMN"):
        list_images([path])
    (front, _) = list_images([Path(f"{path}#front")]).items
    (back, _) = list_images([tmp_path / "*.parquet#back"]).items
    assert (len(read_bytes(front)), len(read_bytes(back))) == (1000, 50)
    with pytest.raises(UsageError, match="has no column 'text' of bytes"):
        list_images([Path(f"{path}#text")])
    write(tmp_path / "u.parquet", {"text": ["a"]})
    with pytest.raises(UsageError, match="no column may hold images: text"):
        list_images([tmp_path / "u.parquet"])
    write(tmp_path / "v.parquet", {"thumbnail": images(1, 5), "image": images(1, 9)})
    assert len(read_bytes(list_images([tmp_path / "v.parquet"]).items[0])) == 9


def test_files_of_a_pattern_are_sources_of_their_own(tmp_path: Path) -> None:
    for number in range(2):
        write(tmp_path / f"train-{number}.parquet", {"image": images(2)})
    found = keys(list_images([tmp_path / "train-{0..1}.parquet"]))
    assert found == keys(list_images([tmp_path / "*.parquet"]))
    assert found[1:3] == ["train-0.parquet/000000001", "train-1.parquet/000000000"]


def test_rows_without_an_image_are_failures_with_a_reason(tmp_path: Path) -> None:
    column = [{"bytes": b"abc", "path": "a"}, {"bytes": None, "path": "/etc/passwd"}, None, {"bytes": b""}]
    write(tmp_path / "t.parquet", {"image": column})
    first, second, third, last = list_images([tmp_path / "t.parquet"]).items
    assert (read_bytes(first), read_bytes(last)) == (b"abc", b"")
    for item in (second, third):
        with pytest.raises(Undecodable, match="no image in this row"):
            read_bytes(item)


class Counting(ParquetFile):
    """A file that counts the rows that are decoded."""

    decoded = 0

    def batches(self, *args: Any, **options: Any) -> Any:
        for batch in super().batches(*args, **options):
            self.decoded += len(batch)
            yield batch


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[Counting]:
    made: list[Counting] = []

    def opened(path: str, size: int) -> Counting:
        made.append(Counting(path, size))
        return made[-1]

    monkeypatch.setattr(parquet, "ParquetFile", opened)
    return made


@pytest.mark.parametrize("group", [7, 64, 1000])
def test_threads_that_go_forward_decode_each_row_once(
    tmp_path: Path, group: int, counted: list[Counting]
) -> None:
    data = images(400)
    items = list_images([write(tmp_path / "t.parquet", {"image": data}, group=group)]).items
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read_bytes, items)) == data
    assert [file.decoded for file in counted] == [0, 400]  # listing decodes none


def test_any_order_gives_the_same_bytes(tmp_path: Path, counted: list[Counting]) -> None:
    data = images(100)
    items = list_images([write(tmp_path / "t.parquet", {"image": data}, group=20)]).items
    for row in np.random.default_rng(0).integers(0, 100, 60):
        assert read_bytes(items[row]) == data[row]
    assert read_bytes(items[99]) == data[99]
    before = counted[-1].decoded
    assert read_bytes(items[61]) == data[61]
    assert counted[-1].decoded - before <= 20  # no more than its row group
    assert [read_bytes(item) for item in items[5::7]] == data[5::7]


def test_what_is_held_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "HELD", 100_000)
    items = list_images([write(tmp_path / "t.parquet", {"image": images(300, 5000)}, group=300)]).items
    for item in items:
        read_bytes(item)
        reader = parquet._reader(item.content, os.getpid())
        assert reader._bytes == sum(row.nbytes for row in reader._held.values())
        assert reader._bytes <= 100_000 or len(reader._held) <= 2


def test_shots_of_a_table_and_items_in_another_process(tmp_path: Path) -> None:
    data = images(60)
    path = write(tmp_path / "t.parquet", {"image": data, "label": [row % 3 for row in range(60)]})
    some = take_shots(list_images([path]), 4, 0)
    again = pickle.loads(pickle.dumps(some.items))
    assert [read_bytes(item) for item in again] == [data[item.offset] for item in some.items]


def test_a_table_that_changed_since_it_was_listed_is_a_failure_of_its_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", {"image": images(30)})
    before = list_images([path])
    assert read_bytes(before.items[0])
    write(path, {"image": images(30, 1001)})
    for item in before.items[:2]:
        with pytest.raises(Undecodable, match="its table changed since it was listed"):
            read_bytes(item)
    assert list_images([path]).digest != before.digest


def test_damage_costs_its_row_group_and_is_found_once(tmp_path: Path, counted: list[Counting]) -> None:
    data = images(50)
    path = write(tmp_path / "t.parquet", {"image": data}, group=10)
    content = bytearray(path.read_bytes())
    at = content.find(data[25])
    if at < 0:
        pytest.skip("this pyarrow compresses random bytes")
    start = content.find(data[20]) - 30  # the header of the page
    content[start : start + 30] = b"\xff" * 30
    path.write_bytes(content)
    for item in list_images([path]).items:
        if 20 <= item.offset < 30:
            with pytest.raises(Undecodable, match="its Parquet file is damaged"):
                read_bytes(item)
        else:
            assert read_bytes(item) == data[item.offset]
    assert counted[-1].decoded == 40


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" * 99, b"no table at all"])
def test_what_is_no_table_is_a_usage_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.parquet").write_bytes(content)
    with pytest.raises(UsageError, match="cannot be read as Parquet"):
        list_images([tmp_path / "t.parquet"])


def test_a_table_of_no_rows_is_empty(tmp_path: Path) -> None:
    write(tmp_path / "t.parquet", {"image": pa.array([], pa.binary())})
    assert list_images([tmp_path / "t.parquet"]).items == ()


def test_a_damaged_table_is_rows_or_a_sentence(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", {"image": images(6, 60), "label": [0, 1] * 3}, group=3)
    whole = path.read_bytes()
    random = np.random.default_rng(3)
    for _ in range(150):
        data = bytearray(whole)
        for at in random.integers(0, len(data), int(random.choice([1, 6]))):
            data[at] = random.integers(0, 256)
        path.write_bytes(data)
        try:
            items = list_images([path]).items
        except UsageError:
            continue
        for item in items[:20]:
            with suppress(Undecodable):
                read_bytes(item)


def test_a_table_behind_a_url_is_read_in_ranges_and_again_when_the_network_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fsspec")
    from flaky import Flaky, put

    from lsncli.images import remote

    monkeypatch.setattr(remote, "FIRST_WAIT", 0.0)
    monkeypatch.setattr(parquet_file, "REMOTE_BLOCK", 20_000)
    Flaky.reset()
    data = images(100, 3000)
    whole = write(tmp_path / "t.parquet", {"image": data}, group=10).read_bytes()
    put({"t.parquet": whole})
    Flaky.behave(lambda number: OSError("down") if number % 2 else None)
    listing = list_images([Path("flaky://t.parquet")])
    assert Flaky.fetched < len(whole) / 3
    assert [read_bytes(item) for item in listing.items[40:]] == data[40:]
    assert Flaky.fetched < len(whole)
    Flaky.behave(lambda number: None)
    with pytest.raises(UsageError, match="has no column 'pixels' of bytes"):
        list_images([Path("flaky://t.parquet")], columns=Columns("pixels"))
    Flaky.behave(lambda number: OSError("down"))
    with pytest.raises(Undecodable, match="tried 3 times"):
        read_bytes(listing.items[0])
    Flaky.behave(lambda number: None)
    assert read_bytes(listing.items[0]) == data[0]  # that was not damage
    Flaky.reset()
