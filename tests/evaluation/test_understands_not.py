"""Images choose between two descriptions of every class: counts against a plain loop."""

import tracemalloc

import numpy as np
import pytest

from lsncli.errors import LsnError, UsageError
from lsncli.evaluation import negation as use
from lsncli.evaluation.negation import FOREIGN, DescriptionPair, LabelledFeatures
from lsncli.types import UNLABELLED, unit

CLASSES = ("cat", "dog", "ox")


def pair(classes: int = 3, dim: int = 5) -> DescriptionPair:
    random = np.random.default_rng(1)
    yes, no = unit(random.normal(size=(2, classes, dim)))
    return DescriptionPair(CLASSES if classes == 3 else tuple(f"c{at}" for at in range(classes)), yes, no)


def images(rows: int = 60, dim: int = 5) -> LabelledFeatures:
    random = np.random.default_rng(2)
    labels = np.resize(np.array([0, 1, 2, UNLABELLED, FOREIGN, 1], np.int32), rows)
    features = random.normal(size=(rows, dim)).astype(np.float16)
    return LabelledFeatures(features, labels, [f"{row}.jpg" for row in range(rows)])


def by_loop(asked: DescriptionPair, part: LabelledFeatures) -> dict[str, list[int]]:
    """Every count of a Tally but ``pairs``, one image and one class after the other."""
    count = len(asked.classes)
    names = ("yes", "no", "own_yes", "own_no", "other_yes", "other_no", "fooled", "pairs")
    found = {name: [0] * count for name in names}
    for raw, label in zip(part.features.astype(np.float64), part.labels, strict=True):
        x = raw / np.linalg.norm(raw)
        for at in range(count):
            choice = "yes" if x @ asked.yes[at] >= x @ asked.no[at] else "no"
            found[choice][at] += 1
            if label != UNLABELLED:
                found[f"{'own' if label == at else 'other'}_{choice}"][at] += 1
            if label >= 0 and label != at:
                found["pairs"][label] += 1
                found["fooled"][label] += int(x @ asked.no[at] < x @ asked.no[label])
    return found


def test_counts_are_those_of_a_plain_loop() -> None:
    asked, part = pair(), images()
    found = use.count_choices(asked, [part])
    for name, wanted in by_loop(asked, part).items():
        assert getattr(found, name).tolist() == wanted, name
    x = unit(part.features)
    np.testing.assert_allclose(found.margin, (x @ (asked.yes - asked.no).T).mean(axis=0), rtol=1e-12)
    assert found.images == 60
    assert found.own_yes.sum() + found.own_no.sum() == 40  # 10 unlabelled, 10 of other classes


@pytest.mark.parametrize("size", [1, 7, 60])
def test_parts_of_any_size_give_the_same_counts(size, monkeypatch) -> None:
    asked, part = pair(), images()
    monkeypatch.setattr(use, "CELLS", 3 * 4)
    cut = [
        LabelledFeatures(
            part.features[at : at + size], part.labels[at : at + size], part.keys[at : at + size]
        )
        for at in range(0, 60, size)
    ]
    whole, pieces = use.count_choices(asked, [part]), use.count_choices(asked, cut)
    for name in ("yes", "own_yes", "other_no", "fooled", "pairs"):
        assert getattr(whole, name).tolist() == getattr(pieces, name).tolist()


def test_one_who_understands_not_is_told_from_a_bag_of_words() -> None:
    x = np.eye(3)
    part = LabelledFeatures(x.astype(np.float16), np.arange(3, dtype=np.int32), list("abc"))
    understands = use.total_shares(
        use.count_choices(DescriptionPair(CLASSES, unit(x), unit(1.0 - x)), [part])
    )
    assert (understands.no_of_own, understands.no_of_other, understands.fooled) == (0, 1, 0)
    # "not" changes nothing but a little: whatever is said of the class counts.
    words = np.eye(3) + 0.1
    bag = use.total_shares(
        use.count_choices(DescriptionPair(CLASSES, unit(words), unit(words + 0.05)), [part])
    )
    assert (bag.no_of_own, bag.no_of_other, bag.fooled) == (0, 1, 1)


def test_shares_of_nothing_are_nan() -> None:
    part = LabelledFeatures(images().features, np.full(60, UNLABELLED, np.int32), images().keys)
    found = use.total_shares(use.count_choices(pair(), [part]))
    assert 0 < found.no < 1
    assert np.isnan([found.no_of_own, found.no_of_other, found.fooled]).all()


def test_a_tie_is_a_choice_of_the_positive_description() -> None:
    same = DescriptionPair(CLASSES, pair().yes, pair().yes)
    found = use.count_choices(same, [images()])
    assert found.no.tolist() == [0, 0, 0]
    assert {row["choice"] for row in use.choice_rows(same, [images()])} == {"yes"}


def test_choices_are_one_row_an_image_and_class_and_add_up_to_the_counts() -> None:
    rows = list(use.choice_rows(pair(), [images()]))
    found = use.count_choices(pair(), [images()])
    assert len(rows) == 180
    assert rows[0]["path"] == "0.jpg"
    assert [row["own"] for row in rows[:3]] == [True, False, False]
    assert rows[9]["own"] is None
    dogs = [row for row in rows if row["class"] == "dog"]
    assert sum(row["choice"] == "no" for row in dogs) == found.no[1]
    assert all((row["cosine_yes"] >= row["cosine_no"]) == (row["choice"] == "yes") for row in rows)


def test_memory_does_not_grow_with_the_number_of_rows() -> None:
    asked, peaks = pair(1000, 16), []
    for rows in (20_000, 40_000):
        features = np.ones((rows, 16), np.float16)
        part = LabelledFeatures(features, np.zeros(rows, np.int32), range(rows))
        tracemalloc.start()
        use.count_choices(asked, [part])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]
    assert peaks[1] < 6 * 8 * use.CELLS


def test_descriptions_are_texts_with_the_class_in_them(tiny_backbone) -> None:
    tower = tiny_backbone.text_tower()
    found = use.encode_descriptions(tower, ["cat", "a {brace}"], "x {}", "not x {}")
    assert found.yes.shape == found.no.shape == (2, 32)
    np.testing.assert_allclose(np.linalg.norm(found.no, axis=1), 1, rtol=1e-5)
    same = use.encode_descriptions(tower, ["x cat"], "{}", "not {}")
    np.testing.assert_allclose(found.yes[0], same.yes[0], atol=1e-5)
    np.testing.assert_allclose(found.no[0], same.no[0], atol=1e-5)


def test_descriptions_that_cannot_be_meant_are_refused(tiny_backbone) -> None:
    tower = tiny_backbone.text_tower()
    with pytest.raises(UsageError, match="--no: expected"):
        use.encode_descriptions(tower, ["cat"], "a {}", "not a")
    with pytest.raises(UsageError, match="the same"):
        use.encode_descriptions(tower, ["cat"], "a {}", "a {}")
    with pytest.raises(LsnError, match="no classes"):
        use.encode_descriptions(tower, [])
    with pytest.raises(LsnError, match="no image"):
        use.count_choices(pair(), [])
    with pytest.raises(LsnError, match="5 dimensions"):
        use.count_choices(pair(), [images(dim=4)])


def test_labels_are_matched_by_name() -> None:
    labels = np.array([0, 1, -1, 2], np.int32)
    found = use.labels_among(labels, ("dog", "hen", "cat"), CLASSES)
    assert found.tolist() == [1, FOREIGN, UNLABELLED, 0]
    assert use.labels_among(np.array([-1], np.int32), (), CLASSES).tolist() == [UNLABELLED]


def test_classes_of_a_file_win_and_must_be_names(tmp_path) -> None:
    file = tmp_path / "names.txt"
    file.write_text("cat\n\n  polar   bear \n")
    assert use.choose_classes(tmp_path / "none.h5", "train", file, ("x",)) == ("cat", "polar bear")
    assert use.choose_classes(tmp_path / "none.h5", "train", None, ("x",)) == ("x",)
    for text, wrong in (("cat\ncat\n", "'cat' twice"), ("\n", "found none")):
        file.write_text(text)
        with pytest.raises(UsageError, match=wrong):
            use.choose_classes(tmp_path / "none.h5", "train", file, ())
    with pytest.raises(UsageError, match="cannot be read"):
        use.choose_classes(tmp_path / "none.h5", "train", tmp_path / "absent", ())
