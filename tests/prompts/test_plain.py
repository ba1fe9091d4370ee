"""The plain path: whole prompts through any encoder, learned vectors in the place of words."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from lsncli.prompts.layout import PromptLayout, Vocabulary, context_layout, text_layout
from lsncli.prompts.plain_tower import PlainTower
from lsncli.prompts.text_features import bounded

START, END, PAD, PLACEHOLDER = 30, 31, 0, 7
WIDTH, LONGEST, DIM = 6, 12, 5
GENERATOR = torch.Generator().manual_seed(2)
EMBEDDING = torch.randn(32, WIDTH, generator=GENERATOR)
MIX = torch.randn(LONGEST, WIDTH, DIM, generator=GENERATOR)
VOCABULARY = Vocabulary(lambda text: [1 + ord(c) % 29 for c in text], (START,), (END,), EMBEDDING, LONGEST)
NAMES = ["ox", "hen", "beaver"]


def encode(ids: Tensor, embeddings: Tensor) -> Tensor:
    """Both ways through a prompt, and sensitive to where a token stands and which it is."""
    assert ids.shape == embeddings.shape[:2]
    assert ids.shape[1] == LONGEST
    mixed = torch.einsum("nlw,lwd->nd", embeddings.tanh(), MIX) + (embeddings.sum((1, 2)) ** 2)[:, None]
    return mixed + ids.float() @ torch.linspace(0, 1, LONGEST)[:, None]


TOWER = PlainTower(VOCABULARY, encode, PAD, PLACEHOLDER, "pooling 'all'")


def naive(layout: PromptLayout, contexts: Tensor) -> Tensor:
    """One prompt at a time, one vector at a time."""
    groups = []
    for group in contexts:
        features = []
        for row, prompt in enumerate(layout.prompts):
            context = group[row] if layout.specific else group
            padded = [*prompt, *[PAD] * (LONGEST - len(prompt))]
            vectors = [context[~token] if token < 0 else EMBEDDING[token] for token in padded]
            ids = torch.tensor([[PLACEHOLDER if token < 0 else token for token in padded]])
            features.append(normalize(encode(ids, torch.stack(vectors)[None])[0], dim=0))
        groups.append(torch.stack(features))
    return torch.stack(groups)


@pytest.mark.parametrize("position", ["end", "middle", "front"])
@pytest.mark.parametrize("specific", [False, True])
def test_features_and_gradients_are_those_of_a_naive_splice(position, specific: bool) -> None:
    layout = context_layout(VOCABULARY, NAMES, 3, position=position, specific=specific)
    shape = (2, 3, 3, WIDTH) if specific else (2, 3, WIDTH)
    contexts = torch.randn(shape, generator=torch.Generator().manual_seed(5))
    ours, theirs = contexts.clone().requires_grad_(), contexts.clone().requires_grad_()
    found, expected = TOWER.encoder(layout)(ours), naive(layout, theirs)
    assert (found.shape, found.dtype) == ((2, 3, DIM), torch.float32)
    torch.testing.assert_close(found, expected)
    direction = torch.randn(found.shape, generator=torch.Generator().manual_seed(6))
    (found * direction).sum().backward()
    (expected * direction).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    assert ours.grad.abs().min() > 0


def test_contexts_without_names_are_spliced_too() -> None:
    layout = context_layout(VOCABULARY, NAMES, 2, names=False, specific=True)
    contexts = torch.randn(1, 3, 2, WIDTH, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(TOWER.encoder(layout)(contexts), naive(layout, contexts))


def test_plain_texts_have_no_context() -> None:
    layout = text_layout(VOCABULARY, [*NAMES, ""])
    nothing = torch.empty(1, 0, WIDTH)
    found = TOWER.encoder(layout)(nothing)
    torch.testing.assert_close(found, naive(layout, nothing))
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(1, 4))


def test_an_encoder_can_be_used_again_and_leaves_the_vocabulary_alone() -> None:
    before = EMBEDDING.clone()
    run = TOWER.encoder(context_layout(VOCABULARY, NAMES, 2))
    first = run(torch.ones(1, 2, WIDTH))
    run(torch.zeros(3, 2, WIDTH))
    assert torch.equal(run(torch.ones(1, 2, WIDTH)), first)
    assert torch.equal(EMBEDDING, before)


def test_activation_bytes_are_what_the_gradient_keeps() -> None:
    weight = torch.randn(WIDTH, 4, requires_grad=False)

    def tower(run) -> PlainTower:
        return PlainTower(VOCABULARY, lambda _, embeddings: run(embeddings), PAD, PLACEHOLDER, "")

    layout = text_layout(VOCABULARY, NAMES)
    number = 3 * LONGEST * 4  # float32 values of one column of three prompts
    # exp keeps its result; a product with a frozen matrix keeps that matrix, which is no activation.
    assert tower(lambda x: x.exp().sum(1)).activation_bytes(layout) == number * WIDTH
    assert tower(lambda x: (x @ weight).exp().sum(1)).activation_bytes(layout) == number * 4
    assert tower(lambda x: (x @ weight).sum(1)).activation_bytes(layout) == 0
    # Kept twice, but in memory once.
    assert tower(lambda x: (x.exp() * x.exp().detach()).sum(1)).activation_bytes(layout) == 2 * number * WIDTH
    assert tower(lambda x: (y := x.exp()).mul(y).sum(1)).activation_bytes(layout) == number * WIDTH
    with torch.no_grad():
        assert tower(lambda x: x.exp().sum(1)).activation_bytes(layout) == number * WIDTH


def test_a_bound_on_memory_changes_nothing() -> None:
    layout = context_layout(VOCABULARY, NAMES, 2, specific=True)
    contexts = torch.randn(2, 3, 2, WIDTH, generator=torch.Generator().manual_seed(1))
    found = []
    for encoder in (TOWER.encoder(layout), bounded(TOWER, layout, 1)):
        leaf = contexts.clone().requires_grad_()
        features = encoder(leaf)
        features.pow(3).sum().backward()
        found.append((features.detach(), leaf.grad))
    torch.testing.assert_close(*found)


def test_it_says_which_path_it_is_and_why() -> None:
    assert TOWER.path == "plain (pooling 'all')"
    assert TOWER.device == torch.device("cpu")
