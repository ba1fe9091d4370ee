"""``lsn not``: on a stored split, on images, in every format, and drawn."""

import csv
import io
import json

import pytest
from cli_runner import exit_code
from photo_samples import photos


@pytest.fixture(scope="module")
def work(tmp_path_factory, tiny_model):
    """Splits train and test of the same three classes, and foreign images in no class folder."""
    folder = tmp_path_factory.mktemp("not")
    photos(folder / "photos", 4)
    flat = folder / "flat"
    flat.mkdir()
    for number, path in enumerate(sorted((folder / "photos").rglob("*.png"))[:5]):
        (flat / f"{number}.png").write_bytes(path.read_bytes())
    options = ["--work", str(folder / "work"), "--device", "cpu", "--workers", "1", "--quiet"]
    for split, source in (("train", "photos"), ("test", "photos"), ("far", "flat")):
        words = ["extract", str(folder / source), "--split", split, "--model", tiny_model, *options]
        assert exit_code(*words) == 0
    return folder


def test_the_table_shows_top_classes_and_stderr_the_totals(lsn, work) -> None:
    done = lsn("not", "--work", work / "work", "--device", "cpu", "--top", 2)
    assert done.code == 0, done.err
    assert "Split test: 12 images, 3 classes" in done.out
    assert sum(name in done.out for name in ("left", "middle", "right")) == 2
    assert "of 36 choices" in done.err
    assert "2 of 3 classes are shown" in done.err


def test_programs_get_all_classes_and_counts_that_add_up(lsn, work) -> None:
    done = lsn("not", "--work", work / "work", "--device", "cpu", "--top", 1, "--format", "json", "--quiet")
    rows = json.loads(done.out)
    assert {row["class"] for row in rows} == {"left", "middle", "right"}
    for row in rows:
        assert row["yes"] + row["no"] == 12
        assert row["own_yes"] + row["own_no"] == 4
        assert row["other_yes"] + row["other_no"] == 8
        assert row["no_share"] == row["no"] / 12
    assert [row["no"] for row in rows] == sorted((row["no"] for row in rows), reverse=True)
    assert done.err == ""


def test_images_get_the_answer_of_their_stored_features(lsn, work) -> None:
    options = ("--work", work / "work", "--device", "cpu", "--workers", 1, "--format", "json", "--quiet")
    stored = lsn("not", *options)
    fresh = lsn("not", work / "photos", *options)
    assert fresh.code == 0, fresh.err
    assert json.loads(fresh.out) == json.loads(stored.out)


def test_images_need_no_workspace_if_a_model_is_named(lsn, work, tiny_model) -> None:
    (work / "names.txt").write_text("cat\nleft\n")
    words = ("not", work / "photos", "--model", tiny_model, "--device", "cpu", "--format", "json", "--quiet")
    own = json.loads(lsn(*words, "--work", "nowhere").out)
    assert {row["class"] for row in own} == {"left", "middle", "right"}
    given = json.loads(lsn(*words, "--work", "nowhere", "--classes", work / "names.txt").out)
    assert {row["class"]: row["own_yes"] + row["own_no"] for row in given} == {"cat": 0, "left": 4}
    assert {row["class"]: row["other_yes"] + row["other_no"] for row in given} == {"cat": 12, "left": 8}


def test_unlabelled_images_have_no_own_class_and_no_such_columns(lsn, work) -> None:
    words = ("not", "--split", "far", "--work", work / "work", "--device", "cpu")
    done = lsn(*words)
    assert "of own" not in done.out
    assert "of other" not in done.out
    assert "understanding" not in done.err
    rows = json.loads(lsn(*words, "--format", "json").out)
    assert all(row["fooled"] is None and row["no_share_own"] is None for row in rows)


def test_each_image_and_class_is_a_row(lsn, work) -> None:
    done = lsn("not", "--each", "--work", work / "work", "--device", "cpu", "--format", "csv", "--quiet")
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert len(rows) == 36
    assert {row["choice"] for row in rows} <= {"yes", "no"}
    assert sum(row["own"] == "True" for row in rows) == 12


def test_unreadable_images_are_told(lsn, work, tmp_path) -> None:
    photos(tmp_path / "mixed", 3, broken=1)
    words = ("not", "mixed", "--work", work / "work", "--device", "cpu", "--workers", 1)
    done = lsn(*words)
    assert done.code == 3
    assert "6 images, 3 classes" in done.out
    assert "3 images could not be used, such as left/1.png" in done.err
    assert "3 of 9 images failed" in done.err
    for more in ([], ["--each"]):
        assert lsn(*words, "--max-failure-rate", 0.4, *more).code == 0
    assert lsn(*words, "--each").code == 3


def test_the_counts_are_drawn(lsn, work, tmp_path) -> None:
    pytest.importorskip("matplotlib", reason="figures need the extra 'plots'")
    words = ("not", "--work", work / "work", "--device", "cpu")
    done = lsn(*words, "--plot", "figures/not.png")
    assert done.code == 0, done.err
    assert (tmp_path / "figures" / "not.png").read_bytes().startswith(b"\x89PNG")
    with (tmp_path / "figures" / "not.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["yes"]) + int(row["no"]) for row in rows] == [12, 12, 12]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--plot", "x.pdf"], 2, "expected a file named *.png or *.svg"),
        (["--plot", "x.png", "--each"], 2, "--each and --plot"),
        (["--model", "mini"], 2, "--model is for SOURCE"),
        (["--no", "no class"], 2, "--no: expected {}"),
        (["--split", "absent"], 1, "no split 'absent'"),
        (["--classes", "absent.txt"], 2, "absent.txt cannot be read"),
        (["absent"], 2, "There is no 'absent'"),
    ],
)
def test_what_cannot_be_meant_is_refused(lsn, work, words, code, message) -> None:
    done = lsn("not", *words, "--work", work / "work", "--device", "cpu")
    assert (done.code, done.out) == (code, "")
    assert message in done.err


def test_without_matplotlib_nothing_is_computed_and_the_extra_is_named(lsn, monkeypatch) -> None:
    monkeypatch.setattr("lsncli.report.plots.find_spec", lambda name: None)
    done = lsn("not", "--plot", "x.png", "--work", "absent")
    assert done.code == 5
    assert "pip install 'lsncli[plots]'" in done.err
