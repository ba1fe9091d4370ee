"""A linear head from the store: the rows of the prompts, never those held out, and usable by scores."""

from dataclasses import replace

import numpy as np
import pytest
from workspace_samples import CLASSES, POS

from lsncli.artefacts.heads import load_head
from lsncli.detection.calibrate import known_rows, make_detector
from lsncli.errors import LsnError
from lsncli.methods.heads import make_head
from lsncli.methods.spec import parse_method
from lsncli.methods.workspace import Workspace
from lsncli.scores.common import predict
from lsncli.store.format import Split
from lsncli.store.reader import read_fingerprint, read_split
from lsncli.store.writer import write_split
from lsncli.training import prompts as train
from lsncli.training.linear_probe import SWEEP, train_linear


def change(work: Workspace, split: Split) -> None:
    write_split(work.features, split, read_fingerprint(work.features), replace=True)


def test_a_head_is_written_with_all_that_made_it(work: Workspace) -> None:
    done = train_linear(work, c=30.0)
    saved = load_head(work.head("linear"), "linear")
    assert done.path == work.head("linear")
    assert (saved.scale, saved.classes, saved.negative) == (1.0, CLASSES, None)
    assert saved.fingerprint == read_fingerprint(work.features)
    assert saved.settings == {"c": 30.0, "chosen": False, "optimizer": "l-bfgs"}
    assert saved.held_out == known_rows(work, read_split(work.features, "train")).rule
    np.testing.assert_array_equal(saved.weights, done.head.weights)
    np.testing.assert_array_equal(saved.bias, done.head.bias)
    assert (done.rows, done.held_out) == (24, 6)
    assert done.seconds > 0


def test_separable_clusters_are_told_apart(work: Workspace) -> None:
    assert train_linear(work).accuracy == 1.0
    test = read_split(work.features, "test")
    head = make_head(work, "linear", CLASSES, negatives=False)
    assert (predict(head, test.features) == test.labels).mean() > 0.95


def test_a_strength_left_out_is_chosen_and_recorded(work: Workspace) -> None:
    settings = train_linear(work).head.settings
    assert settings["chosen"] is True
    assert settings["c"] in SWEEP


def test_held_out_rows_do_not_touch_the_head(work: Workspace) -> None:
    before = train_linear(work, c=10.0)
    split = read_split(work.features, "train")
    rest = np.setdiff1d(np.arange(30), known_rows(work, split).where)
    features = split.features.copy()
    features[rest] = features[np.roll(rest, 1)] * -3
    change(work, replace(split, features=features))
    after = train_linear(work, c=10.0)
    assert after.accuracy != before.accuracy
    assert work.head("linear").is_file()
    np.testing.assert_array_equal(after.head.weights, before.head.weights)
    np.testing.assert_array_equal(after.head.bias, before.head.bias)


def test_every_training_row_counts(work: Workspace) -> None:
    before = train_linear(work, c=10.0)
    split = read_split(work.features, "train")
    features = split.features.copy()
    features[known_rows(work, split).where[0]] *= -1
    change(work, replace(split, features=features))
    assert not np.array_equal(train_linear(work, c=10.0).head.weights, before.head.weights)


def test_equal_rows_give_equal_files(work: Workspace) -> None:
    train_linear(work)
    first = work.head("linear").read_bytes()
    train_linear(work)
    assert work.head("linear").read_bytes() == first


def test_it_learns_from_the_rows_of_the_positive_prompts(work: Workspace, tiny_backbone) -> None:
    plan = train.plan_positive(work, fraction=0.4, shots=3, seed=8)
    train.train_prompts(work, tiny_backbone, plan, replace(POS, epochs=1))
    done = train_linear(work, c=1.0)
    assert done.head.held_out == plan.rows.rule
    assert (done.rows, done.held_out) == (9, 12)


def test_a_detector_stands_on_it(work: Workspace) -> None:
    train_linear(work)
    detector = make_detector(work, parse_method("msp:linear"))
    assert (detector.head_name, detector.threshold.n) == ("linear", 6)


def test_a_split_without_classes_or_with_one_is_refused(work: Workspace) -> None:
    with pytest.raises(LsnError, match="'far' has 0 classes"):
        train_linear(work, split_name="far")
    split = read_split(work.features, "train")
    change(work, replace(split, classes=("all",), labels=np.zeros(30, np.int32)))
    with pytest.raises(LsnError, match="'train' has 1 classes; a classifier needs at least 2"):
        train_linear(work)


def test_features_that_are_not_finite_are_refused(work: Workspace, monkeypatch) -> None:
    broken = read_split(work.features, "train")
    broken.features[:] = np.inf
    monkeypatch.setattr("lsncli.training.linear_probe.read_split", lambda path, name: broken)
    with pytest.raises(LsnError, match="NaN or infinite"):
        train_linear(work)
