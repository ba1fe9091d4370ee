"""Text features of words: the mean of raw features, chunks on disk, and what a kill leaves."""

import numpy as np
import pytest
from later_vectors import arrays

from lsncli.methods import word_features
from lsncli.methods.cache import Cache
from lsncli.methods.word_features import WordEncoder, encode
from lsncli.prompts.text_features import text_features
from lsncli.types import unit

TEXTS = [[f"a photo of {word}", word] for word in ("cat", "wooden chair", "sea", "dog", "tree")]


@pytest.fixture
def tower(tiny_backbone):
    return tiny_backbone.text_tower()


@pytest.fixture
def chunks_of_two(monkeypatch) -> None:
    monkeypatch.setattr(word_features, "AT_ONCE", 2)


def test_the_mean_is_of_raw_features_as_in_csp(monkeypatch) -> None:
    rows = arrays().r
    import torch

    flat = iter(rows.reshape(-1, 5))
    monkeypatch.setattr(
        word_features,
        "text_features",
        lambda tower, texts, raw: torch.from_numpy(np.stack([next(flat) for _ in texts])),
    )
    found = encode(None, [["a"] * 4, ["b"] * 4])
    expected = [-0.10063668, -0.01840117, 0.89034456, 0.11440106, -0.42864042]
    np.testing.assert_allclose(found[0], expected, atol=1e-7)


def test_raw_features_are_unit_ones_before_the_norm(tower) -> None:
    raw = text_features(tower, ["a cat", "wooden chair"], raw=True).numpy()
    assert not np.allclose(np.linalg.norm(raw, axis=1), 1)
    np.testing.assert_allclose(unit(raw), text_features(tower, ["a cat", "wooden chair"]).numpy(), atol=1e-6)


def test_chunks_give_what_one_pass_gives(tower, tmp_path, chunks_of_two) -> None:
    counts: list[int] = []
    kept = Cache(tmp_path)
    encoder = WordEncoder(tower, "model", cache=kept)
    found = encoder(TEXTS, lambda step, note="": counts.append(step))
    assert counts == [2, 2, 1]
    np.testing.assert_allclose(found, encode(tower, TEXTS), atol=1e-6)
    raw = text_features(tower, TEXTS[1], raw=True).numpy().mean(axis=0)
    np.testing.assert_allclose(found[1], raw / np.linalg.norm(raw), atol=1e-6)
    assert len(list(tmp_path.iterdir())) == 3
    assert encoder([]).shape == (0, 0)


def test_a_second_run_encodes_nothing_and_a_killed_one_loses_a_chunk(
    tower, tmp_path, chunks_of_two, monkeypatch
) -> None:
    encoder = WordEncoder(tower, "model", cache=Cache(tmp_path))
    calls: list[int] = []

    def counted(tower, texts):
        if len(calls) == killed:
            raise KeyboardInterrupt
        calls.append(len(texts))
        return encode(tower, texts)

    killed = 2
    monkeypatch.setattr(word_features, "encode", counted)
    monkeypatch.setattr(word_features, "code_of", lambda *roots: "code")
    with pytest.raises(KeyboardInterrupt):
        encoder(TEXTS)
    assert calls == [2, 2]
    killed = -1
    first = encoder(TEXTS)
    assert calls == [2, 2, 1]
    np.testing.assert_array_equal(encoder(TEXTS), first)
    assert calls == [2, 2, 1]


def test_another_model_or_another_text_is_encoded_and_a_damaged_chunk_again(
    tower, tmp_path, chunks_of_two
) -> None:
    cache = Cache(tmp_path)
    first = WordEncoder(tower, "model", cache=cache)(TEXTS)
    assert len(list(tmp_path.iterdir())) == 3
    WordEncoder(tower, "another", cache=cache)(TEXTS)
    assert len(list(tmp_path.iterdir())) == 6
    WordEncoder(tower, "model", cache=cache)([*TEXTS[:4], ["a bird"]])
    assert len(list(tmp_path.iterdir())) == 7
    for path in tmp_path.iterdir():
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    np.testing.assert_array_equal(WordEncoder(tower, "model", cache=cache)(TEXTS), first)


def test_words_that_are_not_kept_are_counted(tower, tmp_path, chunks_of_two) -> None:
    encoder = WordEncoder(tower, "model", cache=Cache(tmp_path))
    assert encoder.missing(TEXTS) == 5
    encoder(TEXTS[:2])
    assert encoder.missing(TEXTS) == 3
    encoder(TEXTS)
    assert encoder.missing(TEXTS) == 0
    assert encoder.missing([]) == 0
