"""ODIN from pixels: one image at a time by the published recipe, and images that are not the split's."""

import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lsncli.backbones import load_backbone
from lsncli.errors import LsnError, UsageError
from lsncli.extraction.extract import extract
from lsncli.images.listing import list_images
from lsncli.methods.inputs import images_of, perturbed
from lsncli.scores import load_score
from lsncli.store.format import Split
from lsncli.store.reader import read_split
from lsncli.types import Head, unit

HOW = {"batch_size": 4, "workers": 2}
TAU, EPS = 1000.0, 0.004


def picture(seed: int) -> Image.Image:
    random = np.random.default_rng(seed)
    rough = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(rough).resize((48, 40), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("pictures")
    for number in range(9):
        path = root / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        picture(number).save(path)
    return root


@pytest.fixture(scope="module")
def split(folder: Path, tiny_backbone) -> Split:
    store = folder.parent / "pictures-store.h5"
    extract(list_images([folder]), source="", store=store, split="test", backbone=tiny_backbone)
    return read_split(store, "test")


def head_of(dim: int, *, bias: bool = False) -> Head:
    random = np.random.default_rng(3)
    text = unit(random.normal(size=(5, dim)))
    return Head(tuple("vwxyz"), text, 100.0, None, 5 * random.normal(size=5) if bias else None)


@pytest.fixture(scope="module")
def head(tiny_backbone) -> Head:
    return head_of(tiny_backbone.fingerprint.dim)


def naive(backbone, head: Head, image: Image.Image, tau: float, eps: float) -> np.ndarray:
    """The official loop body on one image, through the model itself."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (backbone.fingerprint.mean, backbone.fingerprint.std))
    weights = torch.from_numpy(head.scale * head.weights).float()
    bias = torch.zeros(len(weights)) if head.bias is None else torch.from_numpy(head.bias).float()
    inside = (backbone.preprocess(image) * std + mean).requires_grad_()  # pixels in [0, 1]
    feature = backbone.model.encode_image((inside[None] - mean) / std)[0]
    logits = weights @ (feature / feature.norm()) + bias
    (-(logits / tau).log_softmax(0)[logits.argmax()]).backward()
    moved = inside.detach().clone()
    for channel in range(3):
        gradient = inside.grad[channel]
        moved[channel] -= eps * ((gradient >= 0).float() - 0.5) * 2
    with torch.no_grad():
        return backbone.model.encode_image((moved[None] - mean) / std)[0].numpy()


@pytest.mark.parametrize("bias", [False, True])
def test_it_is_the_published_step_image_by_image(folder, split, tiny_backbone, bias) -> None:
    head = head_of(split.features.shape[1], bias=bias)
    items = images_of(split, [folder])
    found = perturbed(items, tiny_backbone, head, TAU, EPS, stored=split.features, **HOW)
    assert found.dtype == np.float32
    expected = [naive(tiny_backbone, head, Image.open(folder / key), TAU, EPS) for key in split.keys]
    plain = perturbed(items, tiny_backbone, head, TAU, 0.0, **HOW)
    changed = np.abs(np.stack(expected) - plain).max()
    # Where a gradient is zero but for rounding its sign is anybody's: a few pixels of thousands.
    assert np.abs(found - np.stack(expected)).max() < 0.02 * changed


def test_where_memory_runs_out_fewer_images_take_the_step_at_a_time(
    folder, split, tiny_backbone, head
) -> None:
    items = images_of(split, [folder])

    @dataclass(frozen=True)
    class Tight(type(tiny_backbone)):
        room: int = 1

        def differentiable(self, pixels: torch.Tensor) -> torch.Tensor:
            if len(pixels) > self.room:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")
            return super().differentiable(pixels)

    whole = perturbed(items, tiny_backbone, head, TAU, EPS, **HOW)
    found = perturbed(items, Tight(**vars(tiny_backbone)), head, TAU, EPS, **HOW)
    np.testing.assert_allclose(found, whole, rtol=1e-4, atol=1e-4)
    with pytest.raises(LsnError, match="not enough memory for the gradients of one image at a time"):
        perturbed(items, Tight(**vars(tiny_backbone), room=0), head, TAU, EPS, **HOW)


def test_the_mini_model_takes_the_same_step(folder) -> None:
    mini = load_backbone("mini", device="cpu")
    head = head_of(mini.fingerprint.dim)
    items = list_images([folder]).items[:2]
    found = perturbed(items, mini, head, TAU, EPS, **HOW)
    expected = np.stack([naive(mini, head, Image.open(item.path), TAU, EPS) for item in items])
    plain = perturbed(items, mini, head, TAU, 0.0, **HOW)
    assert np.abs(found - expected).max() < 0.05 * np.abs(plain - expected).max()


def test_no_step_gives_the_features_as_they_are(folder, split, tiny_backbone, head) -> None:
    ticks: list[int] = []
    found = perturbed(
        images_of(split, [folder]),
        tiny_backbone,
        head,
        TAU,
        0.0,
        progress=lambda n, note="": ticks.append(n),
        **HOW,
    )
    np.testing.assert_allclose(found, split.features.astype(np.float32), rtol=2e-3, atol=2e-3)
    assert ticks == [4, 4, 1]


def test_the_step_raises_the_largest_softmax_of_every_image(folder, split, tiny_backbone, head) -> None:
    items = images_of(split, [folder])
    score = load_score("odin").scorer(head, {})
    scores = [score(perturbed(items, tiny_backbone, head, TAU, eps, **HOW)) for eps in (0.0, 0.0005, 0.001)]
    assert (scores[1] > scores[0]).all()
    assert (scores[2] > scores[1]).all()


def test_the_batch_an_image_comes_in_does_not_matter(folder, split, tiny_backbone, head) -> None:
    items = images_of(split, [folder])
    alone = perturbed(items, tiny_backbone, head, TAU, EPS, batch_size=1, workers=1)
    together = perturbed(items, tiny_backbone, head, TAU, EPS, batch_size=9, workers=2)
    step = np.abs(together - perturbed(items, tiny_backbone, head, TAU, 0.0, **HOW)).max()
    assert np.abs(alone - together).max() < 0.02 * step


def test_it_works_within_inference_and_leaves_the_model_as_it_was(folder, split, tiny_backbone, head) -> None:
    items = images_of(split, [folder])[:2]
    expected = perturbed(items, tiny_backbone, head, TAU, EPS, **HOW)
    with torch.no_grad():
        assert np.array_equal(perturbed(items, tiny_backbone, head, TAU, EPS, **HOW), expected)
    parameters = list(tiny_backbone.model.parameters())
    assert all(p.grad is None and not p.requires_grad for p in parameters)


def test_a_tower_in_half_precision_is_computed_in_float32(tiny_model, tiny_backbone) -> None:
    half = load_backbone(tiny_model, device="cpu", precision="bf16")
    pixels = torch.stack([half.preprocess(picture(seed)) for seed in range(3)]).requires_grad_()
    features = half.differentiable(pixels)
    assert features.dtype == torch.float32
    features.square().sum().backward()
    assert pixels.grad.abs().sum() > 0
    full = tiny_backbone.differentiable(pixels.detach())
    assert (torch.cosine_similarity(features, full) > 0.999).all()
    assert not torch.equal(features, full)
    assert half.model.visual.conv1.weight.dtype == torch.bfloat16


def test_images_come_in_the_order_of_the_rows(folder, split) -> None:
    turned = Split("test", split.features[::-1], split.labels[::-1], split.keys[::-1], split.classes)
    assert [item.key for item in images_of(turned, [folder])] == list(turned.keys)
    few = Split("test", split.features[:2], split.labels[:2], split.keys[:2], split.classes)
    assert [item.key for item in images_of(few, [folder])] == list(split.keys[:2])


def test_images_in_a_tar_and_in_several_sources_are_found(tmp_path, folder, split) -> None:
    with tarfile.open(tmp_path / "all.tar", "w") as tar:
        tar.add(folder, arcname="top")
    items = images_of(split, [tmp_path / "all.tar"])
    with tarfile.open(items[0].path) as tar:
        assert tar.extractfile(f"top/{items[0].key}").read() == (folder / items[0].key).read_bytes()
    keys = tuple(f"{key[0]}/{key[2:]}" for key in split.keys)
    parts = Split("test", split.features, split.labels, keys, split.classes)
    assert [item.path for item in images_of(parts, [folder / "a", folder / "b"])] == [
        str(folder / key) for key in split.keys
    ]


def test_missing_images_are_counted_and_the_first_is_named(tmp_path, folder, split) -> None:
    here = tmp_path / "part"
    (here / "a").mkdir(parents=True)
    for file in (folder / "a").iterdir():
        (here / "a" / file.name).write_bytes(file.read_bytes())
    with pytest.raises(LsnError, match=r"9 of the 9 images of split 'test' are not in .*, such as 'a/0.png'"):
        images_of(split, [here / "a"])
    with pytest.raises(LsnError, match=r"4 of the 9 images of split 'test' are not in .*, such as 'b/1.png'"):
        images_of(split, [here])
    with pytest.raises(UsageError, match="There is no"):
        images_of(split, [tmp_path / "nowhere"])


def test_another_image_of_the_same_name_is_told_by_its_features(tmp_path, folder, split, tiny_backbone, head):
    for key in split.keys:
        target = tmp_path / key
        target.parent.mkdir(exist_ok=True)
        picture(77 if key == "b/3.png" else int(Path(key).stem)).save(target)
    items = images_of(split, [tmp_path])
    with pytest.raises(LsnError, match=r"'b/3.png' is not the one whose features are stored"):
        perturbed(items, tiny_backbone, head, TAU, EPS, stored=split.features, **HOW)
    assert perturbed(items, tiny_backbone, head, TAU, EPS, **HOW).shape == split.features.shape


def test_an_image_that_became_unreadable_is_named(tmp_path, folder, split, tiny_backbone, head) -> None:
    for key in split.keys:
        (tmp_path / key).parent.mkdir(exist_ok=True)
        data = (folder / key).read_bytes()
        (tmp_path / key).write_bytes(data[:40] if key == "a/4.png" else data)
    with pytest.raises(LsnError, match=r"The image 'a/4.png' cannot be read"):
        perturbed(images_of(split, [tmp_path]), tiny_backbone, head, TAU, EPS, **HOW)


def test_prompts_that_depend_on_the_image_are_refused(folder, split, tiny_backbone) -> None:
    head = Head(("a", "b"), lambda features: np.zeros((len(features), 2)))
    with pytest.raises(LsnError, match="'odin' needs fixed weights"):
        perturbed(images_of(split, [folder]), tiny_backbone, head, TAU, EPS, **HOW)


def test_no_images_give_no_features(tiny_backbone, head) -> None:
    assert perturbed((), tiny_backbone, head, TAU, EPS, **HOW).shape == (0, 32)


def test_images_of_a_list_need_no_classes(folder, split) -> None:
    """Columns of which extraction had to be told do not matter when the images are looked up again."""
    rows = "".join(f"x,{key},cat,{at}\n" for at, key in enumerate(split.keys))
    path = folder / "l.csv"
    path.write_text(f"site,photo,label,variety\n{rows}")
    try:
        assert [item.key for item in images_of(split, [path])] == list(split.keys)
        assert [item.key for item in images_of(split, [Path(f"{path}#photo")])] == list(split.keys)
    finally:
        path.unlink()
