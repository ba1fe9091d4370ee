"""open_clip models: its own pixels and features, a fingerprint that tells models apart, clear errors."""

import json
import shutil
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_sample_image

from lsncli.backbones import DEFAULT_MODEL, load_again, load_backbone, load_untrained
from lsncli.backbones.loading import ensure_torchvision
from lsncli.errors import FingerprintMismatch, Unavailable, UsageError
from lsncli.types import Fingerprint, unit

ensure_torchvision()
import open_clip  # noqa: E402

ARCHITECTURE = "lsn-test-tiny"


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return Image.fromarray(load_sample_image("china.jpg"))


@pytest.fixture(scope="module")
def folder(tiny_model: str) -> Path:
    return Path(tiny_model.partition(":")[2])


@pytest.fixture(scope="module")
def architecture(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tiny model as a named architecture of open_clip, so that checkpoints can be given for it."""
    path = tmp_path_factory.mktemp("config") / f"{ARCHITECTURE}.json"
    config = json.loads((folder / "open_clip_config.json").read_text())
    path.write_text(json.dumps(config["model_cfg"]))
    open_clip.add_model_config(path)
    return ARCHITECTURE


def copy_with(folder: Path, target: Path, change: float = 0.0) -> str:
    """The model's folder somewhere else, with one number of its weights changed."""
    shutil.copytree(folder, target)
    weights = load_file(target / "open_clip_model.safetensors")
    weights["visual.proj"][0, 0] += change
    save_file(weights, target / "open_clip_model.safetensors")
    return f"local-dir:{target}"


def test_preprocessing_is_open_clips_own(tiny_model: str, tiny_backbone, photo: Image.Image) -> None:
    _, _, transform = open_clip.create_model_and_transforms(tiny_model)
    pixels = tiny_backbone.preprocess(photo)
    assert (pixels.shape, pixels.dtype) == ((3, 32, 32), torch.float32)
    assert torch.equal(pixels, transform(photo))


def test_preprocessing_is_resize_crop_normalise(tiny_backbone, photo: Image.Image) -> None:
    width, height = photo.size
    scale = 32 / min(width, height)
    small = photo.resize((int(width * scale), int(height * scale)), Image.Resampling.BICUBIC)
    left, top = round((small.width - 32) / 2), round((small.height - 32) / 2)
    values = np.asarray(small.crop((left, top, left + 32, top + 32)), dtype=np.float64) / 255
    expected = (values - [0.5, 0.4, 0.3]) / [0.2, 0.2, 0.3]
    np.testing.assert_allclose(tiny_backbone.preprocess(photo).permute(1, 2, 0), expected, atol=1e-5)


def test_features_are_those_of_encode_image(tiny_backbone, photo: Image.Image) -> None:
    pixels = torch.stack([tiny_backbone.preprocess(photo), tiny_backbone.preprocess(photo.rotate(90))])
    features = tiny_backbone.encode(pixels)
    assert (features.shape, features.dtype) == ((2, 32), np.float16)
    with torch.inference_mode():
        expected = tiny_backbone.model.encode_image(pixels)
    # To rounding: ``fastimage`` sums in another order, and a number between two of 16 bits may go either way.
    torch.testing.assert_close(torch.from_numpy(features), expected.half(), rtol=2**-10, atol=1e-6)
    assert not np.allclose(np.linalg.norm(features.astype(float), axis=1), 1)  # raw, not normalised


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_close_in_direction(tiny_model, tiny_backbone, photo, precision: str) -> None:
    half = load_backbone(tiny_model, device="cpu", precision=precision)
    pixels = torch.stack([tiny_backbone.preprocess(photo), tiny_backbone.preprocess(photo.rotate(90))])
    cosines = (unit(half.encode(pixels)) * unit(tiny_backbone.encode(pixels))).sum(axis=1)
    assert (cosines > 0.999).all()
    assert half.text_tower().weights.positions.dtype == torch.float32  # prompts are learned in full
    assert half.fingerprint == replace(tiny_backbone.fingerprint, precision=precision)
    assert half.fingerprint.digest != tiny_backbone.fingerprint.digest


def test_the_text_towers_precision_and_kernel_are_chosen_apart(tiny_backbone) -> None:
    tower = tiny_backbone.text_tower(precision="bf16", kernel="torch")
    assert tower.path == "fast (torch)"
    assert tower.weights.positions.dtype == torch.bfloat16
    assert tower.vocabulary.embedding.dtype == torch.float32
    assert all(weight.dtype == torch.float32 for weight in tiny_backbone.model.parameters())
    with pytest.raises(UsageError, match="--precision: expected one of"):
        tiny_backbone.text_tower(precision="fp8")


def test_the_fingerprint_says_what_the_model_is(tiny_backbone, folder: Path) -> None:
    found = tiny_backbone.fingerprint
    assert (found.model, found.pretrained) == ("local-dir", str(folder))
    assert (found.dim, found.image_size, found.logit_scale) == (32, 32, 100.0)
    assert (found.mean, found.std) == ((0.5, 0.4, 0.3), (0.2, 0.2, 0.3))
    assert (found.interpolation, found.resize_mode, found.precision) == ("bicubic", "shortest", "fp32")
    assert Fingerprint.from_json(found.to_json()) == found


def test_the_fingerprint_follows_the_weights_and_not_their_place(tiny_backbone, folder, tmp_path) -> None:
    known = tiny_backbone.fingerprint
    moved = load_backbone(copy_with(folder, tmp_path / "moved"), device="cpu").fingerprint
    changed = load_backbone(copy_with(folder, tmp_path / "changed", 0.01), device="cpu").fingerprint
    assert moved.pretrained != known.pretrained
    assert moved.digest == known.digest
    assert changed.digest != known.digest


def test_preprocessing_is_part_of_the_fingerprint(tiny_backbone, folder: Path, tmp_path: Path) -> None:
    other = copy_with(folder, tmp_path / "other")
    config = json.loads((tmp_path / "other" / "open_clip_config.json").read_text())
    config["preprocess_cfg"]["interpolation"] = "bilinear"
    (tmp_path / "other" / "open_clip_config.json").write_text(json.dumps(config))
    assert load_backbone(other, device="cpu").fingerprint.digest != tiny_backbone.fingerprint.digest


def test_a_model_is_loaded_again_from_its_fingerprint(tiny_backbone, folder: Path, tmp_path: Path) -> None:
    known = tiny_backbone.fingerprint
    assert load_again(known, device="cpu").fingerprint == known
    copy_with(folder, tmp_path / "moved")
    lost = replace(known, pretrained="/nowhere/at/all")
    assert (
        load_again(lost, pretrained=str(tmp_path / "moved"), device="cpu").fingerprint.digest == known.digest
    )
    copy_with(folder, tmp_path / "changed", 0.01)
    with pytest.raises(FingerprintMismatch, match="The prompts are of another model: expected") as caught:
        load_again(known, pretrained=str(tmp_path / "changed"), device="cpu", what="prompts")
    assert "--pretrained" in caught.value.hint


def test_imported_features_have_no_model_to_load(tiny_backbone) -> None:
    imported = replace(tiny_backbone.fingerprint, model="imported:theirs")
    with pytest.raises(FingerprintMismatch, match="imported:theirs"):
        load_again(imported)


def test_a_checkpoint_file_is_the_same_model_as_any_other_copy(architecture, folder, tmp_path) -> None:
    first = folder / "open_clip_model.safetensors"
    second = tmp_path / "copy.safetensors"
    shutil.copy(first, second)
    one = load_backbone(architecture, pretrained=str(first), device="cpu").fingerprint
    two = load_backbone(f"{architecture}:{second}", device="cpu").fingerprint
    assert (one.model, one.pretrained) == (architecture, str(first.resolve()))
    assert two.pretrained == str(second.resolve())
    assert one.digest == two.digest
    assert str(two) == f"{architecture}:{second.resolve()} fp32 [{two.digest}]"
    assert load_again(two, device="cpu").fingerprint == two


def test_a_file_that_is_no_checkpoint_is_refused(architecture: str, tmp_path: Path) -> None:
    path = tmp_path / "notes.pt"
    path.write_text("these are not the weights you are looking for")
    with pytest.raises(
        Unavailable, match=r"checkpoint .*notes\.pt does not load into lsn-test-tiny"
    ) as caught:
        load_backbone(architecture, pretrained=str(path), device="cpu")
    assert "state dict" in caught.value.hint


def test_a_checkpoint_that_would_run_code_is_refused(architecture: str, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "exploded",))

    torch.save({"state_dict": Bomb()}, tmp_path / "bomb.pt")
    with pytest.raises(Unavailable, match=r"does not load.*besides tensors it holds an object of ") as caught:
        load_backbone(architecture, pretrained=str(tmp_path / "bomb.pt"), device="cpu")
    assert caught.value.message.isprintable()
    assert "\x1b" not in repr(caught.value.message)
    assert not (tmp_path / "exploded").exists()


def test_a_checkpoint_of_another_architecture_is_refused(architecture: str, folder, tmp_path: Path) -> None:
    weights = load_file(folder / "open_clip_model.safetensors")
    weights["visual.proj"] = weights["visual.proj"][:, :16].contiguous()
    save_file(weights, tmp_path / "other.safetensors")
    with pytest.raises(Unavailable, match=r"does not load into lsn-test-tiny.*size mismatch"):
        load_backbone(architecture, pretrained=str(tmp_path / "other.safetensors"), device="cpu")


def test_a_quickgelu_mismatch_is_an_error_in_both_directions(monkeypatch) -> None:
    with pytest.raises(UsageError, match=r"QuickGELU mismatch: .* 'openai' were trained with") as caught:
        load_backbone("ViT-B-16:openai", device="cpu")
    assert "ViT-B-16-quickgelu:openai" in caught.value.hint
    # open_clip lists no such pair today; should it ever, the wrong activation must not pass.
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda name, tag: {"quick_gelu": False})
    with pytest.raises(UsageError, match=r"QuickGELU mismatch: .* trained without") as caught:
        load_backbone("ViT-B-16-quickgelu:openai", device="cpu")
    assert "--model ViT-B-16:openai" in caught.value.hint


def test_an_unknown_architecture_lists_close_names() -> None:
    with pytest.raises(UsageError, match="no architecture 'ViT-B-17'") as caught:
        load_backbone("ViT-B-17:openai", device="cpu")
    assert "ViT-B-16" in caught.value.hint


def test_an_unknown_tag_lists_the_tags() -> None:
    with pytest.raises(
        UsageError, match="'gold' is neither a file nor a tag of ViT-B-32-quickgelu"
    ) as caught:
        load_backbone("ViT-B-32-quickgelu:gold", device="cpu")
    assert "openai" in caught.value.hint


def test_no_weights_are_never_random_weights() -> None:
    with pytest.raises(UsageError, match="no weights named") as caught:
        load_backbone("ViT-B-32", device="cpu")
    assert "ViT-B-32:TAG" in caught.value.hint
    with pytest.raises(UsageError, match="no folder named"):
        load_backbone("local-dir:", device="cpu")


@pytest.mark.parametrize("model", [DEFAULT_MODEL, "hf-hub:nobody/nothing"])
def test_without_a_network_the_hint_names_the_ways_out(model: str, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(Unavailable, match=f"weights of {model} are not here") as caught:
        load_backbone(model, device="cpu")
    assert caught.value.exit_code == 5
    assert "--pretrained FILE" in caught.value.hint
    assert "--model mini" in caught.value.hint
    assert "\n" not in caught.value.message


def test_a_hub_model_brings_its_own_weights() -> None:
    with pytest.raises(UsageError, match="brings its own weights; found --pretrained 'openai'"):
        load_backbone("hf-hub:nobody/nothing", pretrained="openai", device="cpu")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=f"local-dir:{tmp_path}/none does not load") as caught:
        load_backbone(f"local-dir:{tmp_path}/none", device="cpu")
    assert "open_clip_config.json" in caught.value.hint


def test_an_unknown_precision_or_device_is_refused_before_loading(tiny_model: str) -> None:
    with pytest.raises(UsageError, match="--precision: expected one of fp32, tf32, fp16, bf16, found 'fp8'"):
        load_backbone(tiny_model, device="cpu", precision="fp8")
    with pytest.raises(UsageError, match="--device"):
        load_backbone(tiny_model, device="tpu")


@pytest.fixture(scope="module")
def tokenize(tiny_backbone) -> Callable[[str], list[int]]:
    return tiny_backbone.text_tower().vocabulary.tokenize


LETTERS = st.text(st.sampled_from("Aa \u00e9e\u0301&amp;'."), max_size=8)


@given(LETTERS, LETTERS)
def test_texts_have_equal_ids_if_the_text_tower_reads_the_same_words(
    tiny_backbone, tokenize, one: str, other: str
) -> None:
    for text in (other, one.upper(), f" {one}  ", unicodedata.normalize("NFD", one)):
        first, second = tiny_backbone.text_ids([one, text])
        assert (first == second) == (tokenize(one) == tokenize(text))


def test_an_architecture_has_random_weights_to_measure_its_speed(architecture: str) -> None:
    backbone = load_untrained(f"{architecture}:laion2b", device="cpu")
    assert backbone is not None
    assert backbone.encode(torch.zeros(1, 3, 32, 32)).shape == (1, 32)
    for name in ("hf-hub:some/model", "local-dir:folder", "mini"):
        assert load_untrained(name) is None
    with pytest.raises(UsageError, match="no architecture"):
        load_untrained("ViT-X")


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (
            {"format_version": "9", "preprocessing": "{}"},
            "is a tuned model of format version 9; this lsn reads",
        ),
        ({"format_version": "\x1b[1m", "preprocessing": "{}"}, r"format version \\x1b\[1m; this lsn reads"),
        ({"preprocessing": "{}"}, "format version none"),
        ({"format_version": "2", "preprocessing": "{"}, "is damaged: "),
        ({"format_version": "2", "preprocessing": "[]"}, "is damaged: "),
        ({"format_version": "1"}, "is damaged: "),
    ],
)
def test_a_tuned_model_that_is_newer_or_damaged_is_named(
    architecture: str, folder, tmp_path, metadata, message
):
    path = tmp_path / "tower.safetensors"
    save_file(load_file(folder / "open_clip_model.safetensors"), path, {"format": "lsn-tower", **metadata})
    with pytest.raises(Unavailable, match=message):
        load_backbone(architecture, pretrained=str(path), device="cpu")
