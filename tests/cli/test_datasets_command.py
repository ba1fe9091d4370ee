"""``lsn datasets`` as users type it: formats, exit codes, what is said about what is missing."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from cli_runner import exit_code

SUITE = """
title = "mine"
model = "mini"
[sets.birds]
title = "my birds"
images = 4
classes = 2
source = "my camera"
layout = "One folder a bird."
[sets.cars]
title = "my cars"
labelled = false
[id.birds]
train = "birds"
test = "birds"
[tables.one]
id = "birds"
ood = { Cars = "cars" }
[tables.one.rows.MCM]
method = "mcm"
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(SUITE, encoding="utf-8")
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name in ("robin", "wren"):
        (tmp_path / "data" / "birds" / name).mkdir(parents=True)
        for number in range(2):
            (tmp_path / "data" / "birds" / name / f"{number}.jpg").touch()
    return tmp_path / "data"


def run(capsys, *argv: object) -> tuple[int, str, str]:
    code = exit_code("datasets", *argv)
    captured = capsys.readouterr()
    return code, captured.out, " ".join(captured.err.split())


def test_every_set_is_listed_with_what_it_needs_and_how_to_get_what_is_missing(
    suite: Path, tmp_path: Path, capsys
) -> None:
    code, out, err = run(capsys, "--suite", suite, "--data", tmp_path / "nowhere")
    assert code == 0
    assert "my birds" in out
    assert "missing" in out
    assert "birds: my camera birds: One folder a bird." in err
    assert "2 of 2 sets are not in" in err
    assert "LSN_DATA" in err


def test_the_folder_comes_from_the_environment(suite: Path, data: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("LSN_DATA", str(data))
    code, out, _ = run(capsys, "--suite", suite, "--format", "json")
    rows = json.loads(out)
    assert code == 0
    assert [(row["set"], row["found"], row["tables"]) for row in rows] == [
        ("birds", "folder", "one"),
        ("cars", "missing", "one"),
    ]
    assert rows[0]["path"] == str(data / "birds")
    assert rows[0]["layout"] == "One folder a bird."


def test_verify_ends_with_0_if_all_that_is_there_is_right(suite: Path, data: Path, capsys) -> None:
    code, out, err = run(capsys, "verify", "--suite", suite, "--data", data, "--format", "csv")
    assert code == 0
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [(row["what"], row["expected"], row["found"]) for row in rows] == [
        ("images", "4", "4"),
        ("classes", "2", "2"),
    ]
    assert "not verified: cars" in err
    assert "All 1 sets are as expected" in err


def test_verify_ends_with_1_and_names_the_difference(suite: Path, data: Path, capsys) -> None:
    (data / "birds" / "wren" / "0.jpg").unlink()
    code, out, err = run(capsys, "verify", "--suite", suite, "--data", data, "--format", "jsonl")
    assert code == 1
    rows = [json.loads(line) for line in out.splitlines()]
    assert rows[0] == {"set": "birds", "what": "images", "expected": 4, "found": 3, "ok": False}
    assert "1 difference in 1 of 1 sets: birds" in err


@pytest.mark.parametrize("format", ["table", "csv", "json", "jsonl", "md", "tex"])
@pytest.mark.parametrize("action", ["list", "verify"])
def test_all_formats_work(suite: Path, data: Path, capsys, format: str, action: str) -> None:
    code, out, _ = run(capsys, action, "--suite", suite, "--data", data, "--format", format)
    assert code == 0
    assert "birds" in out


def test_people_get_ten_differences_and_programs_all(data: Path, suite: Path, tmp_path: Path, capsys) -> None:
    text = SUITE.replace("images = 4\nclasses = 2", 'class_list = "cifar100"')
    suite.write_text(text, encoding="utf-8")
    _, out, _ = run(capsys, "verify", "--suite", suite, "--data", data)
    assert "92 more" in out  # 100 missing, 2 extra
    _, out, _ = run(capsys, "verify", "--suite", suite, "--data", data, "--format", "jsonl")
    assert len(out.splitlines()) == 104


def test_nothing_there_is_an_error_with_a_way_on(suite: Path, tmp_path: Path, capsys) -> None:
    code, _, err = run(capsys, "verify", "--suite", suite, "--data", tmp_path / "nowhere")
    assert code == 1
    assert "None of the 2 sets is in" in err
    assert "--data" in err


def test_only_the_sets_asked_for(suite: Path, data: Path, capsys) -> None:
    _, out, _ = run(capsys, "--suite", suite, "--data", data, "--set", "cars", "--format", "json")
    assert [row["set"] for row in json.loads(out)] == ["cars"]
    code, _, err = run(capsys, "--suite", suite, "--set", "boats")
    assert code == 2
    assert "no set 'boats'" in err
    assert "birds, cars" in err


def test_an_unknown_suite_is_refused(capsys) -> None:
    code, _, err = run(capsys, "--suite", "large")
    assert code == 2
    assert "no suite 'large'" in err
    assert "paper, mini" in err


def test_listing_loads_no_heavy_library() -> None:
    code = (
        "import sys; from lsncli.cli.app import app; app(['datasets', '--quiet'], standalone_mode=False); "
        "sys.exit(' '.join({'torch', 'pandas', 'sklearn', 'h5py'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "imagenet-train" in done.stdout


def test_features_that_came_with_a_suite_are_listed_as_such(capsys, tmp_path) -> None:
    code, out, err = run(capsys, "list", "--suite", "mini", "--data", tmp_path, "--format", "json")
    found = {row["set"]: row["found"] for row in json.loads(out)}
    assert code == 0
    assert (found["imagenette-val"], found["cifar10-test"]) == ("features", "missing")
    assert "cifar10-test" in err
    assert "imagenette-val:" not in err
