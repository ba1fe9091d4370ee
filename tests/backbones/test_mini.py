"""The bundled model: small, complete, of CLIP's geometry, and right about a few photos it never saw."""

from importlib.resources import files

import numpy as np
import pytest
import torch
from PIL import Image

from lsncli.backbones import load_backbone
from lsncli.errors import UsageError
from lsncli.prompts.text_features import text_features
from lsncli.types import unit

NAMES = ["cat", "coffee", "rocket", "flower", "car", "dog", "airplane", "mushroom", "mountain", "guitar"]


@pytest.fixture(scope="module")
def mini():
    return load_backbone("mini", device="cpu")


@pytest.fixture(scope="module")
def ranks(mini):
    """Names of the photos' ten classes, the most likely first."""
    skimage = pytest.importorskip("skimage.data", reason="needs the sample photos of scikit-image")
    from sklearn.datasets import load_sample_image

    photos = {
        "cat": skimage.chelsea(),
        "coffee": skimage.coffee(),
        "rocket": skimage.rocket(),
        "flower": load_sample_image("flower.jpg"),
    }
    pixels = torch.stack([mini.preprocess(Image.fromarray(photo)) for photo in photos.values()])
    text = text_features(mini.text_tower(), [f"a photo of a {name}" for name in NAMES]).numpy()
    order = np.argsort(-unit(mini.encode(pixels)) @ text.T, axis=1)
    return {photo: [NAMES[i] for i in row] for photo, row in zip(photos, order, strict=True)}


def test_the_weights_are_at_most_16_megabytes() -> None:
    folder = files("lsncli.backbones") / "mini_weights"
    sizes = {entry.name: len(entry.read_bytes()) for entry in folder.iterdir() if entry.is_file()}
    assert {"open_clip_model.safetensors", "open_clip_config.json", "bpe_mini.txt.gz"} <= sizes.keys()
    assert sum(sizes.values()) <= 16e6


def test_the_geometry_is_clips(mini) -> None:
    found = mini.fingerprint
    assert (found.model, found.pretrained, found.precision) == ("mini", "", "fp32")
    assert found.logit_scale == pytest.approx(100, abs=0.5)  # CLIP's own towers end at 100, too
    text = text_features(mini.text_tower(), [f"a photo of a {name}" for name in NAMES])
    assert text.shape == (10, found.dim)
    torch.testing.assert_close(text.norm(dim=-1), torch.ones(10))


def test_the_right_name_of_ten_ranks_first(ranks) -> None:
    places = {photo: names.index(photo) for photo, names in ranks.items()}
    assert sum(place == 0 for place in places.values()) >= 3, places
    assert max(places.values()) <= 2, places


def test_prompts_cut_at_their_end_give_the_features_of_full_length(mini) -> None:
    texts = [f"a photo of a {name}" for name in NAMES] + ["dog"]
    with torch.no_grad():
        full = mini.model.encode_text(mini.tokenizer(texts), normalize=True)
    torch.testing.assert_close(text_features(mini.text_tower(), texts), full, rtol=0, atol=2e-6)


def test_the_tokenizer_reads_any_name(mini) -> None:
    vocabulary = mini.text_tower().vocabulary
    for text in ("naïve café 日本 🦊", "a-b_c/d", "X" * 20, ""):
        ids = vocabulary.tokenize(text)
        assert all(0 <= i < len(vocabulary.embedding) for i in ids), text


def test_its_text_tower_takes_the_fast_path(mini) -> None:
    assert mini.text_tower(kernel="torch").path == "fast (torch)"


def test_other_weights_are_refused() -> None:
    with pytest.raises(UsageError, match="one set of weights, bundled with lsn; found 'openai'"):
        load_backbone("mini", pretrained="openai", device="cpu")
    assert load_backbone("mini", pretrained="bundled", device="cpu").fingerprint.pretrained == ""
