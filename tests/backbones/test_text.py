"""The text tower of an open_clip model: fast where that is exact, else plain, and exact in either case."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import normalize

from lsncli.backbones.loading import ensure_torchvision
from lsncli.backbones.text import text_tower
from lsncli.errors import LsnError, UsageError
from lsncli.prompts.fast_tower import FastTower
from lsncli.prompts.layout import context_layout
from lsncli.prompts.plain_tower import PlainTower
from lsncli.prompts.text_features import text_features

ensure_torchvision()
import open_clip  # noqa: E402
from open_clip.transformer import LayerScale  # noqa: E402

TEXTS = ["a photo of a cat", "a photo of a small red bird on a wire", "dog.", "", "a"]
NAMES = ["cat", "small red bird", "ox"]
VISION = {"layers": 1, "width": 64, "head_width": 32, "patch_size": 16, "image_size": 32}
TEXT = {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
SIGLIP = {"no_causal_mask": True, "pool_type": "last", "proj_bias": True, "norm_kwargs": {"eps": 1e-6}}


def moved(model: nn.Module) -> nn.Module:
    """Every weight off its initial value: no bias is zero, no gain one."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for weight in model.parameters():
            # open_clip leaves some of a CoCa's parameters uninitialised: anything may stand there, NaN too.
            weight.nan_to_num_(0.0).clamp_(-10, 10)
            weight += 0.1 * torch.randn(weight.shape, generator=generator)
    return model.eval()


def custom(quick_gelu: bool = False, **changes: object) -> nn.Module:
    """A small CustomTextCLIP: the text encoder is a module of its own, as in SigLIP."""
    return moved(
        open_clip.CustomTextCLIP(
            embed_dim=32, vision_cfg=VISION, text_cfg=TEXT | changes, quick_gelu=quick_gelu
        )
    )


def clip(**changes: object) -> nn.Module:
    """A small CLIP: the text encoder's parts are the model's own."""
    return moved(open_clip.CLIP(embed_dim=32, vision_cfg=VISION, text_cfg=TEXT | changes))


def coca() -> nn.Module:
    """A small CoCa: a class token stands behind the text, and padding is masked."""
    decoder = {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    text = TEXT | {"embed_cls": True, "output_tokens": True}
    return moved(open_clip.CoCa(embed_dim=32, multimodal_cfg=decoder, text_cfg=text, vision_cfg=VISION))


@pytest.fixture(scope="module")
def tokenizer() -> open_clip.SimpleTokenizer:
    return open_clip.SimpleTokenizer(context_length=20)


class WordTokenizer:
    """Another tokenizer than CLIP's, shaped like open_clip's HFTokenizer: a token a word."""

    def __init__(self, start: tuple[int, ...] = (), end: tuple[int, ...] = (1,), pad: int = 1) -> None:
        self.start, self.end, self.context_length = start, end, 20
        self.tokenizer = Words(self.ids, pad)
        self.clean_fn = str.lower

    def ids(self, text: str, add_special_tokens: bool) -> list[int]:
        words = [10 + sum(map(ord, word)) for word in text.replace(".", " .").split()]
        return [*self.start, *words, *self.end] if add_special_tokens else words

    def __call__(self, texts: list[str], context_length: int = 20) -> Tensor:
        rows = [self.ids(self.clean_fn(text), True) for text in texts]
        pad = [self.tokenizer.pad_token_id]
        return torch.tensor([row + pad * (context_length - len(row)) for row in rows])


class Words:
    """The tokenizer of transformers inside it."""

    def __init__(self, ids: Callable[[str, bool], list[int]], pad: int) -> None:
        self.ids, self.pad_token_id = ids, pad

    def __call__(self, text: str, add_special_tokens: bool) -> SimpleNamespace:
        return SimpleNamespace(input_ids=self.ids(text, add_special_tokens))


def same_features(model: Any, tokenizer: Any, tower: Any) -> None:
    """Every text's features are those that the model itself gives."""
    with torch.no_grad():
        expected = model.encode_text(tokenizer(TEXTS), normalize=True)
    torch.testing.assert_close(text_features(tower, TEXTS), expected, rtol=0, atol=2e-6)


FAST: dict[str, Callable[[], nn.Module]] = {
    "CLIP": clip,
    "its own module": custom,
    "QuickGELU": lambda: custom(quick_gelu=True),
    "biased projection": lambda: custom(proj_bias=True),
    "no projection": lambda: custom(proj_type="none"),
    "another epsilon": lambda: custom(norm_kwargs={"eps": 1e-2}),
    "pooling at a named end": lambda: custom(pool_type="eos", eos_id=49407),
    "wide blocks": lambda: clip(mlp_ratio=6.5),
}


@pytest.mark.parametrize("make", FAST.values(), ids=FAST.keys())
def test_clips_own_tower_is_fast_and_gives_its_own_features(make, tokenizer) -> None:
    model = make()
    tower = text_tower(model, tokenizer, kernel="torch")
    assert isinstance(tower, FastTower)
    assert tower.path == "fast (torch)"
    assert (tower.vocabulary.width, tower.vocabulary.longest) == (32, 20)
    same_features(model, tokenizer, tower)


@pytest.mark.parametrize("name", ["RN50", "ViT-B-32-quickgelu"])
def test_the_text_towers_of_the_paper_are_fast(name: str) -> None:
    """The real text tower behind a small image tower."""
    torch.manual_seed(0)
    model = open_clip.create_model(name, vision_cfg=VISION).eval()
    tokenizer = open_clip.get_tokenizer(name)
    tower = text_tower(model, tokenizer)
    assert isinstance(tower, FastTower)
    assert (tower.vocabulary.width, tower.vocabulary.longest) == (512, 77)
    assert len(tower.weights.blocks) == 12
    same_features(model, tokenizer, tower)


def odd_mask() -> nn.Module:
    model = custom()
    model.text.attn_mask[3, 4] = 0
    return model


def late_scale() -> nn.Module:
    model = custom()
    model.text.transformer.resblocks[1].ls_2 = LayerScale(32, 0.5)
    return model


def other_activation() -> nn.Module:
    model = custom()
    model.text.transformer.resblocks[1].mlp.gelu = nn.SiLU()
    return model


PLAIN: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "SigLIP": (lambda: custom(**SIGLIP), "no causal mask, pooling 'last'"),
    "CLIPA": (lambda: clip(no_causal_mask=True, pool_type="last"), "no causal mask, pooling 'last'"),
    "MobileCLIP-S": (lambda: custom(no_causal_mask=True), "no causal mask"),
    "CoCa": (coca, "a class token"),
    "pooling in front": (lambda: clip(pool_type="first"), "pooling 'first'"),
    "pooling at a token that never comes": (lambda: clip(pool_type="eos", eos_id=2), "pooling 'eos'"),
    "layer scale": (lambda: custom(ls_init_value=0.3), "layer scale"),
    "normalised queries": (lambda: custom(qk_norm=True), "custom blocks"),
    "normalised MLP": (lambda: custom(scale_fc=True), "custom blocks"),
    "tanh": (lambda: custom(act_kwargs={"approximate": "tanh"}), "tanh GELU"),
    "one entry of the mask": (odd_mask, "no causal mask"),
    "one layer scale": (late_scale, "layer scale"),
    "one activation": (other_activation, "SiLU, gelu"),
}


@pytest.mark.parametrize(("make", "why"), PLAIN.values(), ids=PLAIN.keys())
def test_any_other_tower_is_plain_says_why_and_gives_its_own_features(make, why: str, tokenizer) -> None:
    model = make()
    tower = text_tower(model, tokenizer)
    assert isinstance(tower, PlainTower)
    assert tower.path == f"plain ({why})"
    same_features(model, tokenizer, tower)


@pytest.mark.parametrize(
    "tokenizer",
    [
        WordTokenizer(),
        WordTokenizer((0,), (2,), 1),
        WordTokenizer((3, 4), (5, 2), 0),
        WordTokenizer((49407,), (2,)),
    ],
    ids=["T5", "XLM", "NLLB", "a high start"],
)
@pytest.mark.parametrize("changes", [SIGLIP, {"pool_type": "eos", "eos_id": 2}], ids=["last", "eos"])
def test_any_tokenizer_with_ends_and_padding_serves(tokenizer, changes: dict) -> None:
    model = custom(**changes)
    tower = text_tower(model, tokenizer)
    assert tower.path.startswith("plain (")
    assert "another tokenizer" in tower.path
    same_features(model, tokenizer, tower)


@pytest.mark.parametrize("name", ["SigLIP", "CoCa", "MobileCLIP-S", "layer scale", "one entry of the mask"])
@pytest.mark.parametrize("specific", [False, True])
def test_plain_gradients_are_those_of_words_with_the_learned_embeddings(name, specific, tokenizer) -> None:
    """The reference writes the context over the embeddings of words that nothing else uses."""
    model = PLAIN[name][0]()
    tower = text_tower(model, tokenizer)
    words = torch.arange(3000, 3012).view(3, 4) if specific else torch.arange(3000, 3004)
    layout = context_layout(tower.vocabulary, NAMES, 4, position="middle", specific=specific)
    ids = torch.zeros(3, 20, dtype=torch.long)
    for row, prompt in enumerate(layout.prompts):
        own = words[row] if specific else words
        ids[row, : len(prompt)] = torch.tensor([own[~t] if t < 0 else t for t in prompt])
    contexts = torch.randn(*words.shape, 32, generator=torch.Generator().manual_seed(1))
    ours, theirs = contexts.clone().requires_grad_(), contexts.clone().requires_grad_()
    found = tower.encoder(layout)(ours[None])[0]
    table = model.text.token_embedding.weight.detach().index_put((words,), theirs)
    expected = functional_call(model.text, {"token_embedding.weight": table}, (ids,))
    expected = normalize(expected[0] if name == "CoCa" else expected, dim=-1)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)
    direction = torch.randn(found.shape, generator=torch.Generator().manual_seed(2))
    (found * direction).sum().backward()
    (expected * direction).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5)
    assert ours.grad.norm() > 1e-3


def test_the_model_is_left_as_it_is(tokenizer) -> None:
    model = custom(**SIGLIP)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    tower = text_tower(model, tokenizer, precision="bf16")
    context = torch.zeros(1, 4, 32, requires_grad=True)
    tower.encoder(context_layout(tower.vocabulary, NAMES, 4))(context).sum().backward()
    assert context.grad is not None
    assert all(weight.grad is None for weight in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    with pytest.raises(IndexError):
        tower.run(torch.full((1, 20), 99999), torch.zeros(1, 20, 32))
    with torch.no_grad():
        twice = [model.encode_text(tokenizer(TEXTS)) for _ in range(2)]
    assert torch.equal(*twice)  # no hook is left behind
    assert not model.text.token_embedding._forward_hooks


@pytest.mark.parametrize("make", [clip, coca, lambda: custom(**SIGLIP)], ids=["fast", "CoCa", "SigLIP"])
def test_half_precision_is_close_in_direction(make, tokenizer) -> None:
    model = make()
    full = text_features(text_tower(model, tokenizer), TEXTS)
    half = text_features(text_tower(model, tokenizer, precision="bf16"), TEXTS)
    assert half.dtype == torch.float32
    cosines = (full * half).sum(-1)
    assert (cosines > 0.99).all()
    assert (cosines < 1 - 1e-6).any()  # it is not float32 after all


def test_the_plain_path_has_no_choice_of_kernel(tokenizer) -> None:
    model = custom(**SIGLIP)
    assert text_tower(model, tokenizer, kernel="torch").path.startswith("plain")
    with pytest.raises(UsageError, match=r"--kernel onednn: .* plain path \(no causal mask, pooling"):
        text_tower(model, tokenizer, kernel="onednn")


class TestArgmaxPooling:
    """open_clip reads the answer at the highest token id; that must never be a learned vector or a word."""

    def test_tokens_above_the_end_of_text_make_a_tower_plain(self) -> None:
        tokenizer = open_clip.SimpleTokenizer(context_length=20, additional_special_tokens=["<mark>"])
        model = custom(vocab_size=49409)
        tower = text_tower(model, tokenizer)
        assert tower.path == "plain (pooling 'argmax')"
        texts = ["a <mark> cat", "a cat"]
        with torch.no_grad():
            expected = model.encode_text(tokenizer(texts), normalize=True)
        torch.testing.assert_close(text_features(tower, texts), expected, rtol=0, atol=2e-6)

    def test_the_placeholder_is_an_ordinary_word(self, tokenizer) -> None:
        tower = text_tower(custom(no_causal_mask=True), tokenizer)
        assert tower.placeholder == tokenizer.encode("a")[0]
        assert tower.placeholder not in (tower.pad, *tower.vocabulary.start, *tower.vocabulary.end)

    def test_a_tokenizer_whose_words_are_above_its_ends_is_refused(self) -> None:
        with pytest.raises(LsnError, match="would read the answer at a learned vector"):
            text_tower(custom(), WordTokenizer((0,), (2,), 1))


def test_something_that_is_no_clip_is_refused(tokenizer) -> None:
    with pytest.raises(LsnError, match="Linear has no token embeddings") as caught:
        text_tower(nn.Linear(2, 2), tokenizer)
    assert "lsn models" in caught.value.hint


def test_another_layout_of_texts_is_refused() -> None:
    with pytest.raises(LsnError, match="its tokenizer \\(object\\) does not lay out a text"):
        text_tower(custom(), object())


def test_an_embedding_that_scales_its_weights_is_taken_at_its_word(tokenizer) -> None:
    class Scaled(nn.Embedding):
        def forward(self, ids: Tensor) -> Tensor:
            return 5 * super().forward(ids)

    model = custom()
    model.text.token_embedding = Scaled.from_pretrained(model.text.token_embedding.weight.detach())
    tower = text_tower(model, tokenizer)
    assert tower.path == "plain (custom blocks)"
    same_features(model, tokenizer, tower)
