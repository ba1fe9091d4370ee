"""Verdicts as Parquet: the same columns of the same types whatever the rows hold."""

import errno
import os
import sys
from pathlib import Path

import pytest

from lsncli.errors import LsnError, Unavailable, UsageError
from lsncli.report import parquet as use
from lsncli.report.formats import Column, check, render

pyarrow = pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")
COLUMNS = [Column("path", "Path"), Column("score", "Score", digits=6), Column("is_ood", "OOD", flag=True)]
TYPES = [pyarrow.string(), pyarrow.float64(), pyarrow.bool_()]
ROWS = [
    {"path": "=1+1\n\x1b.jpg", "score": 0.1 + 0.2, "is_ood": True},
    {"path": "lone \udcff", "score": float("nan"), "is_ood": False},
    {"path": "failed.jpg"},
]


def write_parquet(rows, columns, path: Path) -> None:
    render(rows, columns, "parquet", path)


def read(path: Path):
    from pyarrow import parquet

    return parquet.read_table(path)


def test_names_and_numbers_are_exact_and_blanks_are_null(tmp_path) -> None:
    write_parquet(ROWS, COLUMNS, tmp_path / "new" / "rows.parquet")
    table = read(tmp_path / "new" / "rows.parquet")
    assert table.schema.types == TYPES
    assert table.column("path").to_pylist() == ["=1+1\n\x1b.jpg", "lone \\udcff", "failed.jpg"]
    assert table.column("score").to_pylist() == [0.1 + 0.2, None, None]
    assert table.column("is_ood").to_pylist() == [True, False, None]


def test_a_column_that_says_no_type_has_that_of_its_values(tmp_path) -> None:
    values = {"n": [1, None, 2.5], "yes": [True, None, False], "text": [3, "four", None], "none": [None] * 3}
    columns = [Column(key, key) for key in values]
    write_parquet(
        [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)],
        columns,
        tmp_path / "rows.parquet",
    )
    assert read(tmp_path / "rows.parquet").to_pydict() == values | {"text": ["3", "four", None]}


@pytest.mark.parametrize("rows", [[], ROWS[2:]])
def test_types_do_not_hang_on_what_the_rows_hold(tmp_path, rows) -> None:
    write_parquet(rows, COLUMNS, tmp_path / "rows.parquet")
    assert read(tmp_path / "rows.parquet").schema.types == TYPES


def test_many_rows_are_written_group_by_group(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(use, "GROUP", 10)
    write_parquet(({"path": str(n), "score": n} for n in range(25)), COLUMNS, tmp_path / "rows.parquet")
    from pyarrow import parquet

    assert parquet.ParquetFile(tmp_path / "rows.parquet").num_row_groups == 3
    assert read(tmp_path / "rows.parquet").column("score").to_pylist() == list(range(25))


def test_a_run_that_fails_leaves_the_old_file_and_nothing_else(tmp_path) -> None:
    path = tmp_path / "rows.parquet"
    write_parquet(ROWS, COLUMNS, path)
    before = path.read_bytes()

    def rows():
        yield ROWS[0]
        raise LsnError("in the middle")

    with pytest.raises(LsnError, match="in the middle"):
        write_parquet(rows(), COLUMNS, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_is_said(tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LsnError, match=r"--output .* cannot be written"):
        write_parquet(ROWS, COLUMNS, tmp_path / "file" / "rows.parquet")
    with pytest.raises(LsnError, match=rf"cannot be written: {os.strerror(errno.ENAMETOOLONG)}\."):
        write_parquet(ROWS, COLUMNS, tmp_path / ("x" * 300))
    with pytest.raises(UsageError, match="--format parquet is not for a terminal"):
        check("parquet", None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(Unavailable) as caught:
        check("parquet", tmp_path / "rows.parquet")
    assert "lsncli[parquet]" in caught.value.hint
