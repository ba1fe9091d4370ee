"""Subsets of image sets: chosen the same everywhere, as many as learning needs, and added to later."""

import json
import shutil
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from bench_samples import png
from hypothesis import given
from hypothesis import strategies as st

from lsncli.bench.jobs import table_rows
from lsncli.bench.measured_table import measure_table
from lsncli.bench.subsets import Subset, expected_images, images_per_class, list_subset, stored_subset
from lsncli.bench.suite_toml import load_suite
from lsncli.bench.tasks import HELD_OUT
from lsncli.errors import LsnError
from lsncli.extraction.encoder import Encoder
from lsncli.extraction.reuse import ReusingEncoder
from lsncli.images.dataset_layouts import FolderLayout
from lsncli.images.listing import list_images
from lsncli.methods.holdout import hold_out
from lsncli.reference.datasets import published_datasets
from lsncli.store.format import Split, SplitInfo, check_split_name
from lsncli.store.reader import list_splits, read_split
from lsncli.store.verify import verify

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
SUBSETS = st.builds(
    Subset,
    st.text("abcXYZ019-_.", min_size=1, max_size=64).filter(lambda name: name.strip(".")),
    st.lists(NAMES, max_size=4, unique=True).map(tuple),
    st.none() | st.integers(1, 2000),
    st.integers(0, 99),
)


@given(st.integers(1, 400))
def test_so_many_images_of_a_class_give_the_shots_and_no_fewer_do(shots: int) -> None:
    count = images_per_class(shots)
    assert count is not None

    def learned_from(images: int) -> int:
        labels = np.zeros(images, dtype=np.int32)
        keys = tuple(map(str, range(images)))
        split = Split("s", np.ones((images, 1), np.float16), labels, keys, ("a",))
        return len(hold_out(split, HELD_OUT, None, 0).train)

    assert learned_from(count) >= shots
    assert learned_from(count - 1) < shots or count == shots + 1


def test_the_papers_shots_need_160_images_of_a_class() -> None:
    assert images_per_class(128) == 160
    assert images_per_class(None) is None


@given(SUBSETS)
def test_a_stored_name_says_which_subset_it_is(subset: Subset) -> None:
    info = SplitInfo(subset.split, 1, 1, subset.classes, (), "", "", "lsn")
    found = stored_subset(subset.split, info, subset.set)
    assert found == (subset if subset.each else replace(subset, seed=0))
    if not subset.whole:
        check_split_name(subset.split)
        other = replace(info, classes=("a class of more than 20 letters",))
        assert stored_subset(subset.split, other, subset.set) == (None if subset.classes else found)
        assert stored_subset(subset.split, info, f"{subset.set}x") is None


@given(SUBSETS, SUBSETS)
def test_other_subsets_have_other_names(one: Subset, other: Subset) -> None:
    if one != other:
        same = one.each == other.each and (one.seed == other.seed or not one.each)
        alike = one.set == other.set and same and sorted(one.classes) == sorted(other.classes)
        assert (one.split == other.split) == alike


def test_the_order_of_classes_does_not_matter_and_everything_else_does() -> None:
    one = Subset("s", ("a", "b"), 4, 1)
    assert one.split == Subset("s", ("b", "a"), 4, 1).split
    others = [Subset("s", ("a",), 4, 1), replace(one, each=5), replace(one, seed=2), replace(one, set="t")]
    assert len({one.split, *(other.split for other in others)}) == 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Six classes of twenty images."""
    root = tmp_path_factory.mktemp("subsets")
    for label in range(6):
        for number in range(20):
            path = root / "many" / f"class_{label}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x" * (number + 1))
    return root


@given(
    st.integers(1, 25),
    st.integers(0, 5),
    st.sets(st.sampled_from([f"class {n}" for n in range(6)]), min_size=1),
)
def test_fewer_images_and_classes_are_a_part_of_more(
    folder: Path, each: int, seed: int, names: set[str]
) -> None:
    layout = FolderLayout(folder / "many")
    some = list_subset(Subset("many", tuple(names), each, seed), layout, None)
    more = list_subset(Subset("many", (), each + 1, seed), layout, None)
    keys, others = ({item.key for item in one.items} for one in (some, more))
    assert keys <= others
    assert len(keys) == len(names) * min(each, 20)
    assert {key.partition("/")[0].replace("_", " ") for key in keys} == names
    again = list_subset(Subset("many", tuple(sorted(names, reverse=True)), each, seed), layout, None)
    assert again.digest == some.digest


def test_the_choice_is_the_same_on_every_machine(folder: Path) -> None:
    chosen = list_subset(Subset("many", ("class 1",), 3, 0), FolderLayout(folder / "many"), None)
    keys = [f"class_1/{number}.png" for number in range(20)]
    lots = sorted(keys, key=lambda key: sha256(f"0\0class_1\0{key}".encode()).digest())
    assert [item.key for item in chosen.items] == sorted(lots[:3])


def test_images_without_classes_cannot_be_counted_by_class(tmp_path: Path) -> None:
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "a.png").write_bytes(b"x")
    with pytest.raises(LsnError, match="expected a folder for each class of 'flat'"):
        list_subset(Subset("flat", (), 3), FolderLayout(tmp_path / "flat"), None)


def test_published_counts_say_how_many_images_a_subset_has() -> None:
    known = published_datasets()["imagenet-train"]
    assert expected_images(Subset("imagenet-train", ("x",) * 100, 160), known) == 16_000
    assert expected_images(Subset("imagenet-train", (), 160), known) == 160_000
    assert expected_images(Subset("imagenet-train"), known) == 1_281_167
    assert (
        expected_images(Subset("imagenet-val", ("x",) * 100), published_datasets()["imagenet-val"]) == 5_000
    )
    assert expected_images(Subset("mine", (), 4), None) is None


def test_known_features_are_taken_and_the_others_encoded(tmp_path: Path, tiny_backbone) -> None:
    for number in range(11):
        pixels = np.random.default_rng(number).integers(0, 256, size=(8, 8, 3), dtype=np.uint8)
        (tmp_path / f"{number:02d}.png").write_bytes(png(pixels) if number != 4 else b"broken")
    items = list_images([tmp_path]).items
    ticks: list[int] = []

    def progress(step: int, note: str = "") -> None:
        ticks.append(step)

    usual = list(Encoder(tiny_backbone, 4, 1, lambda step, note="": None).stream(items))
    rows = {key: row for batch in usual for key, row in zip(batch.keys, batch.features, strict=True)}
    known = {key: rows[key] + np.float16(1) for key in list(rows)[1::3]}
    encoder = ReusingEncoder(tiny_backbone, 4, 1, progress, known)
    made = list(encoder.stream(items, 4))
    assert [(one.start, one.stop, one.keys, one.failures) for one in made] == [
        (one.start, one.stop, one.keys, one.failures) for one in usual[1:]
    ]
    for one, other in zip(made, usual[1:], strict=True):
        assert one.labels.tolist() == other.labels.tolist()
        wanted = [known.get(key, row) for key, row in zip(other.keys, other.features, strict=True)]
        assert np.allclose(one.features, wanted, atol=1e-2)
        assert all(
            np.array_equal(row, known[key])
            for key, row in zip(one.keys, one.features, strict=True)
            if key in known
        )
    assert sum(ticks) == 7
    assert encoder.images == 7 - len([key for key in known if key >= "04"])


SUITE = """
title = "noise"
model = "{model}"
mode = "fast"
shots = 2
[sets.train]
title = "noise to learn from"
images = 60
classes = 6
[sets.test]
title = "noise to test on"
images = 18
classes = 6
[sets.far]
title = "other noise"
[id.two]
train = "train"
test = "test"
classes = ["class 1", "class 4"]
[id.six]
train = "train"
test = "test"
[tables.small]
id = "two"
ood = {{ Far = "far" }}
[tables.small.rows.MCM]
method = "mcm"
[tables.small.rows.KNN]
method = "knn,k=1"
[tables.large]
id = "six"
ood = {{ Far = "far" }}
[tables.large.rows.KNN]
method = "knn,k=1"
"""


@pytest.fixture(scope="module")
def noise(tmp_path_factory, tiny_model) -> Path:
    """Six classes: ten images of each to learn from, three to test on."""
    root = tmp_path_factory.mktemp("noise")
    (root / "noise.toml").write_text(SUITE.format(model=tiny_model))
    random = np.random.default_rng(0)
    for name, count in (("train", 10), ("test", 3), ("far", 1)):
        for label in range(6):
            for number in range(count):
                path = root / "data" / name / f"class_{label}" / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(png(random.integers(0, 256, size=(8, 8, 3), dtype=np.uint8)))
    return root


def run(root: Path, table: str, work: Path, data: str = "data", **given):
    suite = load_suite(str(root / "noise.toml"))
    return measure_table(
        suite,
        suite.table(table),
        work=work,
        data=root / data,
        device="cpu",
        quiet=True,
        batch_size=4,
        **given,
    )


def stored(work: Path) -> dict[str, int]:
    (store,) = work.glob("bench/noise/*/features.h5")
    return {name: info.rows for name, info in list_splits(store).items()}


def test_a_later_table_adds_what_it_lacks_and_changes_no_result(
    noise: Path, tmp_path: Path, monkeypatch
) -> None:
    encoded: list[int] = []
    stream = Encoder.stream

    def counted(self, items, start=0):
        encoded.append(len(items) - start)
        return stream(self, items, start)

    monkeypatch.setattr(Encoder, "stream", counted)
    table, _ = run(noise, "small", tmp_path)
    assert table.rows["KNN"]["Far/auroc"].mean is not None
    assert (sum(encoded), sorted(stored(tmp_path).values())) == (2 * 3 + 2 * 3 + 6, [6, 6, 6])
    results = (tmp_path / "results" / "noise.jsonl").read_bytes()
    encoded.clear()
    run(noise, "large", tmp_path)
    assert sum(encoded) == 4 * 3 + 4 * 3  # of six classes' images, those of two are known
    assert sorted(stored(tmp_path).values()) == [6, 6, 6, 18, 18]
    assert (tmp_path / "results" / "noise.jsonl").read_bytes().startswith(results)
    encoded.clear()
    again, plan = run(noise, "small", tmp_path)
    assert plan.waiting == ()
    assert again.rows == table.rows
    (store,) = tmp_path.glob("bench/noise/*/features.h5")
    assert verify(store) == []


def test_features_that_were_copied_are_those_of_the_same_images(noise: Path, tmp_path: Path) -> None:
    run(noise, "small", tmp_path)
    run(noise, "large", tmp_path)
    (store,) = tmp_path.glob("bench/noise/*/features.h5")
    splits = {name: read_split(store, name) for name in list_splits(store) if name.startswith("train")}
    small, large = sorted(splits.values(), key=lambda one: len(one.keys))
    rows = dict(zip(large.keys, large.features, strict=True))
    assert set(small.keys) <= rows.keys()
    for key, row in zip(small.keys, small.features, strict=True):
        assert np.array_equal(rows[key], row)


def test_rows_that_learn_nothing_need_no_training_images(noise: Path, tmp_path: Path) -> None:
    shutil.copytree(noise / "data", tmp_path / "data")
    shutil.copyfile(noise / "noise.toml", tmp_path / "noise.toml")
    shutil.rmtree(tmp_path / "data" / "train")
    table, _ = run(tmp_path, "small", tmp_path / "work")
    assert table.rows["MCM"]["Far/auroc"].mean is not None
    assert "no features of the set 'train'" in table.rows["KNN"]["Far/auroc"].why_missing


def test_a_store_with_the_whole_set_is_used_as_it_is(noise: Path, tmp_path: Path, tiny_backbone) -> None:
    from lsncli.extraction.extract import extract

    suite = load_suite(str(noise / "noise.toml"))
    _, plan = run(noise, "small", tmp_path, dry=True)
    store = plan.suite_work.workspace("").features
    store.parent.mkdir(parents=True)
    for name in ("train", "test", "far"):
        listing = list_images([noise / "data" / name])
        extract(listing, source=name, store=store, split=name, backbone=tiny_backbone, batch_size=4)
    table, plan = run(noise, "small", tmp_path)
    assert plan.extracts == ()
    assert set(stored(tmp_path)) == {"train", "test", "far"}
    assert table.rows["KNN"]["Far/auroc"].mean is not None
    assert suite.sets["train"].images == 60


def test_every_seed_draws_from_the_whole_set(noise: Path, tmp_path: Path) -> None:
    run(noise, "small", tmp_path, seeds=2, rows=["KNN"])
    (store,) = tmp_path.glob("bench/noise/*/features.h5")
    one, other = (read_split(store, name).keys for name in list_splits(store) if name.startswith("train."))
    assert one != other
    records = map(json.loads, (tmp_path / "results" / "noise.jsonl").read_text().splitlines())
    assert {(record["seed"], record["train_rows"]) for record in records} == {(0, 4), (1, 4)}


def test_images_that_changed_are_not_taken_for_known(noise: Path, tmp_path: Path) -> None:
    shutil.copytree(noise / "data", tmp_path / "data")
    shutil.copyfile(noise / "noise.toml", tmp_path / "noise.toml")
    run(tmp_path, "small", tmp_path / "work", rows=["KNN"])
    pixels = np.zeros((9, 9, 3), dtype=np.uint8)
    for path in tmp_path.glob("data/test/class_1/*.png"):
        path.write_bytes(png(pixels))
    table, _ = run(tmp_path, "large", tmp_path / "work")
    assert table.rows["KNN"]["Far/auroc"].mean is not None
    (store,) = tmp_path.glob("work/bench/noise/*/features.h5")
    whole = read_split(store, "test")
    changed = [row for key, row in zip(whole.keys, whole.features, strict=True) if key.startswith("class_1/")]
    assert all(np.array_equal(row, changed[0]) for row in changed)
    (tmp_path / "work" / "results" / "noise.jsonl").unlink()
    table, _ = run(tmp_path, "small", tmp_path / "work", rows=["KNN"])
    assert "the features of 'test' were made from 6 images" in table.rows["KNN"]["Far/auroc"].why_missing


def test_lines_of_the_paper_name_the_classes_that_they_need() -> None:
    suite = load_suite("paper")
    (row,) = table_rows(suite, suite.table(1), rows=["MCM"])
    assert row.splits[0].test.image_set == "imagenet-val"
    assert len(row.splits[0].test.classes) == 100
