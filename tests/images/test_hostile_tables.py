"""Parquet files of some bytes that unpack to far too many are refused before they do, with one sentence."""

import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parquet_samples import page, varint, whole, write_pages

from lsncli.errors import UsageError
from lsncli.images import parquet
from lsncli.images.columns import Columns
from lsncli.images.listing import list_images
from lsncli.images.parquet_file import Limit, ParquetFile
from lsncli.images.parquet_pages import ColumnChunk, GuardedFile, read_pages
from lsncli.images.read import Undecodable, read_bytes

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

ROWS = 2000


def repeated(value: Any) -> Any:
    """One value in every row, of which the file holds one."""
    return pa.DictionaryArray.from_arrays(pa.array([0] * ROWS, pa.int32()), pa.array([value]))


def write(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, len(next(iter(columns.values())))).astype("u1")
    table = pa.table(columns | {"noise": noise})  # a file has a byte for each of its rows
    pq.write_table(table, path, compression="zstd", store_schema=False, write_statistics=False, **options)
    return path


@pytest.mark.parametrize("name", ["label", "kind", "path"])
def test_a_text_that_repeats_is_refused_by_its_length(tmp_path: Path, name: str) -> None:
    images = pa.array([b"x"] * ROWS)
    long = repeated("a" * 1_000_000)
    if name == "path":
        columns = {"image": pa.StructArray.from_arrays([images, long], ["bytes", "path"])}
    else:
        columns = {"image": images, name: long}
    path = write(tmp_path / "t.parquet", columns)
    assert path.stat().st_size < 10_000
    before = pa.default_memory_pool().max_memory()
    if name == "kind":  # of an unusual name: such a column holds no classes
        assert len(list_images([path]).items) == ROWS
    else:
        with pytest.raises(
            UsageError, match=r"is refused: a value of 1,000,000 bytes in column '(label|image\.path)"
        ):
            list_images([path])
        assert (
            len(list_images([path], columns=Columns(labelled=False)).items) == ROWS if name == "label" else 1
        )
    assert pa.default_memory_pool().max_memory() <= max(before, 1 << 26)


def test_texts_that_repeat_are_one_object(tmp_path: Path) -> None:
    columns = {
        "image": pa.array([b"x"] * ROWS),
        "label": repeated("a" * 60_000),
        "l": [["b" * 60_000]] * ROWS,
    }
    path = write(tmp_path / "t.parquet", columns)
    with ParquetFile(str(path), path.stat().st_size) as file:
        assert len({id(one) for one in file.values("label")}) == 1
        assert len({id(one[0]) for one in file.values("l")}) == 1


def test_a_page_that_would_unpack_to_too_much_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert parquet.IMAGES.page == 1 << 28
    monkeypatch.setattr(parquet, "IMAGES", Limit(1 << 24, rows=1))
    columns = {"image": pa.array([bytes(4_000_000)] * 8)}
    path = write(tmp_path / "t.parquet", columns, use_dictionary=False)
    for item in list_images([path]).items:
        with pytest.raises(
            Undecodable, match=r"is refused: a page of [\d,]+ bytes in column 'image' would unpack to 32,000"
        ):
            read_bytes(item)


def test_images_that_repeat_count_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "MOST_UNPACKED", 30_000_200)
    path = write(tmp_path / "t.parquet", {"image": repeated(bytes(1_000_000))})
    items = list_images([path]).items
    assert [len(read_bytes(item)) for item in items[:30]] == [1_000_000] * 30
    for item in items[30:]:
        with pytest.raises(Undecodable, match=r"is refused: images of more than 30,000,"):
            read_bytes(item)


def test_one_image_is_decoded_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "HELD", 0)
    path = write(tmp_path / "t.parquet", {"image": repeated(bytes(1_000_000))})
    for item in list_images([path]).items[:50]:
        read_bytes(item)
        reader = parquet._reader(item.content, os.getpid())
        assert reader._bytes <= 2_000_100


@pytest.mark.parametrize("encoding", [6, 7])
def test_deltas_that_claim_billions_of_values_are_refused(tmp_path: Path, encoding: int) -> None:
    deltas = varint(1 << 30) + varint(1) + varint((1 << 31) - 1) + whole(0) + (whole(0) + b"\0") * 3
    path = write_pages(
        tmp_path / "t.parquet",
        page(deltas * 2, values=100, encoding=encoding) + bytes(200),
        rows=100,
        encoding=encoding,
    )
    for item in list_images([path]).items:
        with pytest.raises(Undecodable, match=r"a page of 100 values that claims 2,147,483,647"):
            read_bytes(item)


def test_pages_beyond_their_column_and_values_beyond_the_rows_are_refused(tmp_path: Path) -> None:
    value = b"\1\0\0\0x"
    for data, reason in (
        (page(value * 20, values=20, encoding=0)[:-1], "a page is larger than its column"),
        (page(value * 20, values=21, encoding=0), "claims more values than it can have"),
        (page(value * 20, values=20, encoding=0, unpacked=1 << 30), "would unpack to 1,073,741,824 bytes"),
        (b"\xff" * 40, "a page without a header"),
        (b"\x15", "a page without a header"),
    ):
        path = write_pages(tmp_path / "t.parquet", data, rows=20, encoding=0)
        (first, *_) = list_images([path]).items
        with pytest.raises(Undecodable, match=reason):
            read_bytes(first)
    path = write_pages(tmp_path / "t.parquet", page(value * 20, values=20, encoding=0), rows=20, encoding=0)
    assert [read_bytes(item) for item in list_images([path]).items] == [b"x"] * 20


def test_rows_that_a_file_cannot_have_are_a_usage_error(tmp_path: Path) -> None:
    data = page(b"\1\0\0\0x" * 20, values=20, encoding=0)
    path = write_pages(tmp_path / "t.parquet", data, rows=1_000_000, encoding=0)
    with pytest.raises(UsageError, match=r"claims 1,000,000 rows in \d+ bytes"):
        list_images([path])


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("codec", ["none", "snappy", "gzip", "lz4", "zstd"])
def test_every_encoding_codec_and_page_is_still_read(tmp_path: Path, codec: str, version: str) -> None:
    random = np.random.default_rng(0)
    data = [random.bytes(row * 7 % 90) for row in range(400)]
    some = [None if row % 17 == 0 else one for row, one in enumerate(data)]
    encodings = [None, ("PLAIN", "PLAIN"), ("DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY")]
    for images, encoding, numbers in itertools.product((data, some), encodings, (False, True)):
        labels = [row % 7 if numbers else f"class {row % 7}" for row in range(400)]
        options: dict[str, Any] = {}
        if encoding is not None:
            kinds = {"image": encoding[0], "label": "DELTA_BINARY_PACKED" if numbers else encoding[1]}
            options = {"use_dictionary": False, "column_encoding": kinds}
        pq.write_table(
            pa.table({"image": images, "label": labels}),
            tmp_path / "t.parquet",
            compression=codec,
            data_page_version=version,
            row_group_size=150,
            data_page_size=2000,
            **options,
        )
        listing = list_images([tmp_path / "t.parquet"])
        assert [listing.folders[item.label] for item in listing.items] == [str(one) for one in labels]
        for item, expected in zip(listing.items, images, strict=True):
            if expected is not None:
                assert read_bytes(item) == expected


def test_headers_are_read_as_pyarrow_writes_them(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    images = [random.bytes(100) for _ in range(3000)]
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"image": images}), path, row_group_size=1000, data_page_size=5000)
    metadata = pq.read_metadata(path)
    for group in range(3):
        column = metadata.row_group(group).column(0)
        start = min(filter(None, (column.dictionary_page_offset, column.data_page_offset)))
        end = start + column.total_compressed_size
        with open(path, "rb") as file:
            found = list(read_pages(file, start, end, end))
        assert sum(one.header + one.size for one in found) == column.total_compressed_size
        assert sum(one.unpacked + one.header for one in found) == column.total_uncompressed_size
        assert sum(one.values for one in found if one.kind == 0) == 1000


def test_no_byte_of_a_refused_page_is_given_out(tmp_path: Path) -> None:
    path = tmp_path / "pages"
    one = page(b"x" * 50, values=1, encoding=0)
    path.write_bytes(one * 3)
    given: list[int] = []

    def check(page: Any, read: Any) -> None:
        assert read() == b"x" * 50
        if len(given) == 2:
            raise ValueError("no more")
        given.append(page.size)

    with GuardedFile(open(path, "rb", buffering=0)) as file:
        file.watch(ColumnChunk(0, len(one) * 3, check))
        assert file.read(len(one) * 2) == one * 2
        with pytest.raises(ValueError, match="no more"):
            file.read(1)
