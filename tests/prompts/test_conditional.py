"""CoCoOp: an image at a time, a class at a time, word by word, must give what the batched passes give."""

import numpy as np
import pytest
import torch
from tower_samples import CLASSES, DIM, VOCABULARY, WIDTH, plain_features, tower, weights

from lsncli.prompts.cocoop import META, conditional_cosines, conditioned, shift
from lsncli.prompts.layout import context_layout
from lsncli.types import unit

HIDDEN, LENGTH = 3, 4


def some(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def meta_nets(sets: int) -> dict[str, torch.Tensor]:
    shapes = ((sets, HIDDEN, DIM), (sets, HIDDEN), (sets, WIDTH, HIDDEN), (sets, WIDTH))
    return {name: some(*shape, seed=i) for i, (name, shape) in enumerate(zip(META, shapes, strict=True))}


def sample(sets: int, specific: bool):
    """Contexts, meta-nets, a layout and seven raw features."""
    shape = (sets, len(CLASSES), LENGTH, WIDTH) if specific else (sets, LENGTH, WIDTH)
    layout = context_layout(VOCABULARY, CLASSES, LENGTH, specific=specific)
    features = np.random.default_rng(4).normal(size=(7, DIM)).astype(np.float16)
    return some(*shape, seed=9), meta_nets(sets), layout, features


def naive_text(contexts, meta, layout, feature) -> np.ndarray:
    """Unit text features (K, C, D) for one image: the published network, then every prompt in full length."""
    image = torch.from_numpy(unit(feature)).float()
    sets = []
    for k, context in enumerate(contexts):
        hidden = torch.relu(meta["hidden.weight"][k] @ image + meta["hidden.bias"][k])
        bias = meta["out.weight"][k] @ hidden + meta["out.bias"][k]
        sets.append(plain_features(weights(), layout, (context + bias)[None])[0])
    return unit(torch.stack(sets).numpy())


def naive(contexts, meta, layout, features) -> np.ndarray:
    """Cosines (K, N, C), one image after the other."""
    each = [naive_text(contexts, meta, layout, x) @ unit(x) for x in features]
    return np.stack(each, axis=1)


@pytest.mark.parametrize("sets", [1, 3])
@pytest.mark.parametrize("specific", [False, True])
@pytest.mark.parametrize("memory", [1, 40_000, 1 << 30])
def test_batches_equal_one_image_at_a_time(sets: int, specific: bool, memory: int) -> None:
    contexts, meta, layout, features = sample(sets, specific)
    found = conditional_cosines(tower(), contexts, meta, layout, memory)(features)
    assert (found.dtype, found.shape) == (np.float64, (sets, 7, 3))
    np.testing.assert_allclose(found, naive(contexts, meta, layout, features), rtol=0, atol=2e-6)


@pytest.mark.parametrize("sets", [1, 3])
def test_an_ensemble_is_the_unit_mean_of_text_features_image_by_image(sets: int) -> None:
    contexts, meta, layout, features = sample(sets, specific=False)
    found = conditional_cosines(tower(), contexts, meta, layout, ensemble=True)(features)
    expected = [unit(naive_text(contexts, meta, layout, x).mean(axis=0)) @ unit(x) for x in features]
    assert found.shape == (7, 3)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("chunk", [1, 2, 5])
def test_chunks_of_rows_equal_the_whole(chunk: int) -> None:
    contexts, meta, layout, features = sample(2, specific=True)
    cosines = conditional_cosines(tower(), contexts, meta, layout)
    parts = [cosines(features[at : at + chunk]) for at in range(0, 7, chunk)]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), cosines(features), rtol=0, atol=1e-6)


def test_a_meta_net_that_says_nothing_leaves_coop() -> None:
    contexts, meta, layout, features = sample(2, specific=False)
    silent = {name: torch.zeros_like(tensor) for name, tensor in meta.items()}
    found = conditional_cosines(tower(), contexts, silent, layout)(features)
    text = unit(tower().encoder(layout)(contexts).numpy())
    np.testing.assert_allclose(found, np.einsum("nd,kcd->knc", unit(features), text), rtol=0, atol=1e-6)


def test_images_change_the_text() -> None:
    contexts, meta, layout, features = sample(1, specific=False)
    text = [naive_text(contexts, meta, layout, x) for x in features[:2]]
    assert np.abs(text[0] - text[1]).max() > 1e-3


def test_only_the_direction_of_a_feature_counts() -> None:
    contexts, meta, layout, features = sample(2, specific=False)
    cosines = conditional_cosines(tower(), contexts, meta, layout)
    wide = features.astype(np.float64)
    np.testing.assert_allclose(cosines(100 * wide), cosines(wide), rtol=0, atol=1e-6)


def test_no_rows_give_no_cosines() -> None:
    contexts, meta, layout, features = sample(2, specific=False)
    assert conditional_cosines(tower(), contexts, meta, layout)(features[:0]).shape == (2, 0, 3)


def test_threads_and_gradients_are_left_as_they_were() -> None:
    contexts, meta, layout, features = sample(1, specific=False)
    contexts.requires_grad_()
    before = torch.get_num_threads()
    conditional_cosines(tower(), contexts, meta, layout)(features)
    assert (torch.get_num_threads(), torch.is_grad_enabled()) == (before, True)
    assert contexts.grad is None


def test_the_shift_of_each_set_is_its_own_networks() -> None:
    meta, images = meta_nets(2), some(5, DIM, seed=8)
    found = shift(meta, images)
    assert found.shape == (2, 5, WIDTH)
    for k in range(2):
        net = torch.nn.Sequential(
            torch.nn.Linear(DIM, HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, WIDTH)
        )
        net.load_state_dict(
            {
                f"{layer}.{part}": meta[f"{name}.{part}"][k]
                for layer, name in (("0", "hidden"), ("2", "out"))
                for part in ("weight", "bias")
            }
        )
        torch.testing.assert_close(found[k], net(images))


@pytest.mark.parametrize("specific", [False, True])
def test_contexts_of_every_image_come_set_by_set(specific: bool) -> None:
    contexts, moves = sample(2, specific)[0], some(2, 5, WIDTH, seed=3)
    found = conditioned(contexts, moves)
    assert found.shape == (10, *contexts.shape[1:])
    for k in range(2):
        for b in range(5):
            assert torch.equal(found[5 * k + b], contexts[k] + moves[k, b])


def test_gradients_reach_contexts_and_networks() -> None:
    contexts, meta, layout, features = sample(2, specific=False)
    leaves = [contexts, *meta.values()]
    for leaf in leaves:
        leaf.requires_grad_()
    images = torch.from_numpy(unit(features)).float()
    text = tower().encoder(layout)(conditioned(contexts, shift(meta, images)))
    (text * some(*text.shape, seed=2)).sum().backward()
    assert all(leaf.grad is not None and leaf.grad.abs().max() > 0 for leaf in leaves)
