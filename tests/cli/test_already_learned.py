"""Prompts that are there are not learned again, and no detector takes another's place in silence."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from training_samples import QUICK, features_of

from lsncli.artefacts.detector import load_detector
from lsncli.store.format import Split
from lsncli.store.reader import read_split
from lsncli.store.writer import write_split
from lsncli.types import UNLABELLED


def contents(work: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in work.iterdir() if path.is_file()}


@pytest.fixture
def learned(lsn, work) -> Path:
    """A workspace after train-pos and train-neg."""
    for command in ("train-pos", "train-neg"):
        assert lsn(command, *QUICK).code == 0
    return work


@pytest.fixture
def splits(work, tiny_backbone) -> None:
    """A test split near the training rows, and an OOD split."""
    random = np.random.default_rng(5)
    train = read_split(work / "features.h5", "train")
    near = train.features + random.normal(scale=2.0, size=train.features.shape).astype(np.float16)
    keys = train.keys
    write_split(work / "features.h5", replace(train, name="test", features=near), tiny_backbone.fingerprint)
    far = Split(
        "far", (near + near[::-1]).astype(np.float16), np.full(len(keys), UNLABELLED, np.int32), keys, ()
    )
    write_split(work / "features.h5", far, tiny_backbone.fingerprint)


@pytest.mark.parametrize(("command", "kind"), [("train-pos", "positive"), ("train-neg", "negative")])
def test_equal_settings_and_rows_change_nothing(lsn, learned, command: str, kind: str) -> None:
    before = contents(learned)
    done = lsn(command, *QUICK, "--format", "json")
    assert done.code == 0
    assert contents(learned) == before
    (row,) = json.loads(done.out)
    assert (row["prompts"], row["mode"], row["rows"]) == (kind, "best", 24)
    assert f"Already learned with these settings and rows: lsn-work/{kind}.safetensors" in done.err
    gamma = load_detector(learned / "detector.safetensors").threshold.gamma
    assert f"The detector is unchanged, too: CoOp + LSN,form=logit, gamma = {gamma:.6f}." in done.err
    switch = "`lsn calibrate --method maxlogit:positive` makes one of these prompts."
    assert (switch in done.err) == (command == "train-pos")


@pytest.mark.parametrize(
    "words",
    [["--seed", "1"], ["--mode", "paper"], ["--epochs", "2"], ["--shots", "3"], ["--val-fraction", "0.4"]],
)
def test_other_settings_or_rows_are_learned(lsn, learned, words: list[str]) -> None:
    before = contents(learned)
    done = lsn("train-pos", *QUICK, *words)
    assert done.code == 0
    assert "Already learned" not in done.err
    assert contents(learned)["positive.safetensors"] != before["positive.safetensors"]
    assert "Removed lsn-work/negative.safetensors: the negative prompts belonged" in done.err
    assert not (learned / "negative.safetensors").exists()
    assert "This replaces the detector CoOp + LSN,form=logit of the workspace." in done.err
    assert "brings that one back" not in done.err  # its negative prompts are gone


def test_other_rows_of_the_store_are_learned(lsn, learned, tiny_backbone) -> None:
    (learned / "features.h5").unlink()
    features_of(tiny_backbone.fingerprint, learned, rows=45)
    done = lsn("train-pos", *QUICK, "--format", "json")
    assert "Already learned" not in done.err
    assert json.loads(done.out)[0]["rows"] == 36


def test_a_missing_detector_is_calibrated(lsn, learned) -> None:
    path = learned / "detector.safetensors"
    expected = path.read_bytes()
    path.unlink()
    done = lsn("train-neg", *QUICK)
    assert path.read_bytes() == expected
    assert "Already learned" in done.err
    assert "Wrote lsn-work/detector.safetensors. Next: lsn score ./images" in done.err


def test_a_detector_of_earlier_prompts_is_calibrated_again(lsn, learned) -> None:
    """As a kill leaves it between the prompts and their detector."""
    path = learned / "detector.safetensors"
    assert lsn("train-neg", *QUICK, "--seed", "1").code == 0
    earlier = path.read_bytes()
    assert lsn("train-neg", *QUICK).code == 0
    expected = path.read_bytes()
    assert earlier != expected
    path.write_bytes(earlier)
    done = lsn("train-neg", *QUICK)
    assert "Already learned" in done.err
    assert path.read_bytes() == expected


def test_a_detector_of_another_method_is_kept_and_the_command_that_switches_is_named(lsn, learned) -> None:
    done = lsn("calibrate", "--method", "energy", "--device", "cpu")
    assert "This replaces the detector CoOp + LSN,form=logit of the workspace." in done.err
    assert "`lsn calibrate --method lsn,form=logit` brings that one back." in done.err
    before = contents(learned)
    done = lsn("train-neg", *QUICK)
    assert contents(learned) == before
    assert "The detector is unchanged, too: energy, gamma = " in done.err
    assert "`lsn calibrate --method lsn` makes one of these prompts." in done.err
    lsn("calibrate", "--method", "lsn,form=logit", "--device", "cpu")
    assert load_detector(learned / "detector.safetensors").method == "lsn"


def test_the_same_method_again_replaces_no_other(lsn, learned) -> None:
    done = lsn("calibrate", "--method", "lsn", "--target-tpr", "0.8", "--device", "cpu")
    assert "This replaces" not in done.err


def test_restart_learns_again(lsn, learned) -> None:
    done = lsn("train-neg", *QUICK, "--restart")
    assert "Already learned" not in done.err
    assert "Wrote lsn-work/negative.safetensors and the detector." in done.err


def test_commands_to_type_next_name_the_workspace(lsn, learned) -> None:
    learned.rename("my work")
    done = lsn("train-pos", *QUICK, "--work", "my work")
    assert "`lsn calibrate --method maxlogit:positive --work 'my work'` makes one" in done.err
    done = lsn("train-neg", *QUICK, "--restart", "--work", "my work")
    assert "Next: lsn score ./images --work 'my work'" in done.err


def test_eval_ends_with_the_best_method_and_that_of_the_detector(lsn, learned, splits) -> None:
    words = ["eval", "--method", "lsn", "--method", "energy", "--device", "cpu", "--format", "json"]
    labels = {"lsn": "CoOp + LSN,form=logit", "energy": "energy"}
    auroc = {row["method"]: f"(AUROC {row['auroc']:.2%})" for row in json.loads(lsn(*words).out)}
    other, best = sorted(labels, key=lambda name: auroc[labels[name]])
    assert auroc[labels[other]] != auroc[labels[best]]
    titles = {"lsn": "CoOp + LSN", "energy": "energy"}
    start = f"Best on these OOD images: {titles[best]} {auroc[labels[best]]}. "
    (learned / "detector.safetensors").unlink()
    switch = f"`lsn calibrate --method {best}`"
    ends = {None: f"{switch} makes it the workspace's detector."}
    ends[best] = "The workspace's detector has this method."
    ends[other] = f"The workspace's detector is {titles[other]} {auroc[labels[other]]}; {switch} switches."
    for method, end in ends.items():
        if method is not None:
            assert lsn("calibrate", "--method", method, "--device", "cpu").code == 0
        assert lsn(*words).err.splitlines()[-1] == start + end


def test_eval_includes_the_method_of_the_detector(lsn, learned, splits) -> None:
    assert lsn("calibrate", "--method", "knn,k=3", "--device", "cpu").code == 0
    rows = json.loads(lsn("eval", "--device", "cpu", "--format", "json").out)
    assert [row["method"] for row in rows].count("knn,k=3") == 1
    assert lsn("calibrate", "--method", "lsn", "--device", "cpu").code == 0
    rows = json.loads(lsn("eval", "--device", "cpu", "--format", "json").out)
    assert [row["method"] for row in rows].count("CoOp + LSN,form=logit") == 1


def test_methods_that_differ_in_settings_alone_are_named_with_them(lsn, learned, splits) -> None:
    forms = ("paper", "logit")
    words = [word for form in forms for word in ("--method", f"lsn,form={form}")]
    words = ["eval", *words, "--device", "cpu", "--format", "json"]
    auroc = {row["method"]: row["auroc"] for row in json.loads(lsn(*words).out)}
    other, best = sorted(forms, key=lambda form: auroc[f"CoOp + LSN,form={form}"])
    assert lsn("calibrate", "--method", f"lsn,form={other}", "--device", "cpu").code == 0
    last = lsn(*words).err.splitlines()[-1]
    assert f"Best on these OOD images: CoOp + LSN,form={best} (" in last
    assert f"The workspace's detector is CoOp + LSN,form={other} (" in last
