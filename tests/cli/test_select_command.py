"""``lsn select`` and ``lsn calibrate --method auto``: the table, the choice in words, the detector."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from selection_samples import centres, imported, known_best, rows_of, split_of, unlabelled

from lsncli.artefacts.detector import load_detector
from lsncli.interchange.exchange import imported_fingerprint
from lsncli.methods.workspace import Workspace
from lsncli.report import selection_table
from lsncli.selection import prompts as fold_prompts
from lsncli.selection.choose import Margin, choose
from lsncli.selection.select import plan_selection, select
from lsncli.store.writer import write_split

METHODS = ("--method", "mcm", "--method", "energy", "--method", "knn,k=5")


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    return known_best(tmp_path / "lsn-work")


def test_the_chosen_method_is_calibrated_and_the_evidence_said(lsn, work) -> None:
    done = lsn("select", *METHODS, "--plot", "choice.svg")
    assert done.code == 0, done.err
    choice = select(plan_selection(work, ["mcm", "energy", "knn,k=5"]), {}).choice
    assert choice.method == "knn,k=5"
    over = choice.row(choice.method).over_default
    assert f"Chosen: knn,k=5, {100 * over.value:.2f} points" in done.err
    assert "above mcm (90% interval for 3 methods together). Second best: " in done.err
    assert "No OOD image was used" in done.err
    assert "on new ID images expect" in done.err
    detector = load_detector(work.detector)
    assert (detector.method, detector.settings["k"]) == ("knn", 5)
    assert detector.threshold.n == 40
    assert "<svg" in Path("choice.svg").read_text()
    numbers = list(csv.DictReader(io.StringIO(Path("choice.csv").read_text())))
    assert [row["method"] for row in numbers] == [row.method for row in choice.compared]
    assert float(numbers[0]["over_default"]) == over.value
    shown = [line.split()[0] for line in done.out.splitlines() if line.split()[-1:] and "." in line]
    assert shown[1:] == [row.method for row in choice.compared]  # after the title


def test_programs_get_every_axis_in_fractions(lsn, work) -> None:
    done = lsn("select", *METHODS, "--dry-run", "--format", "json", "--quiet")
    rows = json.loads(done.out)
    choice = select(plan_selection(work, ["mcm", "energy", "knn,k=5"]), {}).choice
    for row, expected in zip(rows, choice.compared, strict=True):
        assert row["method"] == expected.method
        assert {kind: row[f"near_{kind}"] for kind in expected.near} == expected.near
        assert (row["over_default"], row["low"], row["high"]) == (
            expected.over_default.value,
            expected.over_default.low,
            expected.over_default.high,
        )
        assert (row["why_not"] or "") == expected.why_not
    assert rows[0]["result"] == "chosen"
    assert {row["result"] for row in rows if row["method"] == "mcm"} <= {"default", "runner-up"}
    assert not done.err


def test_a_dry_run_makes_no_detector_and_names_the_command(lsn, work) -> None:
    done = lsn("select", *METHODS, "--dry-run")
    assert done.code == 0, done.err
    assert "No detector was made. `lsn calibrate --method knn,k=5` makes it." in done.err
    assert not work.detector.is_file()


def test_the_command_that_makes_the_detector_names_another_split(lsn, tmp_path) -> None:
    features, labels = rows_of(3 * centres(), 12, 0.6, seed=1)
    imported(tmp_path / "lsn-work", split_of("photos", features, labels), text=centres(seed=77))
    done = lsn("select", *METHODS, "--dry-run", "--split", "photos")
    assert "`lsn calibrate --method knn,k=5 --split photos` makes it." in done.err


def test_what_the_estimates_rest_on_is_said(lsn, work) -> None:
    write_split(work.features, unlabelled("holidays", 30, 4), imported_fingerprint("theirs", 24, 20.0))
    alone = " ".join(lsn("select", *METHODS).err.split())
    assert "No OOD image was used. These AUROCs are estimates from classes that were left out: good" in alone
    assert "name it with --foreign." in alone
    foreign = " ".join(lsn("select", *METHODS, "--foreign", "holidays").err.split())
    assert "from classes that were left out and from --foreign images: good for OOD images" in foreign
    assert "No OOD image was used" not in foreign
    assert "name it with" not in foreign


def test_the_best_that_is_not_the_simplest_is_named() -> None:
    steps = np.linspace(-1, 1, 8) / 1000
    near = {"mcm": 0.8 + 0 * steps, "energy": 0.9 + steps, "knn": 0.9001 - 3 * steps, "vim": 0.7 + steps}
    choice = choose({name: row[None] for name, row in near.items()}, {}, ("random",), default="mcm")
    assert (choice.method, choice.runner_up) == ("energy", "knn")
    text = selection_table.conclusion(choice)
    assert text.startswith("Chosen: energy, 10.00 points (")
    assert "It is the simplest within one standard error of the best, knn, which is 0.01 points (" in text
    shown = {row["method"]: row["result"] for row in selection_table.rows(choice, people=True)}
    assert shown == {"knn": "best", "energy": "chosen", "mcm": "default", "vim": "out"}
    kept = {row["method"]: row["result"] for row in selection_table.rows(choice, people=False)}
    assert kept == {"knn": "runner-up", "energy": "chosen", "mcm": "default", "vim": None}
    assert "-0.00" not in selection_table.conclusion(replace(choice, margin=Margin(0.1, -1e-6, 0.2)))
    two = {name: near[name][None] for name in ("mcm", "energy")}
    assert "behind" not in selection_table.conclusion(choose(two, {}, ("random",), default="mcm"))


def test_auto_makes_the_same_detector(lsn, work) -> None:
    assert lsn("select").code == 0
    first = work.detector.read_bytes()
    done = lsn("calibrate", "--method", "auto")
    assert done.code == 0, done.err
    assert "Chosen: " in done.err
    assert work.detector.read_bytes() == first
    assert "neglabel: not compared. " in done.err  # imported features have no text encoder


def test_imported_features_without_text_are_compared_on_class_means(lsn, tmp_path) -> None:
    features, labels = rows_of(3 * centres(), 24, 0.6, seed=1)
    work = imported(tmp_path / "lsn-work", split_of("train", features, labels))
    done = lsn("select", "--format", "json")
    assert done.code == 0, done.err
    rows = json.loads(done.out)
    assert len(rows) == 19
    assert {row["method"] for row in rows} >= {"mcm:means", "energy:means", "knn:means,k=10"}
    assert "No words on the far axis: The features were imported" in done.err
    assert load_detector(work.detector).head_name == "means"
    assert lsn("calibrate", "--method", "knn").code == 0
    assert load_detector(work.detector).head_name == "means"
    done = lsn("calibrate", "--method", "mcm")
    assert done.code == 4
    assert "mcm:means" in done.err


def test_permuted_labels_keep_the_default(lsn, tmp_path) -> None:
    known_best(tmp_path / "lsn-work", permuted=True)
    done = lsn("select", *METHODS)
    assert done.code == 0, done.err
    assert "Keeping mcm." in done.err or "Keeping it." in done.err
    assert next(line for line in done.out.splitlines() if line.startswith("mcm")).endswith("kept")
    assert load_detector(tmp_path / "lsn-work" / "detector.safetensors").method == "mcm"


def test_fewer_than_six_classes_are_refused_with_what_to_do(lsn, tmp_path) -> None:
    features, labels = rows_of(centres(5), 6, 0.5, seed=0)
    imported(tmp_path / "lsn-work", split_of("train", features, labels, tuple("abcde")), text=centres(5))
    done = lsn("select")
    assert done.code == 1
    assert "needs at least 6 classes, found 5" in done.err
    assert "lsn calibrate --method mcm" in done.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--method", "mcm", "--method", "msp:linear"), "cannot be compared"),
        (("--foreign", "train"), "the split of the classes"),
        (("--plot", "choice.pdf"), "expected a file named *.png or *.svg"),
        (("--budget", "-1"), "--budget"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(lsn, work, words, message) -> None:
    done = lsn("select", *words)
    assert done.code == 2
    assert message in done.err
    assert not work.detector.is_file()


def test_prompts_that_win_are_learned_and_whether_they_pay_is_said(
    lsn, tmp_path, tiny_backbone, monkeypatch
) -> None:
    from selection_samples import tiny

    from lsncli.selection import choose, methods
    from lsncli.selection import select as use

    quick = {kind: replace(each, epochs=1, length=2) for kind, each in fold_prompts.SETTINGS.items()}
    monkeypatch.setattr(fold_prompts, "SETTINGS", quick)
    for name, compared in (("LOGITS", ("mcm",)), ("WORDS", ()), ("ROWS", ())):
        monkeypatch.setattr(methods, name, compared)
    work = tiny(tmp_path / "lsn-work", tiny_backbone, each=8)

    def best_is_lsn(*given: object, **options: object) -> choose.Choice:
        choice = choose.choose(*given, **options)  # type: ignore[arg-type]
        return replace(choice, method="lsn", verdict="chosen", runner_up="mcm")

    monkeypatch.setattr(use, "choose", best_is_lsn)
    done = lsn("select", "--prompts", "--device", "cpu")
    assert done.code == 0, done.err
    assert "Learned prompts: " in done.err
    assert "Negative prompts: lsn is " in done.err
    assert work.positive.is_file()
    assert work.negative.is_file()
    assert load_detector(work.detector).method == "lsn"
    kept = work.negative.read_bytes()
    assert lsn("calibrate", "--method", "auto", "--device", "cpu").code == 0
    assert work.negative.read_bytes() == kept
