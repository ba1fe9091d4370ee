"""Each command on a workspace without a model: what is on stdout, what is on stderr, what is on the disk."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from cli_samples import imported_workspace

from lsncli.artefacts.detector import load_detector
from lsncli.scores import SCORES
from lsncli.store.reader import read_fingerprint, read_split, read_text
from lsncli.store.writer import write_split, write_text


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return imported_workspace(tmp_path / "lsn-work")


def rows(done) -> list[dict]:
    assert done.code == 0, done.err
    return json.loads(done.out)


def test_calibrate_writes_a_detector_and_says_what_gamma_promises(lsn, work) -> None:
    done = lsn("calibrate", "--method", "mcm,tau=0.5", "--format", "json")
    (row,) = rows(done)
    detector = load_detector(work / "detector.safetensors")
    assert row == {
        "method": "MCM,tau=0.5",
        "head": "hand",
        "gamma": detector.threshold.gamma,
        "target_tpr": 0.95,
        "held_out": 40,
        "tpr_low": detector.threshold.tpr_low,
        "tpr_high": detector.threshold.tpr_high,
    }
    assert detector.settings == {"tau": 0.5}
    assert f"gamma = {detector.threshold.gamma:.6f}" in done.err
    assert "40 held-out ID images" in done.err
    assert "Warning: 40 held-out images are few" in done.err
    assert "cannot resolve" not in done.err


def test_calibrate_warns_where_the_images_are_too_few(lsn, work) -> None:
    done = lsn("calibrate", "--method", "mcm", "--split", "test")
    assert "Warning: 8 held-out images cannot resolve a TPR of 95%" in done.err
    assert lsn("calibrate", "--method", "mcm", "--split", "test", "-q").err == ""


def test_eval_gives_every_method_on_every_split(lsn, work) -> None:
    done = lsn("eval", "--format", "json", "--method", "mcm", "--method", "knn,k=5", "--method", "lsn")
    *found, failed = rows(done)
    assert {(row["method"], row["ood"]) for row in found} == {("MCM", "far"), ("knn,k=5", "far")}
    assert found[0]["auroc"] >= found[1]["auroc"]
    assert (failed["method"], failed["ood"], failed["auroc"]) == ("lsn", "not evaluated", None)
    assert "no negative-prompts artefact" in failed["error"]
    for row in found:
        assert 0 <= row["fpr95"] <= 1
        assert 0.5 < row["auroc"] <= 1
        assert 0.5 < row["id_accuracy"] <= 1
        assert (row["n_id"], row["n_ood"]) == (40, 30)
    assert "lsn: not evaluated. There is no negative-prompts artefact" in done.err


def test_eval_shows_people_percent_and_programs_fractions(lsn, work) -> None:
    table = lsn("eval", "--method", "mcm").out
    (row,) = rows(lsn("eval", "--method", "mcm", "--format", "json"))
    assert "ID: test (40 images)" in table
    assert "values in percent" in table
    assert f"{100 * row['auroc']:.2f}" in table
    assert max(map(len, table.splitlines())) <= 100
    lines = list(csv.DictReader(io.StringIO(lsn("eval", "--method", "mcm", "--format", "csv").out)))
    assert float(lines[0]["auroc"]) == row["auroc"]


def test_eval_says_under_the_table_where_its_metrics_are_not_openoods(lsn, work) -> None:
    def notes(*options: str) -> str:
        return " ".join(lsn("eval", "--method", "mcm", *options).err.split())

    for shown in (("--wide",), ("--wide", "--format", "md")):
        assert "AUPR: average precision (OpenOOD's is the trapezoid rule)" in notes(*shown)
        assert "over all thresholds (OpenOOD drops some" in notes(*shown)
    for without in ((), ("--wide", "--format", "csv"), ("--wide", "--quiet")):
        assert "OpenOOD" not in notes(*without)


def test_eval_tells_costs_intervals_and_averages_on_request(lsn, work) -> None:
    both = ("--method", "mcm", "--method", "energy")
    for options, titles in (
        ((), ("Method", "OOD set", "FPR95↓", "AUROC↑")),
        (("--wide",), ("Head", "OOD+↓", "AUPR-in", "AUPR-out", "ID acc")),
        (("--costs",), ("Seconds", "MiB")),
        (("--intervals", "delong"), ("AUROC 95 %",)),
        (("--intervals", "bootstrap", "--costs"), ("FPR95 95 %", "AUROC 95 %", "Seconds")),
    ):
        table = lsn("eval", *both, *options).out
        assert all(title in table for title in titles)
        assert max(map(len, table.splitlines())) <= 100
        assert ("Head" in table) == ("--wide" in options)
    (first, _) = rows(lsn("eval", *both, "--intervals", "bootstrap", "--costs", "--format", "json"))
    assert first["fpr95_low"] <= first["fpr95"] <= first["fpr95_high"]
    assert first["auroc_low"] <= first["auroc"] <= first["auroc_high"]
    assert first["seconds"] >= 0
    assert lsn("eval", *both, "--ood", "far", "--average").out.count("far") == 2


def test_eval_shows_the_head_where_methods_differ_in_it_alone(lsn, work) -> None:
    both = ("--method", "energy:hand", "--method", "energy:means")
    assert " hand " in lsn("eval", *both).out
    assert " hand " not in lsn("eval", *both[:2]).out


def test_eval_keeps_scores_and_writes_them_on_request(lsn, work) -> None:
    first = lsn("eval", "--method", "mcm", "--format", "csv", "--save-scores", "out/scores.csv")
    assert (work / "cache").is_dir()
    lines = list(csv.DictReader(io.StringIO(Path("out/scores.csv").read_text())))
    assert len(lines) == 40 + 30
    assert {line["split"] for line in lines} == {"test", "far"}
    again = lsn("eval", "--method", "mcm", "--format", "csv")
    assert again.out == first.out
    assert lsn("eval", "--method", "mcm", "--save-scores", "scores.txt").code == 2
    assert lsn("eval", "--method", "odin,eps=0.1", "--images", "far").code == 2


def test_eval_of_all_takes_every_score_of_the_store(lsn, work) -> None:
    done = lsn("eval", "--method", "all", "--average", "--format", "json", "--no-cache")
    assert not (work / "cache").exists()
    names = {row["method"].split(",")[0] for row in rows(done)}
    assert {"MCM", "energy", "ash", "vim", "mahalanobis", "vos", "rpl"} <= names


def test_eval_needs_no_training_split_for_scores_that_learn_nothing(lsn, work) -> None:
    usual = rows(lsn("eval", "--method", "mcm", "--ood", "far", "--format", "json"))
    store, new = work / "features.h5", work.parent / "no-train" / "features.h5"
    new.parent.mkdir()
    for name in ("test", "far"):
        write_split(new, read_split(store, name), read_fingerprint(store))
    write_text(new, *read_text(store))
    there = ("--work", new.parent)
    assert rows(lsn("eval", "--method", "mcm", "--format", "json", *there)) == usual
    assert "knn" not in {row["method"] for row in rows(lsn("eval", "--format", "json", *there))}
    done = lsn("eval", "--method", "knn", *there)
    assert done.code == 1
    assert "--train" in done.err
    assert "lsn store import" in done.err


def test_eval_does_not_test_on_rows_that_a_score_learns_from(lsn, work) -> None:
    done = lsn("eval", "--method", "knn", "--train", "test", "--ood", "far")
    assert (done.code, done.out) == (2, "")
    assert "--train test: knn would be tested on the rows that it learns from" in done.err


def test_eval_with_nothing_to_show_fails(lsn, work) -> None:
    done = lsn("eval", "--method", "lsn")
    assert done.code == 1
    assert "not evaluated" in done.err


def test_methods_lists_every_score_with_needs_and_settings(lsn) -> None:
    found = {row["name"]: row for row in rows(lsn("methods", "--format", "json"))}
    assert found.keys() == SCORES.keys()
    assert found["knn"]["needs"] == "training rows"
    assert found["knn"]["settings"] == "k=50"
    assert found["lsn"]["needs"] == "negative prompts"
    assert all(row["summary"].strip() for row in found.values())
    assert max(map(len, lsn("methods").out.splitlines())) <= 100


def test_store_info_describes_the_splits(lsn, work) -> None:
    done = lsn("store", "info", "--format", "json")
    found = {row["split"]: row for row in rows(done)}
    assert {name: row["rows"] for name, row in found.items()} == {"train": 200, "test": 40, "far": 30}
    assert {row["dim"] for row in found.values()} == {8}
    assert found["far"]["classes"] == 0
    assert "features of imported:theirs" in done.err


def test_store_verify_names_what_is_damaged(lsn, work) -> None:
    path = work / "features.h5"
    data = bytearray(path.read_bytes())

    row = read_split(path, "test").features[3].tobytes()
    at = bytes(data).index(row)
    data[at] ^= 1
    path.write_bytes(bytes(data))
    done = lsn("store", "verify")
    assert done.code == 1
    assert "test" in done.err
    assert "is not sound: 1 problem" in done.err


def test_features_go_out_and_come_back(lsn, work) -> None:
    assert lsn("store", "export", "train.npz").code == 0
    done = lsn("store", "import", "train.npz", "--model", "theirs", "--work", "copy")
    assert done.code == 0, done.err
    assert "split 'train' has 200 rows of 2 classes" in done.err
    both = [lsn("calibrate", "--method", "mcm", "--format", "csv", "--work", w).out for w in (work, "copy")]
    assert both[0] == both[1]
    done = lsn("store", "import", "train.npz", "--model", "theirs", "--work", "copy")
    assert done.code == 1
    assert "--overwrite" in done.err
    assert lsn("store", "import", "train.npz", "--model", "theirs", "--work", "copy", "--overwrite").code == 0
    assert (
        lsn("store", "import", "train.npz", "--model", "others", "--work", "copy", "--split", "x").code == 4
    )


def test_features_of_other_tools_come_in_with_labels_classes_and_text(lsn, tmp_path) -> None:
    random = np.random.default_rng(0)
    np.save("x.npy", random.normal(size=(20, 6)).astype(np.float32))
    np.save("t.npy", random.normal(size=(2, 6)).astype(np.float32))
    Path("y.txt").write_text("\n".join(["hen", "owl"] * 10))
    Path("c.txt").write_text("hen\nowl\n")
    words = [
        "store",
        "import",
        "x.npy",
        "--model",
        "m",
        "--labels",
        "y.txt",
        "--classes",
        "c.txt",
        "--text",
        "t.npy",
    ]
    done = lsn(*words)
    assert done.code == 0, done.err
    assert "20 rows of 2 classes" in done.err
    assert lsn("calibrate", "--method", "mcm").code == 0


@pytest.mark.parametrize(
    "words",
    [
        ["calibrate", "--method", "mcm"],
        ["eval", "--method", "mcm"],
        ["methods"],
        ["store", "info"],
        ["store", "verify"],
        ["store", "export", "out.csv"],
    ],
)
def test_quiet_leaves_stderr_empty(lsn, work, words) -> None:
    done = lsn(*words, "--quiet")
    assert (done.code, done.err) == (0, "")


def test_output_goes_to_the_file_and_not_to_stdout(lsn, work) -> None:
    done = lsn("eval", "--method", "mcm", "--format", "jsonl", "--output", "results/eval.jsonl")
    assert (done.code, done.out) == (0, "")
    assert json.loads(Path("results/eval.jsonl").read_text())["method"] == "MCM"
    done = lsn("eval", "--method", "mcm", "--output", "results")
    assert done.code == 1
    assert "--output results cannot be written" in done.err
