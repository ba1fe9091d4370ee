"""What verification finds: nothing in a right folder or tar, every difference in a wrong one."""

import os
import tarfile
from pathlib import Path

import pytest

from lsncli.bench.suite_toml import load_suite
from lsncli.evaluation.dataset_check import Finding, locate, verify
from lsncli.images.dataset_layouts import DatasetLayout, FolderLayout, TarLayout
from lsncli.reference.classes import class_list
from lsncli.reference.datasets import Dataset

IMAGES = os.environ.get("LSN_IMAGES", "")
TEN = class_list("cifar10").names
CIFAR = Dataset("ten", "ten classes", images=20, classes=10, per_class=2, class_list="cifar10")


def make(folder: Path, counts: dict[str, int]) -> Path:
    """Files with the names of images and nothing in them: no image is opened."""
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            (folder / name / f"{number}.png").touch()
    return folder


def packed(folder: Path) -> DatasetLayout:
    path = folder.with_suffix(".tar")
    with tarfile.open(path, "w") as tar:
        tar.add(folder, folder.name)
    return TarLayout(path)


def differences(found: tuple[Finding, ...]) -> dict[str, tuple[object, object]]:
    return {finding.what: (finding.expected, finding.found) for finding in found if not finding.ok}


@pytest.mark.parametrize("form", [FolderLayout, packed], ids=["folder", "tar"])
def test_a_right_set_has_its_counts_and_no_difference(tmp_path: Path, form) -> None:
    done = verify(CIFAR, form(make(tmp_path / "ten", dict.fromkeys(TEN, 2))))
    assert done.ok
    assert done.findings == (Finding("images", 20, 20, True), Finding("classes", 10, 10, True))


@pytest.mark.parametrize("form", [FolderLayout, packed], ids=["folder", "tar"])
def test_every_difference_is_named(tmp_path: Path, form) -> None:
    counts = dict.fromkeys(TEN, 2) | {"cat": 1, "zebra": 3}
    del counts["ship"]
    done = verify(CIFAR, form(make(tmp_path / "ten", counts)))
    assert not done.ok
    assert differences(done.findings) == {
        "class 'ship'": ("there", "missing"),
        "class 'zebra'": ("not there", "extra"),
        "images of 'cat'": (2, 1),
        "images of 'zebra'": (2, 3),
    }


def test_a_wrong_total_and_a_wrong_number_of_classes_are_differences(tmp_path: Path) -> None:
    done = verify(
        Dataset("mine", "mine", images=5, classes=3), FolderLayout(make(tmp_path / "mine", {"a": 2, "b": 2}))
    )
    assert differences(done.findings) == {"images": (5, 4), "classes": (3, 2)}


def test_a_set_of_which_nothing_is_expected_is_only_counted(tmp_path: Path) -> None:
    done = verify(Dataset("mine", "mine"), FolderLayout(make(tmp_path / "mine", {"a": 2, "b": 3})))
    assert done.findings == (Finding("images", None, 5, True), Finding("classes", None, 2, True))


def test_wordnet_folders_with_and_without_a_name_are_the_same_class(tmp_path: Path) -> None:
    ten = class_list("imagenette")
    folders = [one.wnid if number % 2 else f"{one.wnid}_any" for number, one in enumerate(ten.classes)]
    one = Dataset("ten", "ten", images=10, classes=10, per_class=1, class_list="imagenette")
    assert verify(one, FolderLayout(make(tmp_path / "ten", dict.fromkeys(folders, 1)))).ok


def test_two_folders_of_one_class_are_a_difference(tmp_path: Path) -> None:
    one = Dataset("ten", "ten", class_list="imagenette")
    folders = [one.wnid for one in class_list("imagenette").classes]
    done = verify(one, FolderLayout(make(tmp_path / "ten", dict.fromkeys([*folders, "n01440764_tench"], 1))))
    assert differences(done.findings) == {"class 'n01440764 tench'": ("one folder", "2 folders")}


def test_images_without_class_folders_are_a_difference_where_classes_count(tmp_path: Path) -> None:
    make(tmp_path, {"ten": 20})
    done = verify(CIFAR, FolderLayout(tmp_path / "ten"))
    assert differences(done.findings) == {"classes": (10, 0), "images without a class folder": (0, 20)}


def test_class_folders_of_a_set_that_is_ood_as_a_whole_do_not_matter(tmp_path: Path) -> None:
    one = Dataset("sun", "SUN", images=4, classes=50, labelled=False)
    make(tmp_path, {"sun": 4})
    done = verify(one, FolderLayout(tmp_path / "sun"))
    assert done.findings == (Finding("images", 4, 4, True), Finding("classes", None, 0, True))


def test_a_tar_that_is_cut_short_and_one_that_is_none_are_findings(tmp_path: Path) -> None:
    whole = packed(make(tmp_path / "ten", dict.fromkeys(TEN, 2)))
    data = whole.path.read_bytes()
    whole.path.write_bytes(data[: 9 * 512 + 100])
    assert not verify(CIFAR, TarLayout(whole.path)).ok
    whole.path.write_bytes(b"no tar at all" * 100)
    (finding,) = verify(CIFAR, TarLayout(whole.path)).findings
    assert finding.expected == 20
    assert "cannot be read as a tar" in str(finding.found)


def test_a_set_is_a_folder_or_a_tar_of_its_name(tmp_path: Path) -> None:
    assert locate(tmp_path, CIFAR) is None
    (tmp_path / "ten.tar").touch()
    assert locate(tmp_path, CIFAR) == TarLayout(tmp_path / "ten.tar")
    make(tmp_path / "ten", {"cat": 1})
    assert locate(tmp_path, CIFAR) == FolderLayout(tmp_path / "ten")


@pytest.mark.parametrize("name", list(load_suite("mini").sets))
def test_the_real_mini_sets_are_as_their_suite_says(name: str) -> None:
    known = load_suite("mini").sets[name]
    layout = locate(Path(IMAGES), known) if IMAGES else None
    if layout is None:
        pytest.skip(f"LSN_IMAGES must name a folder with {name}.tar: its counts are NOT checked")
    done = verify(known, layout)
    assert differences(done.findings) == {}


@pytest.mark.skipif(not IMAGES, reason="LSN_IMAGES is not set: differences of real sets are NOT checked")
def test_the_real_mini_training_images_are_fewer_than_the_published() -> None:
    known = load_suite("paper").sets["cifar10-train"]
    layout = locate(Path(IMAGES), known)
    assert layout is not None
    found = differences(verify(known, layout).findings)
    assert found["images"] == (50000, 10000)
    assert found["images of 'frog'"] == (5000, 1000)
    assert len(found) == 11
