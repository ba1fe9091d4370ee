"""Heads of every kind of prompts: fixed ones need no model, CoCoOp's are computed image by image."""

from dataclasses import replace

import numpy as np
import pytest
from cocoop_samples import count_rows, no_model, text_of, write_prompts
from workspace_samples import CLASSES, workspace

from lsncli.artefacts.heads import LearnedHead, save_head
from lsncli.backbones.text import openai_templates
from lsncli.errors import FingerprintMismatch, LsnError, UsageError
from lsncli.methods.bound_text import RecentCosines
from lsncli.methods.cache import Cache
from lsncli.methods.heads import Heads, head_from, make_head
from lsncli.methods.workspace import Workspace
from lsncli.prompts.text_features import text_features
from lsncli.scores.common import negative_cosines, positive_cosines, predict
from lsncli.store.reader import read_split
from lsncli.types import Rows, unit


@pytest.fixture
def features(work: Workspace) -> np.ndarray:
    return read_split(work.features, "test").features[:6]


@pytest.mark.parametrize("sets", [1, 2])
@pytest.mark.parametrize(
    "given",
    [{}, {"position": "front"}, {"specific": True, "names": False}],
    ids=["plain", "front", "nameless"],
)
def test_cocoop_cosines_are_those_of_each_images_own_text(work, features, tiny_backbone, sets, given) -> None:
    positive = write_prompts(work, tiny_backbone, "positive", "cocoop", sets, **given)
    negative = write_prompts(work, tiny_backbone, "negative", "cocoop", sets)
    head = make_head(work, "positive", CLASSES, negatives=True, model=lambda: tiny_backbone)
    assert head.conditional
    yes = [unit(text_of(tiny_backbone, positive, x).mean(axis=0)) @ unit(x) for x in features]
    no = [text_of(tiny_backbone, negative, x) @ unit(x) for x in features]
    np.testing.assert_allclose(positive_cosines(head, features), yes, rtol=0, atol=2e-6)
    np.testing.assert_allclose(
        list(negative_cosines(head, features)), np.stack(no, axis=1), rtol=0, atol=2e-6
    )
    assert predict(head, features).tolist() == np.argmax(yes, axis=1).tolist()


def test_several_fixed_prompts_of_a_class_are_one_unit_mean(work, tiny_backbone) -> None:
    prompts = write_prompts(work, tiny_backbone, "positive", "coop", 3)
    head = make_head(work, "positive", CLASSES, negatives=False, model=no_model)
    np.testing.assert_allclose(head.weights, unit(prompts.text.mean(axis=0)), rtol=0, atol=1e-7)
    assert head.weights.shape == (3, 32)


def test_fixed_prompts_ask_for_no_model(work, tiny_backbone) -> None:
    write_prompts(work, tiny_backbone, "positive", "coop")
    write_prompts(work, tiny_backbone, "negative", "coop", 2)
    made = Heads(work, CLASSES, no_model)
    head, source = (make("positive", negatives=True) for make in (made.head, made.source))
    assert not head.conditional
    again = head_from(source, no_model)
    np.testing.assert_array_equal(again.weights, head.weights)
    np.testing.assert_array_equal(again.negative, head.negative)


def test_the_model_is_asked_for_once_for_all_heads(work, tiny_backbone) -> None:
    write_prompts(work, tiny_backbone, "positive", "cocoop")
    write_prompts(work, tiny_backbone, "negative", "cocoop")
    asked: list[int] = []
    made = Heads(work, CLASSES, lambda: asked.append(1) or tiny_backbone)
    assert asked == []
    for prompts in ("positive", "hand"):
        for negatives in (True, False):
            made.head(prompts, negatives=negatives)
    assert asked == [1]


def test_heads_share_what_they_have_in_common(work, tiny_backbone) -> None:
    write_prompts(work, tiny_backbone, "positive", "cocoop")
    write_prompts(work, tiny_backbone, "negative", "cocoop")
    made = Heads(work, CLASSES, lambda: tiny_backbone)
    assert made.head("positive", negatives=False).weights is made.head("positive", negatives=True).weights
    assert made.head("hand", negatives=True).negative is made.head("positive", negatives=True).negative


def test_the_same_rows_are_encoded_once(work, features, tiny_backbone, monkeypatch) -> None:
    encoded = count_rows(monkeypatch)
    write_prompts(work, tiny_backbone, "positive", "cocoop")
    head = make_head(work, "positive", CLASSES, negatives=False, model=lambda: tiny_backbone)
    first = positive_cosines(head, features)
    assert positive_cosines(head, features) is first
    predict(head, features)
    assert encoded == [6]
    other = features[::-1].copy()
    np.testing.assert_allclose(positive_cosines(head, other), first[::-1], rtol=0, atol=1e-6)
    assert encoded == [6, 6]
    with pytest.raises(ValueError, match="read-only"):
        first[:] = 0


def test_heads_that_are_made_anew_share_recent_cosines_of_the_same_prompts(
    work, features, tiny_backbone, monkeypatch
) -> None:
    encoded, recent = count_rows(monkeypatch), RecentCosines()

    def cosines(rows: np.ndarray, recent: RecentCosines | None = recent) -> np.ndarray:
        made = Heads(work, CLASSES, lambda: tiny_backbone, recent=recent)
        return positive_cosines(made.head("positive", negatives=False), rows)

    write_prompts(work, tiny_backbone, "positive", "cocoop")
    first = cosines(features)
    assert cosines(features.copy()) is first
    assert encoded == [6]
    np.testing.assert_array_equal(cosines(features, None), first)
    cosines(features[:5])
    assert encoded == [6, 6, 5]
    write_prompts(work, tiny_backbone, "positive", "cocoop", 2)
    assert not np.array_equal(cosines(features), first)
    assert encoded[-1] == 6


def test_recent_cosines_are_kept_up_to_a_size() -> None:
    recent, computed = RecentCosines(size=2 * 80), []

    def get(key: str) -> float:
        return float(recent.get(key, lambda: computed.append(key) or np.full(10, len(computed)))[0])

    assert [get(key) for key in "abacab"] == [1, 2, 1, 3, 1, 4]
    assert computed == ["a", "b", "c", "b"]
    large = RecentCosines(size=79)
    assert [float(large.get("a", lambda: np.ones(10))[0]) for _ in range(2)] == [1, 1]


def test_features_of_another_model_or_not_finite_are_refused(work, features, tiny_backbone) -> None:
    write_prompts(work, tiny_backbone, "positive", "cocoop")
    head = make_head(work, "positive", CLASSES, negatives=False, model=lambda: tiny_backbone)
    with pytest.raises(LsnError, match="Expected features of 32 dimensions"):
        positive_cosines(head, features[:, :7])
    broken = features.copy()
    broken[2, 1] = np.nan
    with pytest.raises(LsnError, match="1 of 6 feature rows"):
        positive_cosines(head, broken)


def test_hand_written_prompts_take_learned_negatives_without_positive_ones(work, tiny_backbone) -> None:
    negative = write_prompts(work, tiny_backbone, "negative", "coop", 2)
    head = make_head(work, "hand", CLASSES, negatives=True)
    np.testing.assert_allclose(head.negative, negative.text, rtol=0, atol=1e-7)
    assert head.weights.shape == (3, 32)


def test_an_ensemble_is_the_unit_mean_of_unit_text_features(work, tiny_backbone) -> None:
    head = make_head(work, "ensemble", CLASSES, negatives=False, model=lambda: tiny_backbone)
    templates = openai_templates()
    assert len(templates) == 80
    assert templates[0]("cat") == "a bad photo of a cat."
    tower = tiny_backbone.text_tower()
    for name, row in zip(CLASSES, head.weights, strict=True):
        texts = [template(name) for template in templates]
        rows = text_features(tower, texts).detach().double().numpy()
        total = sum(one / np.linalg.norm(one) for one in rows)
        np.testing.assert_allclose(row, total / np.linalg.norm(total), atol=1e-6)


def test_text_features_of_hand_written_prompts_are_kept(work, tiny_backbone) -> None:
    cache = Cache(work.cache)
    first = Heads(work, CLASSES, lambda: tiny_backbone, cache).head("hand", negatives=False)
    again = Heads(work, CLASSES, no_model, cache).head("hand", negatives=False)
    assert np.array_equal(first.weights, again.weights)
    with pytest.raises(AssertionError, match="no text tower"):
        Heads(work, CLASSES[:2], no_model, cache).head("hand", negatives=False)


def test_a_head_of_another_model_or_trained_on_other_rows_is_refused(work, tiny_backbone) -> None:
    fingerprint = tiny_backbone.fingerprint
    head = LearnedHead("linear", fingerprint, CLASSES, 1.0, np.ones((3, 32)), {}, bias=np.zeros(3))
    save_head(work.head("linear"), replace(head, fingerprint=replace(fingerprint, weights="other")))
    with pytest.raises(FingerprintMismatch, match="learned with another model") as caught:
        make_head(work, "linear", CLASSES, negatives=False)
    assert "lsn train-head" in caught.value.hint
    prompts = write_prompts(work, tiny_backbone, "positive", "coop")
    save_head(work.head("linear"), replace(head, held_out=replace(prompts.held_out, seed=5)))
    with pytest.raises(LsnError, match="was trained on other rows of split 'train'"):
        make_head(work, "linear", CLASSES, negatives=False)
    save_head(work.head("linear"), replace(head, held_out=prompts.held_out))
    assert make_head(work, "linear", CLASSES, negatives=False).scale == 1.0


def test_an_unknown_kind_of_prompts_is_refused(work) -> None:
    with pytest.raises(UsageError, match=r"expected one of hand, .*clipn, found 'learned'"):
        make_head(work, "learned", CLASSES, negatives=False)


def test_class_means_are_unit_means_of_unit_rows_and_leave_unlabelled_ones_out(tmp_path, tiny_backbone):
    work = workspace(tmp_path / "work", tiny_backbone.fingerprint)
    split = read_split(work.features, "train")
    labels = split.labels.copy()
    labels[:4] = -1
    rows = Rows(split.features, labels)
    found = Heads(work, split.classes, rows=rows).head("means", negatives=False)
    wide = split.features.astype(np.float64)
    for label, mean in enumerate(found.weights):
        own = np.mean([row / np.linalg.norm(row) for row in wide[labels == label]], axis=0)
        np.testing.assert_allclose(mean, own / np.linalg.norm(own), rtol=1e-12)
    assert found.classes == split.classes
    lacking = Rows(split.features, np.where(labels == 2, -1, labels).astype(np.int32))
    with pytest.raises(LsnError, match="'small red bird' has no training row"):
        Heads(work, split.classes, rows=lacking).head("means", negatives=False)
    with pytest.raises(UsageError, match="'means' needs training rows"):
        Heads(work, split.classes).head("means", negatives=False)
