"""The published numbers are the paper's: against the raw rows of its text, sums, and what it says of them."""

import csv
import io
from pathlib import Path

import pytest
from cli_runner import exit_code

from lsncli.errors import UsageError
from lsncli.reference.published import (
    MARKS,
    METRICS,
    NUMBERS,
    PublishedRow,
    PublishedTable,
    load_table,
    parse_column,
    with_bold,
)

PRINTED = Path(__file__).parent / "paper_tables.txt"
"""Rows as the text of the paper has them: the name with its marks, then the numbers, separated by tabs."""

COUNTS = {1: 99, 2: 165, 3: 65, 4: 60, 5: 60, 7: 30, 8: 60, 9: 60, 10: 30, 11: 80}
"""Numbers a table, counted by hand: rows times columns, less ZOC's five."""

FOUR = ("iNaturalist", "SUN", "Places", "Textures")

CUT_OFF = {
    (1, "CoCoOp", "fpr95"),
    (2, "CoOp + LSN (ours)", "fpr95"),
    (4, "w/o negative prompts", "fpr95"),
    (4, "multi positive prompts", "auroc"),
    (5, "pos-shared-w name", "fpr95"),
    (5, "neg-specific-w/o name", "fpr95"),
    (7, "MCM", "auroc"),
    (8, "NNGuide", "auroc"),
    (8, "ASH", "fpr95"),
    (10, "CoOp", "auroc"),
}
"""Averages that the paper cuts off after two digits instead of rounding them."""

WRONG = {(5, "pos-specific-w name", "fpr95"): (16.61, 16.37)}
"""Averages that are not those of their parts: printed, true."""


def printed() -> dict[int, list[tuple[str, list[str]]]]:
    """Names (with marks) and numbers by table, by other means than the loader's."""
    found: dict[int, list[tuple[str, list[str]]]] = {}
    for line in PRINTED.read_text(encoding="utf-8").splitlines():
        if line.startswith("Table "):
            rows = found.setdefault(int(line.removeprefix("Table ")), [])
        else:
            name, *numbers = line.split("\t")
            rows.append((name, numbers))
    return found


def header(number: int) -> list[tuple[str, str]]:
    """Group and metric of every column, as the head of the printed table has them."""
    small = ("CIFAR10", "CIFAR100", "CIFAR+10", "CIFAR+50", "TinyImagenet")
    groups = small if number == 3 else (*FOUR, "Average")
    pairs = [(group, metric) for group in groups for metric in ("fpr95", "auroc")]
    return pairs + [("", "id_accuracy")] * (number in (1, 2))


def row(number: int, name: str) -> PublishedRow:
    return next(one for one in load_table(number).rows if one.name == name)


def test_all_ten_tables_are_there() -> None:
    assert set(NUMBERS) == set(printed()) == set(COUNTS) == set(range(1, 12)) - {6}
    assert {number: sum(len(one.values) for one in load_table(number).rows) for number in NUMBERS} == COUNTS


@pytest.mark.parametrize("number", NUMBERS)
def test_every_number_is_as_the_paper_prints_it(number: int) -> None:
    found = load_table(number)
    assert found.key == str(number)
    assert found.of_the_paper
    assert [(one.group, one.metric) for one in found.columns] == header(number)
    for one, (name, numbers) in zip(found.rows, printed()[number], strict=True):
        assert one.name + "".join(one.marks) == name
        shown = [f"{one.values[c.key]:.2f}" if c.key in one.values else "-" for c in found.columns]
        assert shown == numbers


@pytest.mark.parametrize("number", NUMBERS)
def test_the_command_prints_the_paper_as_csv(number: int, capsys) -> None:
    assert exit_code("bench", "--table", str(number), "--published", "--format", "csv") == 0
    got = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    wanted = [
        (str(number), name.rstrip("*"), "*" if name.endswith("*") else "", group, metric, value)
        for name, values in printed()[number]
        for (group, metric), value in zip(header(number), values, strict=True)
        if value != "-"
    ]
    keys = ("table", "row", "marks", "group", "metric", "value")
    assert [tuple(line[key] for key in keys) for line in got] == wanted


@pytest.mark.parametrize("number", NUMBERS)
def test_tables_are_well_formed(number: int) -> None:
    found = load_table(number)
    assert found.title
    assert found.id_set
    assert found.backbone
    keys = [one.key for one in found.columns]
    assert len(set(keys)) == len(keys)
    names = [one.name for one in found.rows]
    assert len(set(names)) == len(names)
    for one in found.columns:
        assert one == parse_column(one.key)
        assert one.metric in METRICS
    for one in found.rows:
        assert set(one.marks) <= set(MARKS)
        assert set(one.values) <= set(keys)
        assert all(0 <= value <= 100 for value in one.values.values())
        assert one.bold <= set(one.values)


def test_only_zocs_fpr95_is_missing() -> None:
    missing = {
        (number, one.name, c.key)
        for number in NUMBERS
        for one in load_table(number).rows
        for c in load_table(number).columns
        if c.key not in one.values
    }
    assert missing == {(3, "ZOC", c.key) for c in load_table(3).columns if c.metric == "fpr95"}


@pytest.mark.parametrize("metric", ["fpr95", "auroc"])
@pytest.mark.parametrize("number", [number for number in NUMBERS if number != 3])
def test_averages_are_those_of_their_parts(number: int, metric: str) -> None:
    for one in load_table(number).rows:
        hundredths = sum(round(100 * one.values[f"{group}/{metric}"]) for group in FOUR)
        average = round(100 * one.values[f"Average/{metric}"])
        case = (number, one.name, metric)
        if case in WRONG:
            assert (average, round(hundredths / 4)) == tuple(round(100 * value) for value in WRONG[case])
        elif case in CUT_OFF:
            assert hundredths % 4 == 3
            assert average == hundredths // 4
        else:
            assert abs(4 * average - hundredths) <= 2, case


def best(found: PublishedTable, key: str) -> set[str]:
    """The names of the rows that are bold in a column."""
    return {one.name for one in found.rows if key in one.bold}


def test_bold_is_what_is_best_in_its_direction() -> None:
    assert best(load_table(1), "Textures/fpr95") == {"NPOS"}
    assert best(load_table(1), "Textures/auroc") == {"CoCoOp + LSN (ours)"}
    assert best(load_table(1), "id_accuracy") == {"CoOp", "CoOp + LSN (ours)"}
    assert best(load_table(7), "Textures/fpr95") == best(load_table(7), "Textures/auroc") == {"DualCoOp"}
    assert best(load_table(5), "Average/fpr95") == {"pos-shared-w name", "neg-specific-w name"}


def test_a_number_without_a_rival_is_not_bold() -> None:
    columns = [parse_column("A/fpr95"), parse_column("A/auroc")]
    rows = [
        PublishedRow("x", (), {"A/fpr95": 3.0, "A/auroc": 90.0}, frozenset({"A/fpr95"})),
        PublishedRow("y", (), {"A/auroc": 91.0}, frozenset()),
        PublishedRow("z", (), {"A/fpr95": 1.0, "A/auroc": 99.0}, frozenset(), "another block"),
    ]
    assert [one.bold for one in with_bold(rows, columns)] == [frozenset(), {"A/auroc"}, frozenset()]


OURS = {1: "CoCoOp + LSN (ours)", 4: "full model", 7: "LSN", 8: "LSN", 10: "CoOp + LSN"}


@pytest.mark.parametrize("number", OURS)
def test_lsn_has_the_best_averages(number: int) -> None:
    for metric in ("fpr95", "auroc"):
        assert best(load_table(number), f"Average/{metric}") == {OURS[number]}


def test_on_imagenet_lsn_has_the_best_fpr95_but_clipn_the_best_auroc() -> None:
    # Section 4.4 says that LSN has "the highest average performance"; of AUROC the table says otherwise.
    assert best(load_table(2), "Average/fpr95") == {"CoCoOp + LSN (ours)"}
    assert best(load_table(2), "Average/auroc") == {"CLIPN"}


@pytest.mark.parametrize("number", [3, 8, 9, 10, 11])
def test_lsn_is_best_in_every_column_and_block(number: int) -> None:
    found = load_table(number)
    for section in {one.section for one in found.rows}:
        for c in found.columns:
            rows = [one.name for one in found.rows if one.section == section and c.key in one.bold]
            assert len(rows) == 1
            assert "LSN" in rows[0]


def test_the_gains_of_section_4_4_follow() -> None:
    for number, gain in ((1, 24.02), (2, 13.33)):
        mcm, ours = row(number, "MCM"), row(number, "CoCoOp + LSN (ours)")
        assert round(mcm.values["Average/fpr95"] - ours.values["Average/fpr95"], 2) == gain


@pytest.mark.parametrize(
    "same",
    [
        [(1, "MCM"), (4, "MCM"), (9, "MCM/CLIP-B/16"), (11, "ImageNet-100/MCM")],
        [(1, "CoCoOp + LSN (ours)"), (4, "full model"), (9, "LSN/CLIP-B/16"), (11, "ImageNet-100/LSN")],
        [(1, "CoCoOp"), (4, "w/o negative prompts"), (5, "pos-shared-w name")],
        [(2, "MCM"), (8, "MCM"), (11, "ImageNet-1k/MCM")],
        [(2, "CoCoOp + LSN (ours)"), (8, "LSN"), (11, "ImageNet-1k/LSN")],
    ],
)
def test_rows_that_several_tables_share_are_equal(same: list[tuple[int, str]]) -> None:
    first, *others = ({k: v for k, v in row(*one).values.items() if k != "id_accuracy"} for one in same)
    assert all(other == first for other in others)


def test_blocks_are_those_of_the_names() -> None:
    for number in NUMBERS:
        for one in load_table(number).rows:
            assert bool(one.section) == (number in (5, 9, 11))
            if number == 5:
                assert one.name[:3] == one.section[:3]
            elif one.section:
                assert one.section in one.name.split("/", 1)[number == 9]


@pytest.mark.parametrize("number", [0, 6, 12, -1])
def test_other_numbers_are_refused_with_the_list(number: int) -> None:
    with pytest.raises(UsageError) as refusal:
        load_table(number)
    assert "1, 2, 3, 4, 5, 7, 8, 9, 10, 11, later" in refusal.value.message
    assert "Table 6" in refusal.value.hint
    assert "missing" in refusal.value.hint
