"""Layouts: the same images in all of them, and only the class folders that are wanted are looked into."""

import tarfile
from pathlib import Path

import paper_datasets
import pytest

from lsncli.errors import LsnError
from lsncli.images import dataset_layouts
from lsncli.images.dataset_layouts import (
    AnnotatedLayout,
    DatasetLayout,
    FolderLayout,
    TarLayout,
    UnlabelledLayout,
    find_annotations,
    read_annotations,
)
from lsncli.images.listing import list_images
from lsncli.reference.classes import class_list

TEN = tuple(sorted(one.wnid for one in class_list("imagenet10").classes))


def validation(root: Path, layout: str) -> DatasetLayout:
    """The ten classes' validation images, two of each."""
    if layout == "tar":
        folder = validation(root / "folder", "torchvision").path
        with tarfile.open(root / "val.tar", "w") as tar:
            tar.add(folder, "val")
        return TarLayout(root / "val.tar")
    paper_datasets.write_imagenet(root, dict.fromkeys(TEN, 1), 2, layout)
    if layout == "torchvision":
        return FolderLayout(root / "ImageNet" / "val")
    flat = root / ("ILSVRC/Data/CLS-LOC/val" if layout == "kaggle" else "ImageNet/val")
    labels = find_annotations(flat, root)
    assert labels is not None
    return AnnotatedLayout(flat, labels)


LAYOUTS = ("torchvision", "tar", "kaggle", "devkit")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("only", [None, TEN[2:4], ("n00000000",), ()])
def test_all_layouts_list_the_same_images(tmp_path: Path, layout: str, only) -> None:
    found = validation(tmp_path, layout)
    listing = found.listing(only)
    usual = list_images([validation(tmp_path / "usual", "torchvision").path])
    wanted = [item for item in usual.items if only is None or item.key[:9] in only]
    assert [item.key for item in listing.items] == [item.key for item in wanted]
    assert [listing.folders[item.label] for item in listing.items] == [item.key[:9] for item in wanted]
    assert [item.size for item in listing.items] == [item.size for item in wanted]
    assert found.folders == TEN
    assert listing.folders == tuple(dict.fromkeys(item.key[:9] for item in wanted))
    if only is None:
        assert listing.digest == usual.digest


def test_only_the_folders_that_are_wanted_are_looked_into(tmp_path: Path, monkeypatch) -> None:
    found, looked = validation(tmp_path, "torchvision"), []
    scan = dataset_layouts.folder_source.scan
    monkeypatch.setattr(
        dataset_layouts.folder_source,
        "scan",
        lambda path, **how: (looked.append(path.name), scan(path, **how))[1],
    )
    assert len(found.listing(TEN[:2]).items) == 4
    assert looked == list(TEN[:2])


def test_an_image_without_a_label_is_a_problem(tmp_path: Path) -> None:
    found = validation(tmp_path, "kaggle")
    paper_datasets.write_jpeg(found.path / "ILSVRC2012_val_00000099.JPEG", (1, 1), 0)
    assert [one.key for one in found.listing().problems] == ["ILSVRC2012_val_00000099.JPEG"]


def test_a_flat_folder_without_labels_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(LsnError, match=r"no file says which class.*LOC_val_solution\.csv.*meta\.mat"):
        UnlabelledLayout(tmp_path).listing()


LABELS = dict(enumerate(("n02119789", "n02100735", "n01440764"), start=1))


@pytest.mark.parametrize(
    ("names", "content"),
    [
        ("map_clsloc.txt", "".join(f"{wnid} {n} some_name\n" for n, wnid in reversed(LABELS.items()))),
        ("synsets.txt", "".join(f"{wnid}\n" for wnid in LABELS.values())),
        ("synset_words.txt", "".join(f"{wnid} some words\n" for wnid in LABELS.values())),
    ],
)
def test_numbers_of_classes_are_joined_with_their_ids(tmp_path: Path, names: str, content: str) -> None:
    (tmp_path / names).write_text(content)
    truth = tmp_path / "ILSVRC2012_validation_ground_truth.txt"
    truth.write_text("3\n1\n")
    found = read_annotations(truth).wnids
    assert found == {"ILSVRC2012_val_00000001": "n01440764", "ILSVRC2012_val_00000002": "n02119789"}


def test_a_list_by_the_alphabet_does_not_number_the_classes(tmp_path: Path) -> None:
    (tmp_path / "synset_words.txt").write_text("n01440764 tench\nn02100735 setter\n")
    truth = tmp_path / "ILSVRC2012_validation_ground_truth.txt"
    truth.write_text("2\n1\n")
    with pytest.raises(LsnError, match=r"in alphabetical order.*meta\.mat"):
        read_annotations(truth)


@pytest.mark.parametrize("line", ["0", "4", "x", "1.0"])
def test_a_number_that_no_class_has_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "map_clsloc.txt").write_text("".join(f"{wnid} {n} x\n" for n, wnid in LABELS.items()))
    truth = tmp_path / "ILSVRC2012_validation_ground_truth.txt"
    truth.write_text(f"1\n{line}\n")
    with pytest.raises(LsnError, match="expected numbers of the classes"):
        read_annotations(truth)


def test_a_ground_truth_alone_asks_for_the_other_file(tmp_path: Path) -> None:
    truth = tmp_path / "ILSVRC2012_validation_ground_truth.txt"
    truth.write_text("1\n")
    with pytest.raises(LsnError, match=r"no meta\.mat or map_clsloc\.txt beside it"):
        read_annotations(truth)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("val_annotations.txt", "a.JPEG\ttench\n"),
        ("val_annotations.txt", ""),
        ("LOC_val_solution.csv", "Image,Class\na,n01440764\n"),
        ("LOC_val_solution.csv", "ImageId,PredictionString\na,\n"),
        ("imagenet_2012_validation_synset_labels.txt", "1\n2\n"),
        ("val_annotations.txt", "\udcff\n"),
    ],
)
def test_labels_that_say_nothing_are_refused_with_the_file(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, errors="surrogateescape")
    with pytest.raises(LsnError, match=name):
        read_annotations(tmp_path / name)


def test_labels_are_taken_from_the_nearest_folder(tmp_path: Path) -> None:
    flat = tmp_path / "a" / "val"
    flat.mkdir(parents=True)
    assert find_annotations(flat, tmp_path) is None
    (tmp_path / "LOC_val_solution.csv").touch()
    assert find_annotations(flat, tmp_path) == tmp_path / "LOC_val_solution.csv"
    (tmp_path / "a" / "val_annotations.txt").touch()
    assert find_annotations(flat, tmp_path) == tmp_path / "a" / "val_annotations.txt"
    assert find_annotations(flat, flat) is None
