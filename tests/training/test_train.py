"""From a store to prompts to a detector: the whole flow on made-up features and a tiny model."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from workspace_samples import CLASSES, NEG, POS, clusters, workspace

from lsncli.artefacts.detector import SavedDetector, load_detector
from lsncli.artefacts.prompts import load_prompts, save_prompts
from lsncli.detection.calibrate import known_rows, make_detector
from lsncli.errors import FingerprintMismatch, LsnError, UsageError
from lsncli.methods.heads import head_from, load_checked, make_head
from lsncli.methods.spec import parse_method
from lsncli.methods.workspace import Workspace
from lsncli.prompts.dualcoop import DUAL
from lsncli.prompts.settings import preset
from lsncli.scores import load_score
from lsncli.store.reader import read_split
from lsncli.store.writer import write_split
from lsncli.training import prompts as train
from lsncli.training.prompts import plan_dualcoop, train_dualcoop
from lsncli.types import UNLABELLED, Fingerprint


def learn(work: Workspace, backbone, *, seed: int = 0) -> tuple[train.Training, train.Training]:
    plan = train.plan_positive(work, seed=seed)
    positive = train.train_prompts(work, backbone, plan, replace(POS, seed=seed))
    negative = train.train_prompts(work, backbone, train.plan_negative(work), replace(NEG, seed=seed))
    return positive, negative


def other_model(known: Fingerprint) -> Fingerprint:
    return replace(known, weights="00" * 32)


def test_classes_of_one_text_are_not_learned(tmp_path: Path, tiny_backbone) -> None:
    """As an older version stored them: one of the two would never be predicted."""
    work = Workspace(tmp_path / "work")
    work.folder.mkdir()
    write_split(
        work.features, replace(clusters("train"), classes=("cat", "Cat", "dog")), tiny_backbone.fingerprint
    )
    with pytest.raises(UsageError, match="Split 'train': the classes 'cat', 'Cat' are one text"):
        train.train_prompts(work, tiny_backbone, train.plan_positive(work), POS)
    with pytest.raises(UsageError, match="'cat', 'Cat' are one text"):
        train_dualcoop(work, tiny_backbone, plan_dualcoop(work), replace(DUAL, epochs=1, length=2))
    assert not work.positive.exists()


def test_positive_prompts_bring_a_coop_mcm_detector(work: Workspace, tiny_backbone) -> None:
    steps: list[int] = []
    plan = train.plan_positive(work, fraction=0.3, shots=5, seed=4)
    done = train.train_prompts(
        work, tiny_backbone, plan, replace(POS, seed=4), progress=lambda n, note="": steps.append(n)
    )
    assert (done.path, done.rows) == (work.positive, 15)
    assert len(steps) == POS.epochs * 2  # 15 rows in batches of 8
    saved = load_prompts(work.positive, "positive")
    assert (saved.classes, saved.fingerprint) == (CLASSES, tiny_backbone.fingerprint)
    assert saved.contexts.shape == (1, 4, 32)
    assert saved.text.shape == (1, 3, 32)
    assert saved.meta == {}
    path = tiny_backbone.text_tower().path  # decides the last bits
    assert saved.settings == asdict(POS) | {"seed": 4, "tower": path}
    assert saved.history == done.prompts.history
    assert len(saved.history) == POS.epochs
    assert vars(saved.held_out) == vars(plan.rows.rule)
    assert (saved.held_out.split, saved.held_out.fraction, saved.held_out.shots) == ("train", 0.3, 5)
    detector = load_detector(work.detector)
    assert (detector.method, detector.head_name, detector.threshold.n) == ("mcm", "positive", 9)
    np.testing.assert_allclose(detector.head.weights, saved.text[0], rtol=1e-14)
    assert detector.head.negative is None


def test_negative_prompts_use_the_same_rows_and_bring_an_lsn_detector(work, tiny_backbone) -> None:
    train.train_prompts(work, tiny_backbone, train.plan_positive(work, fraction=0.3, shots=5, seed=4), POS)
    plan = train.plan_negative(work)
    same = train.plan_positive(work, fraction=0.3, shots=5, seed=4)
    np.testing.assert_array_equal(plan.rows.train.features, same.rows.train.features)
    np.testing.assert_array_equal(plan.rows.held_out.features, same.rows.held_out.features)
    done = train.train_prompts(work, tiny_backbone, plan, NEG)
    saved = load_prompts(work.negative, "negative")
    assert (done.path, done.rows, saved.contexts.shape) == (work.negative, 15, (3, 3, 4, 32))
    detector = load_detector(work.detector)
    assert (detector.method, detector.head_name) == ("lsn", "positive")
    assert detector.settings == {"tau": 1.0, "tau_bar": 5.0, "form": "paper"}
    np.testing.assert_array_equal(detector.head.negative, saved.text)
    positive = load_prompts(work.positive, "positive").text[0]
    np.testing.assert_allclose(detector.head.weights, positive, rtol=1e-14)
    np.testing.assert_array_equal(detector.head.weights, done.detector.head.weights)


def test_training_positive_prompts_again_removes_stale_negative_ones(work, tiny_backbone) -> None:
    learn(work, tiny_backbone)
    assert work.negative.is_file()
    train.train_prompts(work, tiny_backbone, train.plan_positive(work), POS)
    assert not work.negative.exists()
    assert load_detector(work.detector).method == "mcm"
    with pytest.raises(LsnError, match="no negative-prompts artefact"):
        make_head(work, "positive", CLASSES, negatives=True)


def test_equal_seeds_give_byte_identical_artefacts_and_others_do_not(tmp_path, tiny_backbone) -> None:
    made = []
    for name, seed in (("one", 3), ("two", 3), ("other", 4)):
        work = workspace(tmp_path / name, tiny_backbone.fingerprint)
        learn(work, tiny_backbone, seed=seed)
        made.append([path.read_bytes() for path in (work.positive, work.negative, work.detector)])
    assert made[0] == made[1]
    assert all(one != other for one, other in zip(made[0], made[2], strict=True))


def test_unlabelled_rows_take_no_part(tmp_path: Path, tiny_backbone) -> None:
    work = Workspace(tmp_path)
    split = clusters("train")
    labels = split.labels.copy()
    labels[::2] = UNLABELLED
    write_split(work.features, replace(split, labels=labels), tiny_backbone.fingerprint)
    plan = train.plan_positive(work)
    assert len(plan.rows.train) + len(plan.rows.held_out) == 15


def test_a_changed_store_is_noticed_before_negative_prompts_learn(work, tiny_backbone) -> None:
    train.train_prompts(work, tiny_backbone, train.plan_positive(work), POS)
    # Imported or read again with --retry-failed: the listing may well be the same, the rows are not.
    write_split(work.features, clusters("train", 33), tiny_backbone.fingerprint, replace=True)
    for use in (
        lambda: train.plan_negative(work),
        lambda: make_detector(work, parse_method("mcm:positive")),
    ):
        with pytest.raises(LsnError, match="Split 'train' holds other images") as caught:
            use()
        assert "lsn train-pos" in caught.value.hint


def test_prompts_of_another_model_are_a_fingerprint_mismatch(work, tiny_backbone) -> None:
    learn(work, tiny_backbone)
    work.features.unlink()
    other = other_model(tiny_backbone.fingerprint)
    write_split(work.features, clusters("train"), other)
    for kind, path in (("positive", work.positive), ("negative", work.negative)):
        with pytest.raises(
            FingerprintMismatch, match=f"{path.name} was learned with another model"
        ) as caught:
            load_checked(work, kind)
        assert caught.value.exit_code == 4
        assert f"`lsn train-{kind[:3]}`" in caught.value.hint
        assert other.digest in caught.value.message
        assert tiny_backbone.fingerprint.digest in caught.value.message
    with pytest.raises(FingerprintMismatch):
        train.plan_negative(work)


def test_negative_prompts_need_positive_ones(work: Workspace) -> None:
    with pytest.raises(LsnError, match="no positive-prompts artefact") as caught:
        train.plan_negative(work)
    assert "lsn train-pos" in caught.value.hint


def test_a_split_without_classes_cannot_be_learned_from(work: Workspace) -> None:
    with pytest.raises(LsnError, match="Split 'far' has no classes"):
        train.plan_positive(work, split_name="far")


def test_one_image_a_class_is_refused_before_the_work_and_not_after_it(tmp_path, tiny_backbone) -> None:
    work = Workspace(tmp_path)
    write_split(work.features, clusters("train", 3), tiny_backbone.fingerprint)
    with pytest.raises(LsnError, match="one image per class") as caught:
        train.plan_positive(work)
    assert "two images" in caught.value.hint


def test_positive_and_negative_prompts_of_other_classes_do_not_mix(work, tiny_backbone) -> None:
    learn(work, tiny_backbone)
    strange = replace(load_prompts(work.negative, "negative"), classes=("cat", "dog", "fox"))
    save_prompts(work.negative, strange)
    with pytest.raises(
        LsnError,
        match=r"negative\.safetensors was learned for 3 classes that are not the 3 of .*positive\.safet",
    ):
        make_head(work, "positive", CLASSES, negatives=True)


def test_hand_written_prompts_do_not_take_negative_ones_of_other_classes(work, tiny_backbone) -> None:
    learn(work, tiny_backbone)
    assert make_head(work, "hand", CLASSES, negatives=True).negative is not None
    with pytest.raises(LsnError, match="learned for 3 classes that are not the 3 of this split"):
        make_head(work, "hand", ("dog", "cat", "small red bird"), negatives=True)


def test_a_detector_needs_nothing_but_its_file(work: Workspace, tiny_backbone) -> None:
    _, negative = learn(work, tiny_backbone)
    test = read_split(work.features, "test")
    file = work.detector.rename(work.folder.parent / "alone.safetensors")

    def score(one: SavedDetector) -> np.ndarray:
        head = head_from(one.head, lambda: pytest.fail("text features are all it needs"))
        return load_score(one.method, **one.settings).scorer(head, one.learned)(test.features)

    np.testing.assert_array_equal(score(load_detector(file)), score(negative.detector))


def test_known_rows_are_those_of_the_prompts_only_for_their_own_split(work, tiny_backbone) -> None:
    train.train_prompts(work, tiny_backbone, train.plan_positive(work, fraction=0.5, seed=9), POS)
    assert known_rows(work, read_split(work.features, "train")).rule.fraction == 0.5
    assert known_rows(work, read_split(work.features, "test")).rule.fraction == 0.2


def test_cocoop_prompts_bring_detectors_that_ask_the_model_at_hand(work, tiny_backbone, monkeypatch) -> None:
    monkeypatch.setattr("lsncli.methods.heads.load_again", lambda *_, **__: pytest.fail("it is here already"))
    positive = replace(POS, learner="cocoop", epochs=1)
    train.train_prompts(work, tiny_backbone, train.plan_positive(work, shots=4), positive)
    saved = load_prompts(work.positive, "positive")
    assert (saved.settings["learner"], saved.text) == ("cocoop", None)
    assert {name: array.shape for name, array in saved.meta.items()} == {
        "hidden.weight": (1, 2, 32),
        "hidden.bias": (1, 2),
        "out.weight": (1, 32, 2),
        "out.bias": (1, 32),
    }
    assert load_detector(work.detector).label == "CoCoOp + MCM"
    negative = replace(NEG, learner="cocoop", epochs=1)
    done = train.train_prompts(work, tiny_backbone, train.plan_negative(work), negative)
    assert done.detector.label == "CoCoOp + LSN"
    far, test = (read_split(work.features, name).features for name in ("far", "test"))
    head = head_from(load_detector(work.detector).head, lambda: tiny_backbone)
    assert head.conditional
    scores = load_score("lsn", **done.detector.settings).scorer(head, {})
    assert scores(far).shape == (12,)
    assert np.isfinite(scores(test)).all()


def test_several_positive_prompts_are_an_ensemble(work, tiny_backbone) -> None:
    done = train.train_prompts(work, tiny_backbone, train.plan_positive(work), replace(POS, sets=3))
    saved = load_prompts(work.positive, "positive")
    assert saved.text.shape == (3, 3, 32)
    mean = saved.text.mean(axis=0)
    expected = mean / np.linalg.norm(mean, axis=-1, keepdims=True)
    np.testing.assert_allclose(done.detector.head.weights, expected, rtol=1e-12)


def test_the_official_preset_brings_the_official_score(work, tiny_backbone) -> None:
    train.train_prompts(work, tiny_backbone, train.plan_positive(work), POS)
    official = preset("negative", "official", epochs=1, length=4)
    done = train.train_prompts(work, tiny_backbone, train.plan_negative(work), official)
    assert done.detector.settings == {"tau": 1.0, "tau_bar": 5.0, "form": "official"}


def test_a_half_precision_tower_is_a_setting_of_the_prompts(work, tiny_backbone) -> None:
    texts = []
    for precision in ("fp32", "bf16"):
        settings = replace(POS, precision=precision, rate=1e-5)
        done = train.train_prompts(work, tiny_backbone, train.plan_positive(work), settings, kernel="torch")
        assert done.prompts.settings["precision"] == precision
        assert done.prompts.contexts.dtype == np.float32
        texts.append(done.prompts.text)
    assert 0 < np.linalg.norm(texts[0] - texts[1]) < 0.1 * np.linalg.norm(texts[0])
