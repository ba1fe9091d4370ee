"""The study of later methods: its rows are the suite's, and the docs quote what is recorded."""

import re
from pathlib import Path

from benchmarks.accuracy.later import NAME, near
from benchmarks.records import read
from lsncli.bench.jobs import check_methods, table_rows
from lsncli.bench.suite_toml import load_suite

DOCS = Path(__file__).parents[2] / "docs" / "methods.md"


def recorded() -> dict[str, dict]:
    content, _ = read(NAME)
    assert content is not None
    return content


def test_the_near_table_has_the_same_rows_without_cocoop() -> None:
    suite = load_suite("mini")
    spec = suite.table("later")
    changed = near(spec)
    check_methods(suite, changed)
    left_out = [row.name for row in spec.rows if row.name not in {one.name for one in changed.rows}]
    assert left_out == ["CoCoOp + LSN"]
    assert {split.id for row in table_rows(suite, changed) for split in row.splits} == {"TinyImagenet"}


def test_every_row_of_the_suite_is_recorded_as_it_is_measured_today() -> None:
    suite = load_suite("mini")
    spec = suite.table("later")
    for part, table in (("far", spec), ("near", near(spec))):
        found = recorded()[part]
        assert {name: row["method"] for name, row in found.items()} == {
            row.name: row.method for row in table.rows
        }
        for row in found.values():
            assert row["n"]
            assert all(0 <= row[metric] <= 100 for metric in ("fpr95", "fpr95_ood", "auroc"))


def test_the_docs_quote_the_record() -> None:
    section = (
        DOCS.read_text(encoding="utf-8").split("## Later methods on the mini suite\n")[1].split("\n## ")[0]
    )
    lines = [line for line in section.splitlines() if re.match(r"\| [A-Za-z]", line)]
    shown = {cells[0]: cells[1:] for cells in ([c.strip() for c in line.split("|")[1:-1]] for line in lines)}
    del shown["Method"]
    far, near_part = recorded()["far"], recorded()["near"]
    assert set(shown) == set(far)
    for name, cells in shown.items():
        numbers = [far[name]["fpr95"], far[name]["fpr95_ood"], far[name]["auroc"]]
        numbers += [near_part[name][key] for key in ("fpr95", "auroc")] if name in near_part else []
        assert cells == [f"{number:.1f}" for number in numbers] + ["-"] * (5 - len(numbers))
