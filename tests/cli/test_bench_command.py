"""``lsn bench``: the paper's tables from the command line, without data and without heavy libraries."""

import json
import subprocess
import sys

import pytest

from lsncli.reference.published import NUMBERS, TABLES


@pytest.mark.parametrize("number", NUMBERS)
def test_published_tables_need_nothing(lsn, number: int) -> None:
    done = lsn("bench", "--table", number, "--published")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"Table {number}: ")
    assert f"ICLR 2024, Table {number}." in " ".join(done.out.split())


NO_MODEL = "hf-hub:some/model"
"""A model that is missing and tells no architecture: nothing is measured."""


def test_without_data_the_published_numbers_stand_beside_the_reason(lsn) -> None:
    done = lsn("bench", "--table", 1)
    assert done.code == 1
    assert "32.58" in done.out
    assert "no --data DIR to make them from" in " ".join(done.out.split())
    assert max(map(len, done.out.splitlines())) <= 100
    assert "Nothing was measured. `lsn datasets --suite paper`" in " ".join(done.err.split())
    assert lsn("bench", "--table", 1, "--quiet").code == 1


def test_a_dry_run_shows_jobs_and_does_nothing(lsn, tmp_path) -> None:
    words = ("--dry-run", "--model", NO_MODEL, "--format", "json", "--work", "w")
    done = lsn("bench", "--table", 8, "--suite", "paper", *words)
    assert done.code == 0
    jobs = json.loads(done.out)
    assert {"extract", "learn", "score"} == {job["kind"] for job in jobs}
    assert all(job["blocked"] == job["jobs"] for job in jobs)
    assert not (tmp_path / "w").exists()


def test_a_row_or_table_that_a_suite_has_not_is_refused(lsn) -> None:
    done = lsn("bench", "--table", 1, "--rows", "Magic")
    assert done.code == 2
    assert "Magic" in done.err
    assert lsn("bench", "--table", "garden").code == 2


def test_without_a_table_it_lists_them(lsn) -> None:
    done = lsn("bench", "--format", "json")
    assert (done.code, done.err) == (0, "")
    assert [row["table"] for row in json.loads(done.out)] == list(TABLES)
    shown = lsn("bench").out
    assert max(len(line) for line in shown.splitlines()) <= 100
    assert "LSN with BLIP." in shown


@pytest.mark.parametrize("number", ["6", "12", "0"])
def test_a_table_that_is_not_there_is_refused_with_the_list(lsn, number: str) -> None:
    done = lsn("bench", "--table", number, "--published")
    assert (done.code, done.out) == (2, "")
    assert f"no table {number} " in done.err
    assert "1, 2, 3, 4, 5, 7, 8, 9, 10, 11, later" in done.err
    assert "Table 6 (class splits) is missing" in done.err


@pytest.mark.parametrize("text", ["one", "", "1.5", "-1", "²"])
def test_what_is_no_number_is_refused(lsn, text: str) -> None:
    done = lsn("bench", f"--table={text}", "--published")
    assert (done.code, done.out) == (2, "")
    assert f"expected a published table (1, 2, 3, 4, 5, 7, 8, 9, 10, 11, later), found '{text}'" in done.err


@pytest.mark.parametrize("form", ["table", "json", "md", "tex"])
def test_wide_is_for_rows_alone(lsn, form: str) -> None:
    done = lsn("bench", "--table", 1, "--published", "--wide", "--format", form)
    assert (done.code, done.out) == (2, "")
    assert f"expected a --format of rows (csv, tsv, jsonl, parquet), found {form}." in done.err


def test_wide_csv_has_a_line_a_row(lsn) -> None:
    lines = lsn("bench", "--table", 7, "--published", "--wide", "--format", "csv").out.splitlines()
    assert len(lines) == 4
    assert lines[1] == "7,MCM,,,18.02,96.98,47.99,92.67,53.63,91.12,45.19,92.02,41.21,93.19"


def test_output_goes_to_a_file(lsn, tmp_path) -> None:
    done = lsn("bench", "--table", 10, "--published", "--format", "tex", "--output", "deep/table.tex")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert (tmp_path / "deep" / "table.tex").read_text().endswith("\\end{table}\n")


def test_a_published_table_loads_no_heavy_library() -> None:
    script = (
        "import sys\nfrom lsncli.cli.app import main\n"
        "try:\n    main(['bench', '--table', '1', '--published'])\nexcept SystemExit: pass\n"
        "print([name for name in ('torch', 'numpy', 'pandas', 'h5py', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_figure_is_drawn_and_its_numbers_are_printed(lsn, tmp_path) -> None:
    pytest.importorskip("matplotlib", reason="figures need the extra 'plots'")
    done = lsn("bench", "--figure", 5, "--format", "json")
    assert done.code == 0
    assert json.loads(done.out)[-1]["image"] == "OOD"
    assert done.err.count("Checked: ") == 7
    assert {path.name for path in (tmp_path / "lsn-work" / "figures").iterdir()} == {
        "figure5.png",
        "figure5.svg",
        "figure5.csv",
    }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--figure", 6), "expected one of 2, 3, 4, 5, 7, 8, 9, 10, 11, 12"),
        (("--figure", 7, "--published"), "prints its figures without numbers"),
        (("--table", 1, "--shots", 4), "--shots is for --figure 7"),
        (("--figure", 7, "--table", "garden"), "no table garden"),
        (("--plots", "x"), "--plots is for --table or --figure"),
    ],
)
def test_figures_that_cannot_be_meant_are_refused(lsn, words, said) -> None:
    done = lsn("bench", *words)
    assert (done.code, done.out) == (2, "")
    assert said in " ".join(done.err.split())


def test_without_matplotlib_a_figure_says_how_to_get_it(lsn, monkeypatch) -> None:
    monkeypatch.setattr("lsncli.report.plots.find_spec", lambda name: None)
    for words in (("--figure", 5), ("--table", 1, "--plots", "x")):
        done = lsn("bench", *words)
        assert (done.code, done.out) == (5, "")
        assert "lsncli[plots]" in done.err
    assert lsn("bench", "--figure", 5, "--dry-run").code == 0


def test_a_dry_run_of_a_figure_shows_jobs_of_every_number_of_images(lsn, tmp_path) -> None:
    words = ("--shots", 16, "--dry-run", "--model", NO_MODEL, "--format", "json")
    done = lsn("bench", "--figure", 7, "--suite", "paper", *words)
    assert done.code == 0
    assert {row["shots"] for row in json.loads(done.out)} == {16}
    assert not (tmp_path / "lsn-work").exists()
