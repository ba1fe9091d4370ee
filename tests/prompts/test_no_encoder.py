"""Learning a "no" encoder, on an encoder small enough to check by hand."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize
from tower_samples import random

from lsncli.errors import LsnError, UsageError
from lsncli.prompts.clipn import PROMPTS, NoSettings, TextFunction, learn_no, objective, steps, text_rows

LONGEST, WIDTH, DIM = 3, 4, 5
CAPTIONS = ["abc", "bca", "cab", "aab", "ccc", "bab", "acb"]
SETTINGS = NoSettings(prompts=2, epochs=3, batch_size=4, rate=0.02)


def tokenize(texts) -> Tensor:
    return torch.tensor([[ord(letter) - 97 for letter in text] for text in texts])


def run(weights, ids: Tensor, added: Tensor) -> Tensor:
    words = (weights["words"][ids] + added).tanh().flatten(1)
    return words @ weights["out"] + weights["shift"]


def encoder() -> TextFunction:
    weights = {
        "words": random(3, WIDTH, seed=1).float(),
        "out": random(LONGEST * WIDTH, DIM, seed=2).float(),
        "shift": random(DIM, seed=3).float(),
    }
    return TextFunction(weights, tokenize, run, WIDTH, LONGEST, torch.device("cpu"))


ENCODER = encoder()
YES = text_rows(ENCODER, ENCODER.weights, CAPTIONS)
IMAGES = normalize(YES + 0.3 * random(7, DIM, seed=4).float(), dim=-1)


def learned(settings: NoSettings = SETTINGS, **options):
    return learn_no(ENCODER, IMAGES, YES, CAPTIONS, 10.0, settings, **options)


def test_one_epoch_of_all_pairs_is_a_step_of_adamw_by_hand() -> None:
    settings = replace(SETTINGS, epochs=1, batch_size=7, seed=5)
    found, history = learned(settings)
    generator = torch.Generator().manual_seed(5)
    order = torch.randperm(7, generator=generator)
    which = torch.randint(3, (7,), generator=generator)
    leaves = {name: w.clone().requires_grad_() for name, w in ENCODER.weights.items()}
    leaves[PROMPTS] = torch.zeros(2, LONGEST, WIDTH, requires_grad=True)
    rows = []
    for row, number in zip(order.tolist(), which.tolist(), strict=True):
        prompt = leaves[PROMPTS].mean(0) if number == 2 else leaves[PROMPTS][number]
        rows.append(normalize(run(leaves, tokenize([CAPTIONS[row]]), prompt[None]), dim=-1)[0])
    loss = objective(IMAGES[order], YES[order], torch.stack(rows), 10.0)
    gradients = torch.autograd.grad(loss, list(leaves.values()))
    assert history == (pytest.approx(float(loss.detach()), rel=1e-5),)
    for (name, leaf), gradient in zip(leaves.items(), gradients, strict=True):
        decay = 0.2 if leaf.ndim > 1 else 0.0
        # The first step of Adam is the rate in the direction of the gradient's sign, but for eps.
        expected = leaf * (1 - 0.02 * decay) - 0.02 * gradient / (gradient.abs() + 1e-6)
        torch.testing.assert_close(found[name], expected.detach(), rtol=1e-4, atol=1e-5)


def test_the_loss_falls_and_the_yes_encoder_stays_as_it_was() -> None:
    before = {name: tensor.clone() for name, tensor in ENCODER.weights.items()}
    weights, history = learned(replace(SETTINGS, epochs=8))
    assert history[-1] < 0.8 * history[0]
    assert all(torch.equal(ENCODER.weights[name], tensor) for name, tensor in before.items())
    assert set(weights) == {*before, PROMPTS}
    assert all(not torch.equal(weights[name], tensor) for name, tensor in before.items())
    assert weights[PROMPTS].abs().sum() > 0
    assert not torch.equal(weights[PROMPTS][0], weights[PROMPTS][1])


@pytest.mark.parametrize("chunk", [1, 2, 3])
def test_pieces_of_a_batch_give_the_same_encoder(chunk: int) -> None:
    (whole, history), (cut, again) = learned(), learned(chunk=chunk)
    assert again == pytest.approx(history, rel=1e-5)
    for name, tensor in whole.items():
        torch.testing.assert_close(cut[name], tensor, rtol=0, atol=2e-4)


@pytest.mark.parametrize("room", [1, 2, 3])
def test_where_memory_runs_out_chunks_become_smaller(room: int) -> None:
    def small(weights, ids: Tensor, added: Tensor) -> Tensor:
        if len(ids) > room:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return run(weights, ids, added)

    (whole, history), tight = learned(), replace(ENCODER, run=small)
    cut, again = learn_no(tight, IMAGES, YES, CAPTIONS, 10.0, SETTINGS)
    assert again == pytest.approx(history, rel=1e-5)
    for name, tensor in whole.items():
        torch.testing.assert_close(cut[name], tensor, rtol=0, atol=2e-4)
    torch.testing.assert_close(text_rows(tight, tight.weights, CAPTIONS), YES)


def test_no_memory_for_one_caption_is_a_sentence() -> None:
    def full(*_: object) -> Tensor:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(LsnError, match="not enough memory for a step of the training") as caught:
        learn_no(replace(ENCODER, run=full), IMAGES, YES, CAPTIONS, 10.0, SETTINGS)
    assert "--batch-size" in caught.value.hint


def test_equal_seeds_give_equal_encoders_and_another_does_not() -> None:
    (one, first), (two, second), (other, _) = learned(), learned(), learned(replace(SETTINGS, seed=1))
    assert first == second
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["words"], other["words"])


def test_an_interrupted_training_goes_on_to_the_same_bits() -> None:
    whole, history = learned()
    kept = []
    learned(on_epoch=kept.append)
    assert [len(checkpoint.history) for checkpoint in kept] == [1, 2, 3]
    ticks = []
    again, same = learned(resume=kept[1], progress=lambda step, note="": ticks.append(step))
    assert same == history
    assert ticks == [4, 1, 1]
    assert all(torch.equal(again[name], tensor) for name, tensor in whole.items())


def test_a_lone_last_pair_is_left_out() -> None:
    assert (steps(7, SETTINGS), steps(5, SETTINGS), steps(4, SETTINGS)) == (6, 3, 3)
    ticks = []
    learn_no(
        ENCODER,
        IMAGES[:5],
        YES[:5],
        CAPTIONS[:5],
        10.0,
        SETTINGS,
        progress=lambda step, note="": ticks.append(step),
    )
    assert ticks == [1, 1, 1]


def test_texts_are_read_with_the_mean_no_prompt() -> None:
    prompts = random(2, LONGEST, WIDTH, seed=9).float()
    weights = ENCODER.weights | {PROMPTS: prompts}
    expected = normalize(run(weights, tokenize(CAPTIONS), prompts.mean(0).expand(7, -1, -1)), dim=-1)
    torch.testing.assert_close(text_rows(ENCODER, weights, CAPTIONS), expected)
    torch.testing.assert_close(
        YES, normalize(run(ENCODER.weights, tokenize(CAPTIONS), torch.zeros(1)), dim=-1)
    )


def test_what_cannot_be_learned_from_is_refused() -> None:
    with pytest.raises(LsnError, match="at least 2 image-caption pairs, found 1"):
        learn_no(ENCODER, IMAGES[:1], YES[:1], CAPTIONS[:1], 10.0, SETTINGS)
    with pytest.raises(UsageError, match="--chunk: expected at least 1, found 0"):
        learned(chunk=0)
    with pytest.raises(LsnError, match="Training diverged: the loss became nan"):
        learn_no(ENCODER, IMAGES * math.nan, YES, CAPTIONS, 10.0, SETTINGS)
