"""The learner: it learns, it repeats, it goes on where it was, and each step is that of the equations."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from learning_samples import ROWS, TOWER, learn_by_hand, learned, small
from tower_samples import CLASSES, DIM, VOCABULARY, WIDTH, tower

from lsncli.prompts.learner import META_REDUCTION, LearnedContexts, learn, settings_layout, steps
from lsncli.prompts.loop import Checkpoint
from lsncli.types import unit

VARIANTS = [
    (learner, kind, mode)
    for learner in ("coop", "cocoop")
    for kind in ("positive", "negative")
    for mode in ("paper", "official")
]


@pytest.fixture(autouse=True)
def three_hidden_units(monkeypatch) -> None:
    """In CoCoOp's network, where a sixteenth of D = 6 would be a single one, dead as likely as not."""
    monkeypatch.setattr("lsncli.prompts.learner.META_REDUCTION", 2)


def tensors(found: LearnedContexts) -> dict[str, torch.Tensor]:
    return {"contexts": found.contexts} | found.meta


def same(one: LearnedContexts, other: LearnedContexts) -> bool:
    """To the bit."""
    first, second = tensors(one), tensors(other)
    return (
        first.keys() == second.keys()
        and all(torch.equal(first[name], second[name]) for name in first)
        and np.array_equal(one.text, other.text)
        and one.history == other.history
    )


@pytest.mark.parametrize(
    ("learner", "kind", "mode", "changes"),
    [
        *((*variant, {}) for variant in VARIANTS),
        # Adam hardly tells small from large, and the loss of the images outweighs that of the sets.
        *((*variant, {"optimizer": "sgd", "weight": 20.0}) for variant in VARIANTS if "negative" in variant),
    ],
)
def test_steps_are_those_written_out_from_the_equations(learner, kind, mode, changes) -> None:
    """Two steps of each kind; in official mode set k is pushed from the fresh text of the sets before it."""
    settings = small(kind, mode, learner, **changes)
    start = learned(replace(settings, rate=1e-30))  # too small to move anything
    expected = learn_by_hand(ROWS, settings, start)
    found = tensors(learned(settings))
    assert len(expected) == {"positive": 1, "negative": 3}[kind]
    for k, one in enumerate(expected):
        assert one.keys() == found.keys()
        for name, value in one.items():
            moved = torch.dist(value, tensors(start)[name][k])
            assert moved > 1e-6
            assert torch.dist(found[name][k], value) < 1e-3 * moved + 1e-7, (k, name)


@pytest.mark.parametrize(("learner", "kind", "mode"), VARIANTS)
def test_whoever_goes_on_after_any_epoch_ends_with_the_same_bits(learner, kind, mode) -> None:
    settings = small(kind, mode, learner, sets=2, epochs=3, batch_size=5)
    kept: list[Checkpoint] = []
    ticks: list[int] = []
    whole = learned(settings, on_epoch=kept.append, progress=lambda n, note="": ticks.append(n))
    assert [checkpoint.history for checkpoint in kept] == [whole.history[: i + 1] for i in range(3)]
    assert sum(ticks) == steps(len(ROWS), settings)
    for checkpoint in kept:
        ticks.clear()
        later: list[Checkpoint] = []
        again = learned(
            settings,
            resume=checkpoint,
            on_epoch=later.append,
            progress=lambda n, note="": ticks.append(n),
        )
        assert same(again, whole)
        assert sum(ticks) == steps(len(ROWS), settings)
        assert len(later) == 3 - len(checkpoint.history)


@pytest.mark.parametrize(("learner", "kind", "mode"), VARIANTS)
def test_the_seed_decides_everything(learner, kind, mode) -> None:
    settings = small(kind, mode, learner, sets=2, batch_size=5)
    state = torch.get_rng_state()
    first, again, other = (learned(replace(settings, seed=seed)) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)  # nobody else's random numbers were taken
    assert same(first, again)
    assert not torch.equal(first.contexts, other.contexts)
    assert first.history != other.history


@pytest.mark.parametrize("mode", ["paper", "official"])
def test_positive_prompts_learn(mode) -> None:
    found = learned(small("positive", mode, length=4, epochs=40, rate=0.1))
    assert found.contexts.shape == (1, 4, WIDTH)
    assert found.text.shape == (1, 3, DIM)
    assert found.meta == {}
    assert len(found.history) == 40
    assert found.history[-1] < 0.8 * found.history[0]
    assert ((unit(ROWS.features) @ found.text[0].T).argmax(axis=-1) == ROWS.labels).mean() > 0.8


@pytest.mark.parametrize("mode", ["paper", "official"])
def test_negative_prompts_learn_to_say_no(mode) -> None:
    found = learned(small("negative", mode, length=4, epochs=40, rate=0.1))
    assert found.contexts.shape == (3, 3, 4, WIDTH)
    assert found.text.shape == (3, 3, DIM)
    assert found.history[-1] < found.history[0]
    cosines = np.einsum("nd,kcd->knc", unit(ROWS.features), found.text)
    refused = cosines.argmin(axis=-1) == ROWS.labels
    assert refused.mean() > 0.8  # the own class's "not" fits an image least; chance is a third


@pytest.mark.parametrize("kind", ["positive", "negative"])
def test_cocoop_learns_contexts_and_a_network_for_each_set(kind) -> None:
    settings = small(kind, "paper", "cocoop", sets=2, epochs=8, rate=0.03)
    found = learned(settings)
    start = learned(replace(settings, epochs=1, rate=1e-30))
    assert found.contexts.shape == ((2, 2, WIDTH) if kind == "positive" else (2, 3, 2, WIDTH))
    shapes = {name: tuple(tensor.shape) for name, tensor in found.meta.items()}
    hidden = DIM // 2
    assert shapes == {
        "hidden.weight": (2, hidden, DIM),
        "hidden.bias": (2, hidden),
        "out.weight": (2, WIDTH, hidden),
        "out.bias": (2, WIDTH),
    }
    assert found.text is None
    assert found.history[-1] < found.history[0]
    for name, tensor in tensors(found).items():
        for k in range(2):
            assert not torch.equal(tensor[k], tensors(start)[name][k])
        assert not torch.equal(tensor[0], tensor[1])
        assert not tensor.requires_grad


def test_cocoops_network_is_a_sixteenth_as_wide_as_the_image_features_and_at_least_one(monkeypatch) -> None:
    assert META_REDUCTION == 16
    monkeypatch.setattr("lsncli.prompts.learner.META_REDUCTION", 16)
    assert learned(small("positive", "paper", "cocoop")).meta["hidden.weight"].shape == (1, 1, DIM)


def test_text_features_are_those_of_the_learned_contexts() -> None:
    for kind in ("positive", "negative"):
        settings = small(kind, sets=2)
        found = learned(settings)
        text = TOWER.encoder(settings_layout(TOWER, CLASSES, settings))(found.contexts)
        assert found.text.dtype == np.float64
        np.testing.assert_allclose(found.text, text.numpy(), atol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(found.text, axis=-1), 1, rtol=1e-12)


def test_several_positive_prompts_go_their_own_ways() -> None:
    found = learned(small("positive", sets=3))
    assert found.contexts.shape == (3, 2, WIDTH)
    assert found.text.shape == (3, 3, DIM)
    assert len({tuple(context.flatten().tolist()) for context in found.contexts}) == 3


def test_sets_that_start_from_the_same_words_come_apart() -> None:
    found = learned(small("negative", init="no", specific=False, rate=1e-30))
    words = VOCABULARY.embed(VOCABULARY.tokenize("no"))
    assert found.contexts.shape == (3, 2, WIDTH)
    assert (found.contexts - words).abs().max() < 0.1
    assert len({tuple(context.flatten().tolist()) for context in found.contexts}) == 3


def test_without_orthogonality_joint_sets_are_the_sum_of_sets_alone() -> None:
    """All rows a step, so that the order of the rows does not matter: turns or not is all the same."""
    together = learned(small("negative", weight=0.0))
    in_turns = learned(small("negative", weight=0.0, turns=True))
    torch.testing.assert_close(together.contexts, in_turns.contexts, rtol=0, atol=1e-4)
    np.testing.assert_allclose(together.history, 3 * np.array(in_turns.history), rtol=1e-4)


@pytest.mark.parametrize(
    ("learner", "kind"), [("coop", "positive"), ("coop", "negative"), ("cocoop", "negative")]
)
def test_little_memory_changes_nothing_but_rounding(learner, kind) -> None:
    settings = small(kind, "paper", learner, batch_size=5)
    whole, pieces = learned(settings), learned(settings, memory=1)
    torch.testing.assert_close(pieces.contexts, whole.contexts, rtol=0, atol=1e-5)
    np.testing.assert_allclose(pieces.history, whole.history, rtol=1e-5)


@pytest.mark.parametrize(
    "changes", [{"position": "front"}, {"position": "middle"}, {"names": False, "specific": True}]
)
@pytest.mark.parametrize("learner", ["coop", "cocoop"])
def test_the_prompt_is_the_one_that_was_asked_for(changes, learner) -> None:
    for kind in ("positive", "negative"):
        settings = small(kind, "paper", learner, epochs=1, **changes)
        other = replace(settings, position="end", names=True)
        assert learned(settings).contexts.shape == learned(other).contexts.shape
        assert learned(settings).history != learned(other).history


@pytest.mark.parametrize(
    ("mode", "size", "expected"),
    [("paper", 5, 2 * 3), ("official", 5, 2 * 3 * 3), ("paper", 12, 2), ("official", 99, 2 * 3)],
)
def test_ticks_add_up_to_the_steps_that_were_promised(mode, size, expected) -> None:
    settings = small("negative", mode, batch_size=size)
    ticks: list[tuple[int, str]] = []
    learned(settings, progress=lambda n, note="": ticks.append((n, note)))
    assert len(ticks) == sum(n for n, _ in ticks) == steps(len(ROWS), settings) == expected
    assert all(note.startswith("loss ") and ", rate 0.0" in note for _, note in ticks)


def test_a_half_precision_tower_leaves_contexts_in_full() -> None:
    half = tower(torch.bfloat16)
    found = learn(half, ROWS, CLASSES, small("positive", epochs=3))
    assert found.contexts.dtype == torch.float32
    assert found.text.dtype == np.float64
    exact = learned(small("positive", epochs=3))
    assert torch.dist(found.contexts, exact.contexts) < 0.1 * exact.contexts.norm()
