"""Class lists: sizes, names that can be told apart, and folders that find their class."""

import json
from importlib.resources import files

import pytest

from lsncli.errors import UsageError
from lsncli.reference.classes import class_list, class_lists

SIZES = {
    "imagenet1k": 1000,
    "imagenet100": 100,
    "imagenet20": 20,
    "imagenet10": 10,
    "imagenette": 10,
    "tinyimagenet": 200,
    "cifar10": 10,
    "cifar100": 100,
    "dtd": 47,
}
WITH_WNIDS = ("imagenet1k", "imagenet100", "imagenet20", "imagenet10", "imagenette", "tinyimagenet")


def test_there_are_these_lists() -> None:
    assert {key: len(class_list(key)) for key in class_lists()} == SIZES


@pytest.mark.parametrize("key", class_lists())
def test_classes_are_in_the_order_of_their_folders_and_differ(key: str) -> None:
    found = class_list(key)
    keys = [one.key for one in found.classes]
    assert keys == sorted(set(keys))
    assert len(set(found.names)) == len(found)
    assert all(name == " ".join(name.split()) and "_" not in name for name in found.names)


@pytest.mark.parametrize("key", WITH_WNIDS)
def test_every_list_with_wordnet_ids_is_part_of_imagenet(key: str) -> None:
    assert {one.wnid for one in class_list(key).classes} <= {
        one.wnid for one in class_list("imagenet1k").classes
    }


def test_imagenet_names_are_those_of_mcm() -> None:
    names = class_list("imagenet1k").published_names
    assert (names[0], names[15], names[517], names[999]) == (
        "tench",
        "American robin",
        "construction crane",
        "toilet paper",
    )
    assert [names[index] for index in (657, 744, 836, 837)] == ["missile"] * 2 + ["sunglasses"] * 2


def test_twins_of_imagenet_are_told_apart_by_their_wordnet_names() -> None:
    found = class_list("imagenet1k")
    changed = {
        index: name
        for index, (name, one) in enumerate(zip(found.names, found.classes, strict=True))
        if name != one.name
    }
    assert changed == {744: "projectile", 836: "sunglass"}


def test_imagenet_100_is_the_papers_with_the_same_names() -> None:
    everything = {one.wnid: one.name for one in class_list("imagenet1k").classes}
    hundred = class_list("imagenet100")
    assert all(everything[one.wnid] == one.name for one in hundred.classes)
    # The first and last of Appendix C.0.1, in the paper's own order.
    listed = {
        "n03877845",
        "n03000684",
        "n03110669",
        "n03133878",
        "n02097130",
        "n02113799",
        "n09399592",
        "n03594945",
    }
    assert listed <= {one.wnid for one in hundred.classes}


def test_imagenet_10_has_mcms_prompt_names_and_shares_no_class_with_imagenet_100() -> None:
    ten, hundred = class_list("imagenet10"), class_list("imagenet100")
    assert ten.names[4:6] == ("horse", "antelope")
    assert not {one.wnid for one in ten.classes} & {one.wnid for one in hundred.classes}


def test_known_first_classes() -> None:
    first = {key: class_list(key).names[0] for key in ("cifar10", "cifar100", "tinyimagenet", "dtd")}
    assert first == {"cifar10": "airplane", "cifar100": "apple", "tinyimagenet": "goldfish", "dtd": "banded"}


@pytest.mark.parametrize(
    ("key", "folder", "name"),
    [
        ("imagenet1k", "n01440764", "tench"),
        ("imagenet1k", "n01440764_tench", "tench"),
        ("imagenet1k", "n04008634-missile", "projectile"),
        ("tinyimagenet", "n03992509_potter_s_wheel", "potter's wheel"),
        ("cifar100", "aquarium_fish", "aquarium fish"),
        ("cifar100", "aquarium fish", "aquarium fish"),
        ("imagenet1k", "tench", None),
        ("imagenet10", "n01440764", None),
        ("cifar10", "n01440764", None),
        ("imagenet1k", "n014407641", None),
    ],
)
def test_a_folder_finds_its_class(key: str, folder: str, name: str | None) -> None:
    assert class_list(key).names_of([folder, "."]) == ({folder: name} if name else {})


def test_another_list_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match=r"no class list 'imagenet21k'.*imagenet1k"):
        class_list("imagenet21k")


def test_the_file_is_compact() -> None:
    text = (files("lsncli.reference") / "classes.json").read_text(encoding="utf-8")
    assert len(text) < 60_000
    assert max(map(len, text.splitlines())) <= 120
    assert list(json.loads(text)) == list(SIZES)
