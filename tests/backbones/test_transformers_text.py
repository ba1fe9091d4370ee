"""Text encoders of transformers, through open_clip: plain, and exact. Small ones with random weights."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.func import functional_call
from torch.nn.functional import normalize

from lsncli.backbones.loading import ensure_torchvision
from lsncli.backbones.text import text_tower
from lsncli.prompts.layout import context_layout
from lsncli.prompts.plain_tower import PlainTower
from lsncli.prompts.text_features import text_features

ensure_torchvision()
transformers = pytest.importorskip(
    "transformers", reason="needs transformers, which open_clip's BERT-like text encoders come from"
)
import open_clip  # noqa: E402

ENDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
WORDS = [*ENDS, "a", "photo", "of", "cat", "dog", "bird", "small", "red", "on", "wire", ".", "##s"]
TEXTS = ["a photo of a cat", "A small red BIRD on a wire.", "dogs", "", "something unknown"]
VISION = {"layers": 1, "width": 64, "head_width": 32, "patch_size": 16, "image_size": 32}
SIZE = {"vocab_size": len(WORDS), "pad_token_id": 0, "initializer_range": 0.3}
BERT = SIZE | {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "bert": BERT,
    "roberta": BERT,
    "xlm-roberta": BERT,
    "mt5": SIZE | {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4},
    "m2m_100": SIZE
    | {"d_model": 32, "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 4}
    | {"encoder_ffn_dim": 48, "max_position_embeddings": 40, "scale_embedding": True},
}


@pytest.fixture(params=CONFIGS)
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Any, Any]:
    """A model with this kind of text encoder and BERT's tokenizer, both from a local folder."""
    kind = request.param
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS))
    transformers.AutoConfig.for_model(kind, **CONFIGS[kind]).save_pretrained(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    text = {
        "hf_model_name": str(tmp_path),
        "hf_model_pretrained": False,
        "hf_proj_type": "mlp",
        "hf_pooler_type": "cls_pooler" if kind == "bert" else "mean_pooler",
    }
    torch.manual_seed(3)
    model = open_clip.CustomTextCLIP(embed_dim=16, vision_cfg=VISION, text_cfg=text).eval()
    return model, open_clip.tokenizer.HFTokenizer(str(tmp_path), context_length=16)


def test_features_are_the_models_own(pair) -> None:
    model, tokenizer = pair
    tower = text_tower(model, tokenizer)
    assert isinstance(tower, PlainTower)
    assert tower.path == "plain (an encoder of transformers)"
    assert (tower.vocabulary.start, tower.vocabulary.end, tower.pad) == ((2,), (3,), 0)
    with torch.no_grad():
        expected = model.encode_text(tokenizer(TEXTS), normalize=True)
    torch.testing.assert_close(text_features(tower, TEXTS), expected, rtol=0, atol=2e-6)
    assert (expected[0] @ expected[1]).abs() < 0.999  # the texts are told apart at all


def test_gradients_are_those_of_words_with_the_learned_embeddings(pair) -> None:
    model, tokenizer = pair
    tower = text_tower(model, tokenizer)
    layout = context_layout(tower.vocabulary, ["cat", "small bird"], 2)
    words = torch.tensor([WORDS.index("on"), WORDS.index("wire")])
    ids = torch.zeros(2, 16, dtype=torch.long)
    for row, prompt in zip(ids, layout.prompts, strict=True):
        row[: len(prompt)] = torch.tensor([words[~t] if t < 0 else t for t in prompt])
    embedding = model.text.transformer.get_input_embeddings()
    scale = getattr(embedding, "embed_scale", 1.0)
    (name,) = (f"{n}.weight" for n, m in model.text.named_modules() if m is embedding)
    contexts = torch.randn(2, 32, generator=torch.Generator().manual_seed(1))
    ours, theirs = contexts.clone().requires_grad_(), contexts.clone().requires_grad_()
    found = tower.encoder(layout)(ours[None])[0]
    table = embedding.weight.detach().index_put((words,), theirs / scale)
    expected = normalize(functional_call(model.text, {name: table}, (ids,)), dim=-1)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)
    direction = torch.randn(found.shape, generator=torch.Generator().manual_seed(2))
    (found * direction).sum().backward()
    (expected * direction).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5)
    assert ours.grad.norm() > 1e-4


def test_a_siglip_with_its_kind_of_tokenizer_gives_its_own_features(tmp_path: Path) -> None:
    """No start, one end that is also the padding, and a cleaning that drops punctuation."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    inner = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(["<unk>", "</s>", *WORDS])}, "<unk>")
    )
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    names = {"pad_token": "</s>", "eos_token": "</s>", "unk_token": "<unk>"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=inner, **names).save_pretrained(tmp_path)
    tokenizer = open_clip.tokenizer.HFTokenizer(str(tmp_path), context_length=16, clean="canonicalize")
    text = {"context_length": 16, "vocab_size": 30, "width": 32, "heads": 2, "layers": 2, "proj_bias": True}
    text |= {"no_causal_mask": True, "pool_type": "last", "act_kwargs": {"approximate": "tanh"}}
    torch.manual_seed(3)
    model = open_clip.CustomTextCLIP(embed_dim=32, vision_cfg=VISION, text_cfg=text).eval()
    tower = text_tower(model, tokenizer)
    assert tower.path == "plain (no causal mask, pooling 'last', another tokenizer, tanh GELU)"
    assert (tower.vocabulary.start, tower.vocabulary.end, tower.pad) == ((), (1,), 1)
    assert tower.vocabulary.tokenize("A Cat.") == tower.vocabulary.tokenize("a cat")
    with torch.no_grad():
        expected = model.encode_text(tokenizer(TEXTS), normalize=True)
    torch.testing.assert_close(text_features(tower, TEXTS), expected, rtol=0, atol=2e-6)


def test_half_precision_is_close_in_direction(pair) -> None:
    model, tokenizer = pair
    full, half = (text_features(text_tower(model, tokenizer, precision=p), TEXTS) for p in ("fp32", "bf16"))
    assert ((full * half).sum(-1) > 0.99).all()
    assert all(weight.dtype == torch.float32 for weight in model.parameters())
