"""The class splits of Table 3: five benchmarks, sides that never meet, the rows that ZOC lists."""

import pytest

from lsncli.errors import UsageError
from lsncli.reference.classes import ClassSplit, class_list, open_set, open_sets

COUNTS = {
    "cifar10": (5, 6, 4),
    "cifar100": (5, 20, 80),
    "cifar+10": (5, 4, 10),
    "cifar+50": (1, 4, 50),
    "tinyimagenet": (5, 20, 180),
}
ALL = [(key, split) for key in open_sets() for split in open_set(key).splits]


def test_there_are_five_in_the_order_of_the_table() -> None:
    assert open_sets() == tuple(COUNTS)
    titles = [open_set(key).title for key in open_sets()]
    assert titles == ["CIFAR10", "CIFAR100", "CIFAR+10", "CIFAR+50", "TinyImagenet"]


@pytest.mark.parametrize("key", open_sets())
def test_counts_are_the_protocols(key: str) -> None:
    number, inside, outside = COUNTS[key]
    found = open_set(key)
    assert len(found.splits) == number
    assert {(len(split.id_names), len(split.ood_names)) for split in found.splits} == {(inside, outside)}
    assert len(set(found.splits)) == number


@pytest.mark.parametrize(("key", "split"), ALL)
def test_sides_are_classes_of_their_lists_and_never_meet(key: str, split: ClassSplit) -> None:
    found = open_set(key)
    assert set(split.id_names) <= set(class_list(found.id_classes).names)
    assert set(split.ood_names) <= set(class_list(found.ood_classes).names)
    assert not set(split.id_names) & set(split.ood_names)
    for names in (split.id_names, split.ood_names):
        assert len(set(names)) == len(names)


@pytest.mark.parametrize("key", ["cifar10", "cifar100", "tinyimagenet"])
def test_every_class_of_one_list_is_on_one_side(key: str) -> None:
    every = set(class_list(key).names)
    assert all(set(split.id_names) | set(split.ood_names) == every for split in open_set(key).splits)


def test_known_first_rows() -> None:
    def first(key: str) -> tuple[str, ...]:
        return open_set(key).splits[0].id_names

    assert first("cifar10") == ("airplane", "automobile", "truck", "horse", "cat", "bird")
    assert first("cifar100") == class_list("cifar100").names[:20]
    assert first("tinyimagenet")[:4] == ("potpie", "kimono", "school bus", "go-kart")
    assert open_set("cifar+10").splits[0].ood_names[:3] == ("lion", "hamster", "cockroach")
    assert open_set("cifar+50").splits[0].ood_names[:3] == ("beaver", "dolphin", "otter")


def test_cifar_100s_twenties_are_the_alphabet_in_order() -> None:
    names = [name for split in open_set("cifar100").splits for name in split.id_names]
    assert tuple(names) == class_list("cifar100").names


def test_cifar_plus_has_the_four_vehicles_and_no_vehicle_outside() -> None:
    vehicles = {
        "bicycle",
        "bus",
        "motorcycle",
        "pickup truck",
        "streetcar",
        "tank",
        "tractor",
        "train",
        "rocket",
    }
    for key in ("cifar+10", "cifar+50"):
        for split in open_set(key).splits:
            assert split.id_names == ("airplane", "automobile", "ship", "truck")
            assert not vehicles & set(split.ood_names)


def test_another_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match=r"no class splits 'svhn'.*cifar\+10"):
        open_set("svhn")
