"""``lsn score``: which rows, in which order, in which form, and what becomes of the files."""

import csv
import io
import json
import os
import shlex
import shutil
import tarfile
from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cli_runner import exit_code
from PIL import Image
from sklearn.datasets import load_sample_image

from lsncli.artefacts.detector import load_detector, save_detector
from lsncli.cli.score import SHOWN
from lsncli.store.format import Split
from lsncli.store.reader import read_fingerprint
from lsncli.store.writer import write_split

FIELDS = ["path", "predicted", "score", "p_value", "positive", "negative", "threshold", "is_ood", "error"]


def crops(photo: str, folder: Path, count: int, shift: int = 0) -> None:
    pixels = load_sample_image(photo)
    folder.mkdir(parents=True)
    for i in range(count):
        left, top = 30 * i + shift, 20 * i
        Image.fromarray(pixels[top : top + 120, left : left + 120]).save(folder / f"{i}.jpg")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A workspace of two classes, and ``images/`` of which about half are ID: gamma is set between them."""
    place = tmp_path_factory.mktemp("score-command")
    crops("flower.jpg", place / "photos" / "flower", 8)
    crops("china.jpg", place / "photos" / "temple", 8)
    crops("flower.jpg", place / "images" / "b", 3, 7)
    crops("china.jpg", place / "images" / "a", 3, 7)
    (place / "images" / "a" / "broken.jpg").write_text("no image")
    run(place, "extract", "photos", "--model", "mini", "--device", "cpu")
    run(place, "calibrate", "--method", "mcm")
    run(place, "score", "images", "--format", "jsonl", "--max-failure-rate", "1")
    found = [json.loads(line) for line in (place / "out").read_text().splitlines()]
    scores = sorted(row["score"] for row in found if row["score"] is not None)
    detector = load_detector(place / "lsn-work" / "detector.safetensors")
    halved = replace(detector, threshold=replace(detector.threshold, gamma=(scores[2] + scores[3]) / 2))
    save_detector(place / "lsn-work" / "detector.safetensors", halved)
    return place


def run(place: Path, *words: str) -> None:
    with chdir(place):
        assert exit_code(*words, "--output", "out", "--quiet") == 0


@pytest.fixture
def score(lsn, made, tmp_path):
    """``lsn score`` in a copy of the images, which it may move."""
    for path in sorted((made / "images").rglob("*.jpg")):
        target = tmp_path / path.relative_to(made)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())

    def call(*words: object, allow: str = "1"):
        usual = ("--work", made / "lsn-work", "--device", "cpu", "--max-failure-rate", allow)
        return lsn("score", *words, *usual)

    return call


def rows(done) -> list[dict]:
    return [json.loads(line) for line in done.out.splitlines()]


def tree(folder: str) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in Path(folder).rglob("*") if p.suffix == ".jpg")


def test_the_columns_are_those_of_the_readme(score) -> None:
    done = score("images", "--format", "jsonl")
    assert [list(row) for row in rows(done)] == [FIELDS] * 7
    assert score("images", "--format", "csv").out.splitlines()[0] == ",".join(FIELDS)
    page = (Path(__file__).parents[2] / "docs/scoring.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in page.split("| column |")[1].split("\n\n")[0] for name in FIELDS)


def test_rows_come_in_the_order_of_the_input(score) -> None:
    named = [f"images/b/{i}.jpg" for i in (2, 0)] + ["images/a/1.jpg"]
    assert [row["path"] for row in rows(score(*named, "--format", "jsonl"))] == named


def test_only_shows_what_was_asked_for_and_counts_all(score) -> None:
    found = {
        kind: rows(score("images", "--only", kind, "--format", "jsonl")) for kind in ("ood", "id", "failed")
    }
    assert [len(found[kind]) for kind in ("ood", "id", "failed")] == [3, 3, 1]
    assert all(row["is_ood"] for row in found["ood"])
    assert not any(row["is_ood"] for row in found["id"])
    assert found["failed"][0]["path"] == "images/a/broken.jpg"
    both = score("images", "--only", "ood", "--only", "failed", "--format", "jsonl")
    assert len(rows(both)) == 4
    assert "7 images: 3 ID, 3 OOD, 1 unreadable" in both.err
    wrong = score("images", "--only", "cats")
    assert wrong.code == 2
    assert "--only: expected ood, id or failed, found 'cats'" in wrong.err


def test_sort_and_top(score) -> None:
    found = rows(score("images", "--sort", "score", "--format", "jsonl"))
    scores = [row["score"] for row in found[:-1]]
    assert scores == sorted(scores)
    assert found[-1]["error"]
    assert rows(score("images", "--top", "2", "--format", "jsonl")) == found[:2]
    done = score("images/b", "images/a", "--sort", "path", "--top", "3", "--format", "jsonl")
    assert [row["path"] for row in rows(done)] == ["images/a/0.jpg", "images/a/1.jpg", "images/a/2.jpg"]
    assert "7 images:" in done.err  # all were scored
    assert score("images", "--top", "0").code == 2


def test_a_table_has_room_for_reasons_only_where_there_are_some(score) -> None:
    assert "Unreadable because" in score("images").out
    assert "Unreadable because" not in score("images", "--only", "id").out
    assert max(map(len, score("images").out.splitlines())) <= 100


@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_an_output_that_cannot_be_written_is_refused_before_the_work(score, monkeypatch, form: str) -> None:
    monkeypatch.setattr("lsncli.detection.detect.encode_stream", None)
    done = score("images", "--format", form, "--output", "images/a/0.jpg/rows")
    assert (done.code, done.out) == (1, "")
    assert "--output images/a/0.jpg/rows cannot be written: " in done.err


@pytest.fixture
def many(made, tmp_path) -> Path:
    """A workspace whose split ``many`` has 50 rows."""
    work = tmp_path / "many-work"
    shutil.copytree(made / "lsn-work", work)
    of_model = read_fingerprint(work / "features.h5")
    rows = np.random.default_rng(0).normal(size=(50, of_model.dim)).astype(np.float16)
    keys = tuple(f"{number:02}.jpg" for number in range(50))
    write_split(work / "features.h5", Split("many", rows, np.full(50, -1, np.int32), keys, ()), of_model)
    return work


def test_a_table_has_the_lowest_scores_and_says_so(lsn, many) -> None:
    def call(*words: str):
        return lsn("score", "--split", "many", "--work", many, "--device", "cpu", *words)

    every = sorted(rows(call("--format", "jsonl")), key=lambda row: row["score"])
    names = [row["path"] for row in every]
    assert len(names) == 50
    done = call()
    assert [line.split()[0] for line in done.out.splitlines()[2:]] == names[:SHOWN]
    assert f"Shown: the {SHOWN} lowest scores of 50. --all shows every row." in done.err
    assert "50 images: " in done.err
    by_path = call("--sort", "path")
    assert [line.split()[0] for line in by_path.out.splitlines()[2:]] == sorted(names[:SHOWN])
    for words, shown in ((("--all",), sorted(names)), (("--top", "30"), names[:30])):
        whole = call(*words)
        assert [line.split()[0] for line in whole.out.splitlines()[2:]] == shown
        assert "Shown: " not in whole.err
    for form in ("csv", "md", "tex"):
        whole = call("--format", form)
        assert all(name in whole.out for name in names)
        assert "Shown: " not in whole.err
    assert call("--all", "--top", "3").code == 2


def test_all_images_are_filed_whatever_the_table_shows(score, monkeypatch) -> None:
    monkeypatch.setattr("lsncli.cli.score.SHOWN", 2)
    done = score("images", "--copy", "out", "--yes")
    assert "Shown: the 2 lowest scores of 7" in done.err
    assert len(done.out.splitlines()) == 4
    assert len(tree("out")) == 6


def test_people_see_percentiles_and_programs_p_values(score) -> None:
    found = {row["path"]: row for row in rows(score("images", "--format", "jsonl"))}
    done = score("images")
    assert "Percentile: place of the score among those of 4 held-out ID images" in done.err
    assert "Threshold" not in done.out
    assert "Threshold" in score("images", "--wide").out
    lines = {line.split()[0]: line.split() for line in done.out.splitlines()[2:]}
    for path, row in found.items():
        if row["error"] is None:
            assert row["p_value"] in {rank / 5 for rank in range(1, 6)}
            assert lines[path][-2:] == [f"{100 * row['p_value']:.1f}", "OOD" if row["is_ood"] else "ID"]
    without = score("images", "--classes", "cat,dog", "--model", "mini")
    assert "Percentile" not in without.out + without.err


def test_fail_on_ood_is_exit_code_6_and_unreadable_images_come_first(score) -> None:
    assert score("images", "--fail-on-ood").code == 6
    assert "3 of 7 images are OOD (--fail-on-ood)" in score("images", "--fail-on-ood", "--only", "id").err
    fine = [row["path"] for row in rows(score("images", "--only", "id", "--format", "jsonl"))]
    assert score(*fine, "--fail-on-ood").code == 0
    assert score("images", "--fail-on-ood", allow="0.1").code == 3


def test_a_dry_run_says_where_all_would_go_and_touches_nothing(score, tmp_path) -> None:
    before = tree(".")
    done = score("images", "--move", "out", "--format", "jsonl")
    assert tree(".") == before
    assert not Path("out").exists()
    targets = {row["path"]: row["target"] for row in rows(done)}
    assert targets.pop("images/a/broken.jpg") is None
    assert all(target.startswith("out/") for target in targets.values())
    assert "Dry run, would move 6 images" in done.err
    assert "--yes" in done.err


@pytest.mark.parametrize("action", ["--move", "--copy", "--link"])
def test_images_go_where_the_rows_say_and_come_back(score, lsn, action) -> None:
    before = tree(".")
    done = score("images", action, "out", "--yes", "--format", "jsonl")
    assert done.code == 0
    found = rows(done)
    assert tree("out") == sorted(row["target"].removeprefix("out/") for row in found if row["target"])
    for row in found:
        if row["target"]:
            assert row["target"].split("/")[1] == ("ood" if row["is_ood"] else row["predicted"])
            assert Path(row["path"]).exists() == (action != "--move")
    (undo,) = Path("out").glob("lsn-undo-*.jsonl")
    assert f"lsn undo {shlex.quote(str(undo.absolute()))}" in done.err
    back = lsn("undo", undo)
    assert back.code == 0
    assert "Undone: 6. Left as they are: 0." in back.err
    assert tree(".") == before
    assert not Path("out").exists()


def test_only_what_is_shown_is_moved(score) -> None:
    score("images", "--only", "ood", "--top", "2", "--move", "out", "--yes")
    assert len(tree("out")) == 2
    assert all(path.startswith("ood/") for path in tree("out"))


def test_too_many_failures_move_nothing(score) -> None:
    done = score("images", "--move", "out", "--yes", allow="0.1")
    assert done.code == 3
    assert "None was touched" in done.err
    assert not Path("out").exists()


def test_what_could_not_be_filed_is_named_and_exit_code_1(score) -> None:
    Path("out").mkdir()
    Path("out/ood").write_text("a file")
    done = score("images", "--copy", "out", "--yes", "--quiet")
    assert done.code == 1
    assert "3 of 6 images could not be filed (copy); all others were." in done.err
    assert "is not a folder" in done.err
    assert len(tree("out")) == 3
    assert "Before you try again: lsn undo " in done.err  # or those three would be copied twice
    done = score("images", "--move", "out", "--yes")
    assert f"Moved 3 images into {Path('out').resolve()}.\n" in done.err
    assert "The same command tries again." in done.err


def test_a_folder_whose_name_is_too_long_is_no_bug_of_ours(score) -> None:
    done = score("images", "--move", "x" * 300, "--yes")
    assert done.code == 1
    assert "Images cannot be sorted into " in done.err


def test_undo_shows_what_it_left(score, lsn) -> None:
    score("images", "--move", "out", "--yes", "--only", "ood")
    undo = next(Path("out").glob("lsn-undo-*.jsonl"))
    gone = json.loads(undo.read_text().splitlines()[-1])["source"]
    Path(gone).write_text("new")
    done = lsn("undo", undo, "--format", "csv")
    assert done.code == 1
    (left,) = csv.DictReader(io.StringIO(done.out))
    assert (left["action"], left["source"]) == ("moved", gone)
    assert "not overwritten" in left["error"]


def test_several_undo_files_are_taken_back_from_the_last_on(score, lsn) -> None:
    before = {path: path.read_bytes() for path in Path("images").rglob("*") if path.is_file()}
    score("images", "--move", "first", "--yes", "--only", "ood")
    score("first", "--move", "second", "--yes")
    files = [next(Path(one).glob("lsn-undo-*.jsonl")) for one in ("first", "second")]
    done = lsn("undo", *files)
    assert (done.code, done.out) == (0, "")
    assert {path: path.read_bytes() for path in Path("images").rglob("*") if path.is_file()} == before
    assert not Path("first").exists()
    assert not Path("second").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "lsn score wants images, or --split NAME"),
        (("images", "--split", "train"), "one of the two"),
        (("images", "--move", "a", "--copy", "b"), "--move and --copy exclude one another"),
        (("images", "--yes"), "--yes says yes to --move, --copy or --link"),
        (("--split", "train", "--move", "a"), "--move needs image files"),
        (("images", "--copy", "images/a/0.jpg"), "is not a folder"),
        (("images", "--format", "parquet"), "Name a file with --output"),
        (("images", "--format", "parquet", "--output", os.devnull), "Name a file with --output"),
        (("images", "--classes", "none.txt"), "The names file none.txt cannot be read"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_the_work(score, words, message) -> None:
    done = score(*words)
    assert done.code == 2
    assert message in " ".join(done.err.split())


def test_a_split_is_scored_without_images(score, lsn, made) -> None:
    done = score("--split", "train", "--format", "jsonl")
    assert done.code == 0
    stored = {row["path"]: row["score"] for row in rows(done)}
    assert len(stored) == 16
    fresh = rows(score(made / "photos" / "flower", "--format", "jsonl"))
    for row in fresh:
        assert stored["flower/" + Path(row["path"]).name] == pytest.approx(row["score"], abs=1e-5)
    assert "no split 'tests'" in score("--split", "tests").err


def test_a_split_of_another_model_is_exit_code_4(lsn, score, made, tmp_path) -> None:
    from cli_samples import imported_workspace

    theirs = imported_workspace(tmp_path / "theirs")
    (theirs / "detector.safetensors").write_bytes((made / "lsn-work" / "detector.safetensors").read_bytes())
    done = lsn("score", "--split", "test", "--work", theirs)
    assert done.code == 4
    assert "of another model" in done.err


@pytest.mark.parametrize("listed", [False, True])
def test_class_names_are_enough_and_said_to_be_uncalibrated(lsn, score, tmp_path, listed: bool) -> None:
    names = "a flower,a temple"
    if listed:
        Path("names.txt").write_text("# two classes\na flower\n\na temple\n")
        names = "names.txt"
    words = ("images", "--classes", names, "--model", "mini", "--work", "nowhere", "--device", "cpu")
    done = lsn("score", *words, "--format", "jsonl", "--max-failure-rate", "1")
    assert done.code == 0
    assert {row["predicted"] for row in rows(done)} == {"a flower", "a temple", None}
    assert "uncalibrated" in done.err
    assert "Warning: No image has set gamma" in done.err
    assert not Path("nowhere").exists()


@pytest.mark.parametrize("command", ["score", "report"])
def test_a_model_without_class_names_would_be_ignored(lsn, made, command: str) -> None:
    done = lsn(command, made / "images", "--work", made / "lsn-work", "--model", "mini")
    assert done.code == 2
    assert "--model goes with --classes: a detector has its model." in done.err


def test_parquet_holds_the_rows_of_jsonl(score) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra 'parquet' is not installed")
    done = score("images", "--format", "parquet", "--output", "rows.parquet")
    assert (done.code, done.out) == (0, "")
    assert parquet.read_table("rows.parquet").to_pylist() == rows(score("images", "--format", "jsonl"))


def test_a_summary_by_class_comes_with_many_images(score) -> None:
    done = score(*["images/a/0.jpg"] * 12, *["images/b/0.jpg"] * 12, "--format", "jsonl")
    assert "Predicted" in done.err
    lines = [line.split() for line in done.err.splitlines()]
    assert (
        sum(int(cells[1]) + int(cells[2]) for cells in lines if cells[:1] in (["flower"], ["temple"])) == 24
    )
    assert "Predicted" not in score("images", "--format", "jsonl").err


def test_names_that_spreadsheets_would_compute_are_inert_in_csv_alone(score) -> None:
    Path("=cmd()+1.jpg").write_bytes(Path("images/a/0.jpg").read_bytes())
    text = score("=cmd()+1.jpg", "--format", "csv").out
    assert next(csv.DictReader(io.StringIO(text)))["path"] == "'=cmd()+1.jpg"
    assert rows(score("=cmd()+1.jpg", "--format", "jsonl"))[0]["path"] == "=cmd()+1.jpg"


def test_members_of_a_tar_are_copied_out(score) -> None:
    with tarfile.open("all.tar", "w") as tar:
        tar.add("images/a/0.jpg", "a/0.jpg")
        tar.add("images/b/0.jpg", "b/0.jpg")
    assert score("all.tar", "--move", "out", "--yes").code == 0
    assert len(tree("out")) == 2
    assert Path("all.tar").exists()
