"""The table of methods since the paper: numbers against a second copy, sources and conventions."""

import csv
import io
from pathlib import Path

import pytest
from cli_runner import exit_code

from lsncli.bench.suite_toml import SUITES, load_suite
from lsncli.reference.published import LATER, load_table

COPY = Path(__file__).parent / "later_table.txt"
"""Names, then FPR95 with ID positive, FPR95 with OOD positive and AUROC, separated by tabs."""

METRICS = ("fpr95", "fpr95_ood", "auroc")

SCORES = (
    *("mcm", "lsn", "energy", "vos", "mahalanobis", "eoe", "neglabel"),
    *("rmds", "proto", "gen", "fdbd", "she", "klm", "nci", "scale", "vra"),
)
"""The scores that the table compares."""


def copied() -> dict[str, dict[str, str]]:
    lines = (line.split("\t") for line in COPY.read_text(encoding="utf-8").splitlines())
    return {name: dict(zip(METRICS, numbers, strict=True)) for name, *numbers in lines}


def test_every_number_is_in_the_second_copy_and_in_its_column() -> None:
    found = load_table(LATER)
    assert [(one.group, one.metric) for one in found.columns] == [("Average", metric) for metric in METRICS]
    shown = {
        row.name: {
            one.metric: f"{row.values[one.key]:.2f}" if one.key in row.values else "-"
            for one in found.columns
        }
        for row in found.rows
    }
    assert shown == copied()


def test_a_row_has_one_convention_of_fpr95_and_a_source() -> None:
    for row in load_table(LATER).rows:
        assert not {"Average/fpr95", "Average/fpr95_ood"} <= row.values.keys()
        assert row.values
        assert row.source
        assert row.section in ("texts", "training images", "test images")


def test_rows_of_the_paper_are_those_of_table_2() -> None:
    later = {row.name: row.values for row in load_table(LATER).rows}
    paper = {row.name.removesuffix(" (ours)"): row.values for row in load_table(2).rows}
    for name, printed in (("CoOp + MCM", "CoOp"), ("CoOp + LSN",) * 2, ("CoCoOp + LSN",) * 2):
        assert later[name] == {key: paper[printed][key] for key in ("Average/fpr95", "Average/auroc")}


def test_the_command_prints_the_source_of_every_number(capsys) -> None:
    assert exit_code("bench", "--table", "later", "--published", "--format", "csv") == 0
    got = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert all(line["source"] and line["table"] == "later" for line in got)
    assert [(line["row"], line["metric"], line["value"]) for line in got] == [
        (name, metric, value)
        for name, numbers in copied().items()
        for metric, value in numbers.items()
        if value != "-"
    ]


@pytest.mark.parametrize("name", SUITES)
def test_our_suites_measure_every_score_of_the_table(name: str) -> None:
    rows = load_suite(name).table(LATER).rows
    assert {row.method.split(",")[0].split(":")[0] for row in rows} == set(SCORES)
    methods = {row.method for row in rows}
    assert {"neglabel,words=wordnet", "neglabel,words=csp", "neglabel,words=wordnet,mine=images"} <= methods
    assert not any(row.unavailable for row in rows)
    published = {row.name for row in load_table(LATER).rows}
    assert {"MCM", "NegLabel", "CSP", "CoOp + LSN", "CoCoOp + LSN"} <= published & {row.name for row in rows}


def test_the_mini_suite_says_that_its_words_are_reduced() -> None:
    rows = load_suite("mini").table(LATER).rows
    for row in rows:
        if "words=imagenet1k" in row.method:
            assert row.note.startswith("reduced: ")
        elif row.method.startswith("neglabel"):
            assert "unknown to the mini model" in row.note
