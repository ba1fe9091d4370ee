"""The text towers of prompt learning against a plain pass over whole prompts: features and gradients.

Inputs are fresh in every run. A failure names its seed; ``PROOF_SEED=<seed>`` repeats it. The plain pass is
benchmarks/speed/plain_learning.py: every token of every prompt through the open_clip model's own modules.
"""

import os
import random
from functools import cache

import pytest
import torch
from torch import Tensor

from benchmarks.speed import plain_learning
from benchmarks.speed.models import Model, class_names, text_model
from lsncli.backbones.text import text_tower
from lsncli.errors import LsnError, Unavailable
from lsncli.prompts.kernels import KERNELS, pick_kernel
from lsncli.prompts.layout import TextTower, context_layout, text_layout
from lsncli.prompts.text_features import bounded

CLOSE = 2e-5
"""||ours - plain|| / ||plain||."""

ONE_TOKEN = "x"
MANY_TOKENS = "a rather long class name of words"
WORDS = ["red", "shark", "mountain", "Xylophone", "st. bernard", "o'clock", "42", "zebra-like", "é", "very"]

VARIANTS = {
    "gelu": {},
    "projection bias": {"proj_bias": True},
    "no projection": {"proj_type": "none"},
    "small eps, narrow mlp": {"norm_kwargs": {"eps": 1e-6}, "mlp_ratio": 2.0},
    "eos pooling": {"pool_type": "eos", "eos_id": 49407},
    "one layer, one head": {"layers": 1, "heads": 1},
    "layer scale": {"ls_init_value": 0.3},
    "scaled attention": {"scale_attn": True, "qk_norm": True},
}


@pytest.fixture
def seed() -> int:
    return int(os.environ.get("PROOF_SEED", random.SystemRandom().randrange(2**31)))


@pytest.fixture(params=KERNELS[1:])
def kernel(request: pytest.FixtureRequest) -> str:
    try:
        return pick_kernel(request.param, 512, torch.device("cpu"), torch.float32)
    except Unavailable as error:
        pytest.skip(error.message)


@cache
def full_size(name: str) -> Model:
    """The text tower of a real architecture, random weights."""
    return text_model(name)


@cache
def towers_of(name: str) -> list[TextTower]:
    """The program's, with every kernel that works here."""
    return [full_size(name).tower(kernel) for kernel in KERNELS[1:] if works(kernel)]


def works(kernel: str) -> bool:
    try:
        return pick_kernel(kernel, 512, torch.device("cpu"), torch.float32) == kernel
    except Unavailable:
        return False


def drawn_names(count: int, seed: int) -> list[str]:
    """Class names of one token to many."""
    draw = random.Random(seed)
    drawn = [" ".join(draw.choices(WORDS, k=draw.randint(1, 4))) for _ in range(count)]
    return ([ONE_TOKEN, MANY_TOKENS, *drawn] if count > 2 else [draw.choice(WORDS), MANY_TOKENS])[:count]


def difference(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    assert expected.norm() > 0
    return float((found - expected).norm() / expected.norm())


def plain(
    model: Model, names: list[str], contexts: Tensor, direction: Tensor, position: str
) -> tuple[Tensor, Tensor]:
    """Features (G, C, D) and the gradient of contexts (G, [C,] M, W), one group after the other."""
    frame = plain_learning.template(model.clip, model.tokenizer, names, contexts.shape[-2], position)
    run = plain_learning.text_pass(model.clip, frame)
    leaves = [context.clone().requires_grad_() for context in contexts]
    features = torch.stack([run(leaf) for leaf in leaves])
    (features * direction).sum().backward()
    return features.detach(), torch.stack([leaf.grad for leaf in leaves if leaf.grad is not None])


def check(
    towers: list[TextTower],
    model: Model,
    names: list[str],
    seed: int,
    *,
    length: int = 4,
    specific: bool = False,
    groups: int = 1,
    position: str = "end",
    memory: int = 0,
) -> None:
    """Features and gradients of every tower are the plain pass's. An empty name: prompts without names."""
    generator = torch.Generator().manual_seed(seed)
    shape = (groups, *((len(names),) if specific else ()), length, model.width)
    contexts = 0.1 * torch.randn(shape, generator=generator)
    direction = torch.randn(groups, len(names), model.features, generator=generator)
    features, gradient = plain(model, names, contexts, direction, position)
    for tower in towers:
        layout = context_layout(
            tower.vocabulary, names, length, position=position, names=any(names), specific=specific
        )
        encode = bounded(tower, layout, memory) if memory else tower.encoder(layout)
        leaf = contexts.clone().requires_grad_()
        found = encode(leaf)
        (found * direction).sum().backward()
        what = f"{tower.path}, PROOF_SEED={seed}, names {names[:5]}"
        assert difference(found.detach(), features) <= CLOSE, f"features: {what}"
        assert difference(leaf.grad, gradient) <= CLOSE, f"gradient: {what}"


@pytest.mark.slow
def test_a_hundred_classes_of_a_full_size_tower(seed: int) -> None:
    check(towers_of("ViT-B-32"), full_size("ViT-B-32"), class_names(100), seed, length=16)


@pytest.mark.parametrize("specific", [False, True], ids=["shared", "specific"])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("name", ["ViT-B-32", "RN50"])
def test_few_classes_of_full_size_towers(name: str, count: int, specific: bool, seed: int) -> None:
    towers = towers_of(name)
    assert [tower.path for tower in towers] == [f"fast ({kernel})" for kernel in KERNELS[1:] if works(kernel)]
    check(towers, full_size(name), drawn_names(count, seed), seed, length=16, specific=specific)


def test_full_size_contexts_in_groups_and_chunks(seed: int) -> None:
    check(towers_of("ViT-B-32"), full_size("ViT-B-32"), drawn_names(3, seed), seed, groups=2, memory=1)


@pytest.fixture(scope="module", params=VARIANTS)
def small(request: pytest.FixtureRequest) -> Model:
    return text_model("tiny", noise=0.1, **VARIANTS[request.param])


@pytest.fixture(scope="module")
def tiny() -> Model:
    return text_model("tiny-quickgelu", noise=0.1)


@pytest.mark.parametrize("specific", [False, True], ids=["shared", "specific"])
def test_every_kind_of_small_tower(small: Model, specific: bool, seed: int) -> None:
    check([small.tower("torch")], small, drawn_names(5, seed), seed, specific=specific, groups=2)


def test_only_towers_with_clips_own_blocks_take_the_fast_path() -> None:
    paths = {name: text_model("tiny", **changes).tower("torch").path for name, changes in VARIANTS.items()}
    slow = {name for name, path in paths.items() if path.startswith("plain")}
    assert slow == {"layer scale", "scaled attention"}, paths


@pytest.mark.parametrize("position", ["end", "middle", "front"])
@pytest.mark.parametrize("specific", [False, True], ids=["shared", "specific"])
@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("length", [1, 5])
def test_every_position_of_the_name(
    tiny: Model, kernel: str, seed: int, position: str, specific: bool, count: int, length: int
) -> None:
    names = drawn_names(count, seed)
    check(
        [tiny.tower(kernel)], tiny, names, seed, length=length, specific=specific, groups=3, position=position
    )


@pytest.mark.parametrize("count", [1, 2, 7])
def test_prompts_without_names(tiny: Model, kernel: str, seed: int, count: int) -> None:
    check([tiny.tower(kernel)], tiny, [""] * count, seed, specific=True, groups=2)


def test_names_that_begin_alike(tiny: Model, kernel: str, seed: int) -> None:
    names = ["red", "red shark", "red shark very", "red shark"]
    for specific in (False, True):
        check([tiny.tower(kernel)], tiny, names, seed, specific=specific)


@pytest.mark.parametrize("specific", [False, True], ids=["shared", "specific"])
@pytest.mark.parametrize("position", ["end", "middle", "front"])
@pytest.mark.parametrize("share", [0.0, 0.4, 1.5])
def test_chunks_change_nothing(tiny: Model, seed: int, specific: bool, position: str, share: float) -> None:
    tower, names = tiny.tower("torch"), drawn_names(7, seed)
    layout = context_layout(tower.vocabulary, names, 4, position=position, specific=specific)
    memory = max(1, int(share * tower.activation_bytes(layout)))
    check([tower], tiny, names, seed, specific=specific, groups=3, position=position, memory=memory)


def test_chunks_of_the_plain_path_change_nothing(seed: int) -> None:
    model = text_model("tiny", noise=0.1, ls_init_value=0.3)
    names = drawn_names(3, seed)
    check([model.tower("torch")], model, names, seed, specific=True, groups=2, memory=1)


def test_a_tower_without_a_causal_mask_gives_its_own_features(seed: int) -> None:
    """SigLIP's kind: every token sees every other, padding too, and the last place is read."""
    model = text_model("tiny", noise=0.1, no_causal_mask=True, pool_type="last", proj_bias=True)
    tower = text_tower(model.clip, model.tokenizer)
    assert tower.path.startswith("plain (no causal mask")
    names = drawn_names(6, seed)
    texts = [f"a photo of {name}." for name in names]
    with torch.no_grad():
        expected = model.clip.encode_text(model.tokenizer(texts), normalize=True)
    words = tower.vocabulary.embed(tower.vocabulary.tokenize("a photo of"))
    for specific in (False, True):
        contexts = words.expand(len(names), -1, -1) if specific else words
        found = tower.encoder(context_layout(tower.vocabulary, names, 3, specific=specific))(contexts[None])[
            0
        ]
        assert difference(found, expected) <= CLOSE, f"PROOF_SEED={seed}"
    nothing = torch.empty(1, 0, model.width)
    found = tower.encoder(text_layout(tower.vocabulary, texts))(nothing)[0]
    assert difference(found, expected) <= CLOSE, f"PROOF_SEED={seed}"


def test_gradients_without_a_causal_mask_are_those_of_the_embeddings(seed: int) -> None:
    model = text_model("tiny", noise=0.1, no_causal_mask=True, pool_type="last")
    tower = text_tower(model.clip, model.tokenizer)
    names, generator = drawn_names(6, seed)[2:], torch.Generator().manual_seed(seed)
    direction = torch.randn(len(names), model.features, generator=generator)
    words = tower.vocabulary.embed(tower.vocabulary.tokenize("a photo of")).requires_grad_()
    (tower.encoder(context_layout(tower.vocabulary, names, 3))(words[None])[0] * direction).sum().backward()

    table: Tensor = model.clip.text.token_embedding.weight
    table.requires_grad_()
    texts = model.tokenizer([f"a photo of {name}." for name in names])
    (model.clip.encode_text(texts, normalize=True) * direction).sum().backward()
    ids = tower.vocabulary.tokenize("a photo of")
    assert not set(ids) & {token for name in names for token in model.tokenizer.encode(name)}
    assert difference(words.grad, table.grad[ids]) <= CLOSE, f"PROOF_SEED={seed}"


@pytest.mark.parametrize("position", ["end", "middle", "front"])
@pytest.mark.parametrize(
    "changes", [{}, {"no_causal_mask": True, "pool_type": "last"}], ids=["fast", "plain"]
)
def test_a_prompt_that_does_not_fit_is_named(position: str, changes: dict[str, object]) -> None:
    tower = text_model("tiny", **changes).tower()
    fits = tower.vocabulary.longest - 3 - len(tower.vocabulary.tokenize(MANY_TOKENS))
    context_layout(tower.vocabulary, [ONE_TOKEN, MANY_TOKENS], fits, position=position)
    with pytest.raises(LsnError, match=f"class '{MANY_TOKENS}' needs 25 tokens.* at most 24"):
        context_layout(tower.vocabulary, [ONE_TOKEN, MANY_TOKENS], fits + 1, position=position)
    with pytest.raises(LsnError, match=r"the text 'many many.* at most 24"):
        text_layout(tower.vocabulary, ["short", "many " * 30])
