"""Heads of a task and their figures, against the definitions; what was learned is found again."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mini_samples import letter_tower
from numpy.testing import assert_allclose

from benchmarks.mini import heads
from benchmarks.mini.suite import Task, load
from lsncli.errors import UsageError
from lsncli.metrics import auroc, fpr_id_positive
from lsncli.prompts.settings import preset
from lsncli.types import Rows, unit

POSITIVE = preset("positive", epochs=2, length=3, batch_size=16)
NEGATIVE = preset("negative", epochs=2, length=3, batch_size=16)


@pytest.fixture
def task(bench: Path) -> Task:
    return load("cifar10", 0, shots=4, cache=bench)


def test_without_settings_the_head_is_hand_written(task: Task) -> None:
    head = heads.run(task, None, None, letter_tower(), scale=50.0)
    tower = letter_tower()
    words = tower.vocabulary
    for name, row in zip(task.classes, head.weights, strict=True):
        ids = words.tokenize(f"a photo of a {name}")
        vectors = words.embed(ids + [0] * (words.longest - len(ids)))
        assert_allclose(row, unit(tower.run(None, vectors[None]).numpy())[0], atol=1e-6)
    assert (head.classes, head.scale, head.negative) == (task.classes, 50.0, None)


def test_a_full_head_has_learned_both_sides(task: Task) -> None:
    hand = heads.run(task, None, None, letter_tower())
    head = heads.run(task, POSITIVE, NEGATIVE, letter_tower())
    assert head.weights.shape == (6, 16)
    assert head.negative is not None
    assert head.negative.shape == (3, 6, 16)
    assert_allclose(np.linalg.norm(head.weights, axis=-1), 1)
    assert_allclose(np.linalg.norm(head.negative, axis=-1), 1)
    assert not np.allclose(head.weights, hand.weights, atol=0.01)


def test_several_positive_prompts_become_their_unit_mean(task: Task) -> None:
    three = replace(POSITIVE, sets=3)
    text = heads.learn_text(task, three, letter_tower()).features
    assert text.shape == (3, 6, 16)
    head = heads.run(task, three, None, letter_tower())
    for label in range(6):
        total = text[0, label] + text[1, label] + text[2, label]
        assert_allclose(head.weights[label], total / np.linalg.norm(total), atol=1e-12)


def test_figures_are_means_over_the_ood_sets_of_the_definitions(bench: Path) -> None:
    task = load("imagenette", 0, shots=4, cache=bench)
    head = heads.run(task, None, None, letter_tower())
    mcm, sharp = heads.evaluate_head(head, task, [("mcm", {}), ("mcm", {"tau": 0.01})])

    def scores(features: np.ndarray, tau: float) -> np.ndarray:
        logits = np.exp(unit(features) @ head.weights.T / tau)
        return (logits / logits.sum(1, keepdims=True)).max(1)

    for found, tau in ((mcm, 1.0), (sharp, 0.01)):
        inside = scores(task.test_id.features, tau)
        pairs = [(inside, scores(features, tau)) for features in task.test_ood.values()]
        assert found.fpr95 == pytest.approx(np.mean([fpr_id_positive(*pair) for pair in pairs]))
        assert found.auroc == pytest.approx(np.mean([auroc(*pair) for pair in pairs]))
        assert list(found.by_ood) == list(task.test_ood)
        right = (unit(task.test_id.features) @ head.weights.T).argmax(1) == task.test_id.labels
        assert found.accuracy == pytest.approx(right.mean())
    assert (mcm.method, sharp.method) == ("mcm", "mcm,tau=0.01")


def test_learning_tells_the_classes_of_this_benchmark_apart(task: Task) -> None:
    settings = preset("positive", epochs=40, length=3, batch_size=24, rate=0.2, specific=True)
    hand, learned = (heads.run(task, one, None, letter_tower()) for one in (None, settings))
    before, after = (heads.evaluate_head(head, task, [("mcm", {})])[0] for head in (hand, learned))
    assert after.accuracy > before.accuracy + 0.2


def test_what_was_learned_is_read_again(task: Task, bench: Path, monkeypatch) -> None:
    first = heads.learn_text(task, NEGATIVE, letter_tower(), bench)
    monkeypatch.setattr(heads, "learn", None)
    again = heads.learn_text(task, NEGATIVE, letter_tower(), bench)
    assert first.features.tobytes() == again.features.tobytes()
    assert first.history == again.history
    assert len(first.history) == 2
    assert first.seconds > 0
    assert (again.seconds, again.cpu_seconds) == (first.seconds, first.cpu_seconds)
    assert [path.suffix for path in (bench / "learned").iterdir()] == [".npz"]


def test_anything_that_learning_depends_on_changes_the_digest(task: Task, bench: Path, monkeypatch) -> None:
    def digest(task: Task = task, settings=POSITIVE, seed: int = 0) -> str:
        return heads.digest(task, settings, letter_tower(seed))

    base = digest()
    assert digest() == base
    turned = Rows(task.train.features[::-1], task.train.labels)
    others = [
        digest(replace(task, train=turned)),
        digest(replace(task, classes=tuple(name.upper() for name in task.classes))),
        digest(settings=replace(POSITIVE, seed=1)),
        digest(settings=replace(POSITIVE, score={"tau": 2.0})),
        digest(seed=1),
    ]
    monkeypatch.setattr(heads, "code_of", lambda *_, **__: "another")
    others.append(digest())
    assert len({base, *others}) == 7


def test_only_what_learning_depends_on_changes_the_digest(bench: Path) -> None:
    one, other = (load("cifar+10", split, shots=3, cache=bench) for split in (0, 4))
    tower = letter_tower()
    assert heads.digest(one, POSITIVE, tower) == heads.digest(other, POSITIVE, tower)


def test_text_that_depends_on_the_image_is_refused(task: Task) -> None:
    with pytest.raises(UsageError, match="text is fixed, in fp32; found the learner 'cocoop' in fp32"):
        heads.run(task, preset("positive", learner="cocoop"), None, letter_tower())
