"""The ablations of Tables 4 and 5, from the command line to the table, on made-up features."""

import json
import statistics
from pathlib import Path

import pytest

from benchmarks.accuracy import ablations
from benchmarks.accuracy.ablations import Study, rows_of
from benchmarks.mini import store
from lsncli.errors import UsageError

TABLE_4 = [
    "MCM",
    "full model",
    "w/o positive prompts",
    "w/o negative prompts",
    "w/o semantic orthogonality loss",
    "multi positive prompts",
]
TABLE_5 = [
    f"{kind}-{form}"
    for kind in ("pos", "neg")
    for form in ("specific-w name", "shared-w name", "specific-w/o name")
]


def study(table: int, mode: str = "paper", columns: tuple[str, ...] = ("cifar10",)) -> Study:
    return Study(table, mode, columns, 1, 2, 3, {})


def run(bench: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> dict:
    output = bench / "out.json"
    quick = ["--cache", str(bench), "--output", str(output), "--jobs", "1", "--epochs", "1", "--shots", "3"]
    monkeypatch.setattr("sys.argv", ["ablations", *options, *quick])
    ablations.main()
    [result] = json.loads(output.read_text()).values()
    return result


def test_table_4_takes_away_one_thing_at_a_time() -> None:
    rows = {row.name: row for row in rows_of(study(4))}
    full = rows["full model"]
    assert list(rows) == TABLE_4
    assert rows["MCM"].positive is rows["MCM"].negative is None
    assert (rows["w/o positive prompts"].positive, rows["w/o positive prompts"].negative) == (
        None,
        full.negative,
    )
    assert (rows["w/o negative prompts"].positive, rows["w/o negative prompts"].negative) == (
        full.positive,
        None,
    )
    assert full.negative.weight == 0.1
    assert rows["w/o semantic orthogonality loss"].negative.weight == 0
    assert rows["multi positive prompts"].positive.sets == 3
    assert [row.method[0] for row in rows.values()] == ["mcm", "lsn", "lsn", "mcm", "lsn", "mcm"]


def test_table_5_varies_one_side_and_scores_it_alone() -> None:
    rows = rows_of(study(5))
    assert [row.name for row in rows] == TABLE_5
    forms = [(True, True), (False, True), (True, False)]
    assert [(row.positive.specific, row.positive.names) for row in rows[:3]] == forms
    assert [(row.negative.specific, row.negative.names) for row in rows[3:]] == forms
    assert [row.method[0] for row in rows] == ["mcm"] * 3 + ["mincm"] * 3
    assert all(row.positive is None for row in rows[3:])


def test_the_score_takes_the_form_of_the_mode() -> None:
    for table, name in ((4, "full model"), (5, "neg-shared-w name")):
        (official,) = [row for row in rows_of(study(table, "official")) if row.name == name]
        (paper,) = [row for row in rows_of(study(table)) if row.name == name]
        assert official.method[1]["form"] == "official"
        assert paper.method[1] == {}


@pytest.mark.parametrize(("table", "names"), [("4", TABLE_4), ("5", TABLE_5)])
def test_a_table_runs_from_end_to_end(bench: Path, monkeypatch, capsys, table: str, names: list[str]) -> None:
    options = (table, "--columns", "cifar10,imagenette", "--seeds", "2", "--splits", "1")
    result = run(bench, monkeypatch, *options)
    shown = capsys.readouterr().out
    assert list(result["rows"]) == names
    assert max(map(len, shown.splitlines())) <= 100
    assert shown.count("FPR↓") == shown.count("AUC↑") == 6
    for row in result["rows"].values():
        for column in ("cifar10", "imagenette"):
            assert len(row[column]["fpr95"]) == 2
            assert all(0 <= value <= 100 for key in ablations.MEASURES for value in row[column][key])
        both = [
            statistics.mean(pair)
            for pair in zip(row["cifar10"]["auroc"], row["imagenette"]["auroc"], strict=True)
        ]
        assert row["mean"]["auroc"] == pytest.approx(both, abs=1e-3)
        mean, spread = statistics.mean(row["cifar10"]["auroc"]), statistics.stdev(row["cifar10"]["auroc"])
        assert f"{mean:.1f}±{spread:.1f}" in shown
    assert result["machine"]["torch"]
    assert result["rows"][names[1]]["positive"]["epochs"] == 1


def test_what_is_reduced_is_said(bench: Path, monkeypatch, capsys) -> None:
    result = run(bench, monkeypatch, "5", "--columns", "cifar100,cifar+50", "--seeds", "1")
    shown = " ".join(capsys.readouterr().out.split())
    assert "cifar100 2 of 5, cifar+50 1 of 1" in shown
    assert "at most 3 a class" in shown
    assert "epochs 1 (reduced)" in shown
    assert "Mini model and CoOp, where the paper has ViT-B/16 and CoCoOp" in shown
    assert all(note in shown for note in result["notes"])


def test_all_six_columns_fit_a_hundred_characters(capsys) -> None:
    columns = tuple(ablations.suite.columns())
    values = {name: {key: [99.96, 99.96, 88.0] for key in ablations.MEASURES} for name in (*columns, "mean")}
    result = {
        "what": "x",
        "study": {"columns": columns},
        "rows": dict.fromkeys(TABLE_4 + TABLE_5, values),
    }
    ablations.out.print(ablations.table_of(result))
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 100
    assert shown.count("96.0±6.9") == 12 * 2 * 7
    assert "…" not in shown


def test_a_second_run_learns_nothing(bench: Path, monkeypatch) -> None:
    options = ("4", "--columns", "imagenette", "--seeds", "1", "--quiet")
    first = run(bench, monkeypatch, *options)
    monkeypatch.setattr("benchmarks.mini.heads.learn", None)
    assert run(bench, monkeypatch, *options)["rows"] == first["rows"]


@pytest.mark.parametrize(
    ("options", "message"),
    [(("4", "--columns", "svhn"), "no column 'svhn'"), (("5", "--seeds", "0"), "1 or more")],
)
def test_what_cannot_be_meant_is_refused_before_any_work(bench, monkeypatch, options, message) -> None:
    monkeypatch.setattr(store, "prepare", None)
    with pytest.raises(UsageError, match=message):
        run(bench, monkeypatch, *options)
