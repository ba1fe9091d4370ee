"""DualCoOp from the store to a head, a score and a detector."""

from dataclasses import asdict

import numpy as np
import pytest
from cocoop_samples import write_prompts
from workspace_samples import CLASSES, clusters

from lsncli.artefacts.detector import load_detector
from lsncli.detection.calibrate import make_detector
from lsncli.errors import LsnError
from lsncli.methods.heads import load_checked_head
from lsncli.methods.spec import parse_method
from lsncli.prompts.dualcoop import Asymmetric, dual_settings
from lsncli.prompts.learner import learn, steps
from lsncli.store.writer import write_split
from lsncli.training import checkpoints as resume
from lsncli.training.prompts import plan_dualcoop, train_dualcoop
from lsncli.types import unit

QUICK = dual_settings(epochs=3, length=4, rate=0.02, batch_size=8)


def test_the_pair_becomes_a_head_and_a_detector(work, tiny_backbone) -> None:
    plan, ticks = plan_dualcoop(work), []
    done = train_dualcoop(work, tiny_backbone, plan, QUICK, progress=lambda step, note="": ticks.append(step))
    assert (done.path, done.rows, done.held_out) == (work.head("dualcoop"), 24, 6)
    right = (unit(plan.rows.held_out.features) @ done.head.weights.T).argmax(1) == plan.rows.held_out.labels
    assert done.accuracy == right.mean()
    assert sum(ticks) == steps(len(plan.rows.train), QUICK) == 9
    saved = load_checked_head(work, "dualcoop")
    tower = tiny_backbone.text_tower()
    expected = learn(tower, plan.rows.train, CLASSES, QUICK, objective=Asymmetric())
    np.testing.assert_allclose(saved.weights, expected.text[0], rtol=0, atol=1e-6)
    np.testing.assert_allclose(saved.negative, expected.text[1:], rtol=0, atol=1e-6)
    assert saved.history == pytest.approx(expected.history)
    assert (saved.classes, saved.scale, saved.held_out) == (CLASSES, 100.0, plan.rows.rule)
    assert saved.settings == asdict(QUICK) | asdict(Asymmetric()) | {"tower": tower.path}
    assert not work.checkpoint("dualcoop").exists()
    detector = make_detector(work, parse_method("dualcoop"))
    assert (detector.label, detector.head_name, detector.threshold.n) == ("DualCoOp", "dualcoop", 6)
    np.testing.assert_array_equal(load_detector(work.detector).head.negative, saved.negative)


def test_it_learns_from_the_rows_of_the_positive_prompts(work, tiny_backbone) -> None:
    rule = write_prompts(work, tiny_backbone, "positive", "coop").held_out
    plan = plan_dualcoop(work)
    assert plan.rows.rule == rule
    train_dualcoop(work, tiny_backbone, plan, QUICK)
    assert load_checked_head(work, "dualcoop").held_out == rule


def test_equal_seeds_give_equal_files_and_settings_count(work, tiny_backbone) -> None:
    found = []
    for settings, loss in (
        (QUICK, Asymmetric()),
        (QUICK, Asymmetric()),
        (dual_settings(**{**asdict(QUICK), "seed": 1}), Asymmetric()),
        (QUICK, Asymmetric(gamma_neg=4.0)),
    ):
        train_dualcoop(work, tiny_backbone, plan_dualcoop(work), settings, loss)
        found.append(work.head("dualcoop").read_bytes())
    assert found[0] == found[1]
    assert len(set(found)) == 3


def test_an_interrupted_training_goes_on_only_with_the_same_loss(work, tiny_backbone, monkeypatch) -> None:
    plan = plan_dualcoop(work)
    train_dualcoop(work, tiny_backbone, plan, QUICK, kernel="torch")
    expected = work.head("dualcoop").read_bytes()
    monkeypatch.setattr(resume, "SAVE_SECONDS", 0.0)

    def interrupt() -> None:
        ticks = []

        def progress(step: int, note: str = "") -> None:
            ticks.append(step)
            if len(ticks) == 5:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train_dualcoop(work, tiny_backbone, plan, QUICK, kernel="torch", progress=progress)
        assert work.checkpoint("dualcoop").is_file()

    for loss, said in ((Asymmetric(), "Resuming after epoch 1 of 3"), (Asymmetric(clip=0.1), "starts anew")):
        interrupt()
        remarks: list[str] = []
        train_dualcoop(work, tiny_backbone, plan, QUICK, loss, kernel="torch", remark=remarks.append)
        assert said in remarks[0]
        assert (work.head("dualcoop").read_bytes() == expected) == (loss == Asymmetric())


def test_a_split_without_classes_is_refused(work, tiny_backbone) -> None:
    write_split(work.features, clusters("bare", labelled=False), tiny_backbone.fingerprint)
    with pytest.raises(LsnError, match="Split 'bare' has 0 classes"):
        plan_dualcoop(work, "bare")
