"""Image sets are found in the folders that people have, whatever the case."""

import os
from pathlib import Path

import paper_datasets
import pytest

from lsncli.evaluation.dataset_check import locate, verify
from lsncli.images.dataset_layouts import UnlabelledLayout
from lsncli.images.listing import list_images
from lsncli.reference.classes import class_list
from lsncli.reference.datasets import published_datasets

TEN = {one.wnid: 1 for one in class_list("imagenet10").classes}
SETS = published_datasets()


def found(data: Path, name: str) -> tuple[str, str]:
    """Where a set lies below ``data``, and how."""
    layout = locate(data, SETS[name])
    assert layout is not None, name
    return layout.path.relative_to(data).as_posix(), layout.description


@pytest.mark.parametrize(
    ("layout", "train", "val", "how"),
    [
        ("torchvision", "ImageNet/train", "ImageNet/val", "folder"),
        (
            "kaggle",
            "ILSVRC/Data/CLS-LOC/train",
            "ILSVRC/Data/CLS-LOC/val",
            "flat folder, classes from LOC_val_solution.csv",
        ),
        (
            "devkit",
            "ImageNet/train",
            "ImageNet/val",
            "flat folder, classes from ILSVRC2012_validation_ground_truth.txt",
        ),
    ],
)
def test_imagenet_is_found_in_its_usual_layouts(
    tmp_path: Path, layout: str, train: str, val: str, how: str
) -> None:
    paper_datasets.write_imagenet(tmp_path, TEN, 1, layout)
    assert found(tmp_path, "imagenet-train") == (train, "folder")
    assert found(tmp_path, "imagenet-val") == (val, how)
    assert locate(tmp_path, SETS["tinyimagenet-train"]) is None


@pytest.mark.parametrize(
    "name", ["imagenet", "IMAGENET", "ImageNet-1k", "imagenet_1K", "ILSVRC2012", "ilsvrc"]
)
def test_imagenet_is_found_under_its_names_in_any_case(tmp_path: Path, name: str) -> None:
    paper_datasets.write_imagenet(tmp_path, TEN, 1, "torchvision")
    os.rename(tmp_path / "ImageNet", tmp_path / name)
    assert found(tmp_path, "imagenet-train") == (f"{name}/train", "folder")


def test_the_folder_may_be_imagenet_itself(tmp_path: Path) -> None:
    paper_datasets.write_imagenet(tmp_path, TEN, 1, "torchvision")
    assert found(tmp_path / "ImageNet", "imagenet-val") == ("val", "folder")


def test_the_ood_sets_are_found_as_they_unpack(tmp_path: Path) -> None:
    paper_datasets.lay_out(tmp_path, "imagenet10", open_sets=False, ood=1)
    assert found(tmp_path, "inaturalist") == ("iNaturalist/images", "folder")
    assert found(tmp_path, "sun") == ("SUN/images", "folder")
    assert found(tmp_path, "places") == ("Places/images", "folder")
    assert found(tmp_path, "textures") == ("dtd/images", "folder")
    layout = locate(tmp_path, SETS["textures"])
    assert layout is not None
    assert len(layout.folders) == 47


def test_tiny_imagenet_is_found_as_it_unpacks(tmp_path: Path) -> None:
    paper_datasets.write_tiny(tmp_path, 1, 1)
    train, val = found(tmp_path, "tinyimagenet-train"), found(tmp_path, "tinyimagenet-val")
    assert train == ("tiny-imagenet-200/train", "folder")
    assert val == ("tiny-imagenet-200/val/images", "flat folder, classes from val_annotations.txt")
    assert locate(tmp_path / "tiny-imagenet-200", SETS["imagenet-train"]) is None
    assert locate(tmp_path / "tiny-imagenet-200", SETS["imagenet-val"]) is None
    assert found(tmp_path / "tiny-imagenet-200", "tinyimagenet-train") == ("train", "folder")
    for name in ("tinyimagenet-train", "tinyimagenet-val"):
        layout = locate(tmp_path, SETS[name])
        assert layout is not None
        wrong = [one.what for one in verify(SETS[name], layout).findings if not one.ok]
        assert not [what for what in wrong if what.startswith("class ")]


@pytest.mark.parametrize("write", [paper_datasets.write_cifar_python, paper_datasets.write_cifar_binary])
@pytest.mark.parametrize("archive", [False, True])
@pytest.mark.parametrize("classes", [10, 100])
def test_cifar_is_found_in_every_version(tmp_path: Path, write, archive: bool, classes: int) -> None:
    write(tmp_path, classes, 1, 1, archive=archive)
    (path,) = tmp_path.iterdir()
    form = "archive" if archive else "files"
    for role in ("train", "test"):
        assert found(tmp_path, f"cifar{classes}-{role}") == (path.name, f"CIFAR-{classes} {form}")
        layout = locate(tmp_path, SETS[f"cifar{classes}-{role}"])
        assert layout is not None
        assert len(layout.listing().folders) == classes


def test_the_sets_own_folder_comes_first(tmp_path: Path) -> None:
    paper_datasets.write_imagenet(tmp_path, TEN, 1, "torchvision")
    (tmp_path / "imagenet-val" / "n01440764").mkdir(parents=True)
    assert found(tmp_path, "imagenet-val") == ("imagenet-val", "folder")
    assert found(tmp_path, "imagenet-train") == ("ImageNet/train", "folder")


def test_a_name_in_another_case_is_the_sets_own_folder(tmp_path: Path) -> None:
    (tmp_path / "Imagenet_VAL" / "n01440764").mkdir(parents=True)
    assert found(tmp_path, "imagenet-val") == ("Imagenet_VAL", "folder")


def test_a_flat_validation_folder_without_labels_is_found_as_such(tmp_path: Path) -> None:
    paper_datasets.write_jpeg(tmp_path / "ImageNet" / "val" / "ILSVRC2012_val_00000001.JPEG", (0, 0), 0)
    assert locate(tmp_path, SETS["imagenet-val"]) == UnlabelledLayout(tmp_path / "ImageNet" / "val")


def test_other_folders_are_not_taken_for_a_set(tmp_path: Path) -> None:
    for name in ("train/cat", "val/dog", "ImageNet/train/cat", "dtd/other"):
        (tmp_path / name).mkdir(parents=True)
    assert [name for name in SETS if locate(tmp_path, SETS[name])] == []
    assert locate(tmp_path / "nowhere", SETS["imagenet-val"]) is None


def test_a_folder_found_is_listed_as_before(tmp_path: Path) -> None:
    paper_datasets.write_imagenet(tmp_path, TEN, 2, "torchvision")
    layout = locate(tmp_path, SETS["imagenet-val"])
    assert layout is not None
    assert layout.listing() == list_images([tmp_path / "ImageNet" / "val"], follow_links=True)
