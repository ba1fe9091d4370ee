"""Suites: the two of our own fit the published tables; every mistake in a file is named with its place."""

from pathlib import Path

import pytest

from lsncli.bench.jobs import check_methods
from lsncli.bench.suite import ClassChoice, Suite
from lsncli.bench.suite_toml import SUITES, load_suite, read_table
from lsncli.errors import UsageError
from lsncli.reference.classes import class_list, open_set
from lsncli.reference.datasets import published_datasets
from lsncli.reference.published import NUMBERS, TABLES, load_table

MINE = """
title = "mine"
model = "mini"
shots = 7
[sets.birds]
title = "my birds"
[sets.cars]
title = "my cars"
[id.birds]
train = "birds"
test = "birds"
[learn.pos]
kind = "positive"
[learn.neg]
kind = "negative"
mode = "fast"
[tables.one]
id = "birds"
[tables.one.ood]
Cars = "cars"
[tables.one.rows.MCM]
method = "mcm"
[tables.one.rows.LSN]
method = "lsn"
learn = ["pos", "neg"]
shots = 3
"""


def mine(folder: Path, *changes: tuple[str, str], text: str = MINE) -> Suite:
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return load_suite(str(path))


ALL = [(name, number) for name in SUITES for number in NUMBERS]


@pytest.mark.parametrize("name", SUITES)
def test_our_suites_have_every_table_of_the_paper(name: str) -> None:
    assert tuple(load_suite(name).tables) == TABLES


@pytest.mark.parametrize(("name", "number"), ALL)
def test_rows_and_columns_are_those_of_the_published_table(name: str, number: int) -> None:
    ours, theirs = load_suite(name).table(number), load_table(number)
    assert [row.name for row in ours.rows] == [row.name for row in theirs.rows]
    groups = dict.fromkeys(column.group for column in theirs.columns)
    assert [group.name for group in ours.groups] == [one for one in groups if one not in ("", "Average")]


@pytest.mark.parametrize("key", TABLES)
@pytest.mark.parametrize("name", SUITES)
def test_methods_and_settings_of_our_suites_can_be_meant(name: str, key: str) -> None:
    suite = load_suite(name)
    check_methods(suite, suite.table(key))


@pytest.mark.parametrize("name", SUITES)
def test_our_suites_have_no_set_or_step_that_nothing_uses(name: str) -> None:
    suite = load_suite(name)
    assert all(suite.tables_by_set().values())
    rows = [row for one in suite.tables.values() for row in one.rows]
    assert {step.name for row in rows for step in row.learn} == set(suite.steps)
    groups = [group for one in suite.tables.values() for group in one.groups]
    assert {row.id for row in rows} | {group.id for group in groups} == {*suite.ids, ""}


def test_the_paper_suite_asks_for_the_published_sets_and_backbones() -> None:
    suite = load_suite("paper")
    assert dict(suite.sets) == dict(published_datasets())
    assert not suite.stand_in
    models = {key: {row.model for row in one.rows} for key, one in suite.tables.items()}
    assert models["1"] == {"ViT-B-16-quickgelu:openai"}
    assert models["3"] == {"ViT-B-32-quickgelu:openai"}
    assert models["7"] == {"RN50-quickgelu:openai"}
    assert models["10"] == {"blip:Salesforce/blip-itm-base-coco"}
    assert len(models["9"]) == 3
    assert [row.id for row in suite.table(11).rows] == [
        f"imagenet{size}" for size in ("10", "20", "100", "1k") for _ in range(2)
    ]


def test_the_mini_suite_never_prints_a_stand_in_under_a_published_name() -> None:
    suite = load_suite("mini")
    assert suite.stand_in
    assert "NOT the paper's sets" in suite.note
    for group in suite.table(1).groups:
        stand_in = suite.sets[group.ood]
        assert group.ood not in published_datasets()
        assert group.name not in stand_in.title.split()
        assert stand_in.note == f"stands in for {group.name}" or stand_in.note.startswith(
            f"stands in for {group.name};"
        )


def test_the_mini_suites_table_3_is_the_published_protocol() -> None:
    paper, mini = load_suite("paper"), load_suite("mini")
    for group in mini.table(3).groups:
        assert mini.ids[group.id] == paper.ids[group.id]
        splits = open_set(group.id).splits
        assert [(one.inside, one.outside) for one in mini.ids[group.id].choices] == [
            (split.id_names, split.ood_names) for split in splits
        ]
    assert mini.sets["cifar10-test"] == published_datasets()["cifar10-test"]
    assert mini.sets["cifar10-train"].images == 10000


def test_what_the_mini_suite_cannot_measure_says_why() -> None:
    suite = load_suite("mini")
    unavailable = {
        key: {row.name for row in one.rows if row.unavailable} for key, one in suite.tables.items()
    }
    assert {key: names for key, names in unavailable.items() if names} == {
        "2": {"CLIPN"},
        "9": {row.name for row in suite.table(9).rows},
        "10": {row.name for row in suite.table(10).rows},
        "11": {"ImageNet-1k/LSN"},
    }


def test_a_class_list_picks_classes_of_the_stored_set_and_may_call_them_otherwise() -> None:
    (choice,) = load_suite("paper").ids["imagenet10"].choices
    assert len(choice.inside) == len(choice.names) == 10
    assert (choice.inside[4], choice.names[4]) == ("common sorrel horse", "horse")
    assert set(choice.inside) <= set(class_list("imagenet1k").names)
    assert choice.names == class_list("imagenet10").names
    (hundred,) = load_suite("paper").ids["imagenet100"].choices
    assert hundred.inside == hundred.names
    assert load_suite("paper").ids["imagenet1k"].choices == (ClassChoice(),)


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    suite = mine(tmp_path)
    one = suite.table("one")
    assert suite.name == "mine"
    assert (suite.mode, suite.seeds, suite.shots) == ("paper", 1, 7)
    mcm, lsn = one.rows
    assert (mcm.model, mcm.id, mcm.shots, mcm.learn) == ("mini", "birds", 7, ())
    assert lsn.shots == 3
    assert [(step.kind, dict(step.settings)) for step in lsn.learn] == [
        ("positive", {"mode": "paper", "learner": "coop"}),
        ("negative", {"mode": "fast", "learner": "coop"}),
    ]
    assert suite.needs(one) == ("birds", "cars")
    check_methods(suite, one)


def test_a_published_set_needs_no_description_and_can_be_told_otherwise(tmp_path: Path) -> None:
    suite = mine(
        tmp_path, ('[sets.cars]\ntitle = "my cars"', "[sets.cars]\ntitle = 'x'\n[sets.sun]\nimages = 9")
    )
    assert suite.sets["sun"].images == 9
    assert suite.sets["sun"].title == published_datasets()["sun"].title


def test_a_table_from_a_file_of_its_own(tmp_path: Path) -> None:
    suite = mine(tmp_path)
    path = tmp_path / "rows.toml"
    path.write_text('id = "birds"\nood = { Cars = "cars" }\nrows = { KNN = { method = "knn,k=3" } }')
    found = read_table(path, suite)
    assert found.key == "rows"
    assert [(row.name, row.method) for row in found.rows] == [("KNN", "knn,k=3")]
    path.write_text('id = "birds"\nood = { Cars = "trucks" }\nrows = { KNN = { method = "knn" } }')
    with pytest.raises(
        UsageError, match=r"rows\.toml, key 'ood\.Cars': expected one of birds, cars, found 'trucks'"
    ):
        read_table(path, suite)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('title = "mine"\n', "", r"mine\.toml: expected a text under the key 'title', found none"),
        ("shots = 7", "shots = 0", r"mine\.toml, key 'shots': expected a whole number above 0, found 0"),
        ("shots = 7", "shots = true", r"key 'shots': expected a whole number above 0, found True"),
        ("shots = 7", "shoots = 7", r"mine\.toml: there is no key 'shoots'. Expected .*shots"),
        ('title = "my birds"', "", r"\[sets\.birds\]: expected a text under the key 'title'"),
        ('title = "my birds"', 'title = "b"\nimages = "4"', r"\[sets\.birds\], key 'images': .* found '4'"),
        (
            'title = "my birds"',
            'title = "b"\nclass_list = "x"',
            r"key 'class_list': expected one of imagenet1k",
        ),
        (
            'title = "my birds"',
            'title = "b"\nlabelled = 1',
            r"key 'labelled': expected true or false, found 1",
        ),
        (
            'test = "birds"',
            'test = "bird"',
            r"\[id\.birds\], key 'test': expected one of birds, cars, found 'bird'",
        ),
        (
            'test = "birds"',
            'test = "birds"\nsplits = "cifar10"',
            r"key 'rest': expected the set of the OOD classes",
        ),
        ('test = "birds"', 'test = "birds"\nclasses = "x"', r"key 'classes': expected one of imagenet1k"),
        (
            'kind = "positive"',
            'kind = "good"',
            r"\[learn\.pos\], key 'kind': expected one of positive, negative",
        ),
        (
            'id = "birds"\n[tables',
            'id = "bird"\n[tables',
            r"\[tables\.one\], key 'id': expected one of birds",
        ),
        (
            'id = "birds"\n[tables',
            "[tables",
            r"rows\.MCM\], key 'id': expected one of birds here or in the table",
        ),
        ('Cars = "cars"', 'Cars = "car"', r"key 'ood\.Cars': expected one of birds, cars, found 'car'"),
        ('Cars = "cars"', "", r"key 'ood': expected OOD sets by column"),
        ('method = "mcm"', "", r"\[tables\.one\], \[rows\.MCM\]: expected a text under the key 'method'"),
        ('method = "mcm"', 'method = "mcm"\nnotes = "x"', r"\[rows\.MCM\]: there is no key 'notes'"),
        (
            '["pos", "neg"]',
            '["pos", "no"]',
            r"\[rows\.LSN\], key 'learn': expected one of pos, neg, found 'no'",
        ),
        ('["pos", "neg"]', '["pos", "pos"]', r"key 'learn': expected at most one of a kind"),
        ('["pos", "neg"]', '"pos"', r"key 'learn': expected a list of texts, found 'pos'"),
        ('train = "birds"\n', "", r"key 'learn': expected nothing, for the ID set 'birds' has no 'train'"),
        (
            'test = "birds"\n',
            'test = "birds"\nclasses = ["Crow", "crow"]\n',
            r"classes: .*'Crow', 'crow' are one text",
        ),
        ("[tables.one.rows.MCM]", "[tables.one.rows.MCM", r"mine\.toml is not valid TOML"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        mine(tmp_path, (old, new))
    assert "mine.toml" in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('method = "mcm"', 'method = "mmc"', r"Suite 'mine', table one, row 'MCM': .*mmc"),
        (
            'method = "mcm"',
            'method = "mcm:positive"',
            r"row 'MCM': the method mcm:positive needs something of the kind 'positive'",
        ),
        ('["pos", "neg"]', '["pos"]', r"row 'LSN': the method lsn needs something of the kind 'negative'"),
        ('mode = "fast"', 'mode = "quick"', r"row 'LSN': learn 'neg': --mode: expected one of paper"),
        ('mode = "fast"', "speed = 3", r"row 'LSN': learn 'neg': .*speed"),
        (
            'kind = "negative"',
            'kind = "linear"',
            r"learn 'neg': expected no settings for a head, found 'mode'",
        ),
    ],
)
def test_methods_that_cannot_be_meant_are_named_with_their_row(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    suite = mine(tmp_path, (old, new))
    with pytest.raises(UsageError, match=message):
        check_methods(suite, suite.table("one"))


def test_a_score_that_looks_at_training_images_needs_some(tmp_path: Path) -> None:
    suite = mine(
        tmp_path,
        ('train = "birds"\n', ""),
        ('method = "mcm"', 'method = "knn"'),
        ('method = "lsn"\nlearn = ["pos", "neg"]', 'method = "msp"'),
    )
    with pytest.raises(UsageError, match=r"row 'MCM': the method knn looks at training images"):
        check_methods(suite, suite.table("one"))


def test_unavailable_rows_may_lack_what_they_learn(tmp_path: Path) -> None:
    suite = mine(tmp_path, ('method = "mcm"', 'method = "clipn"\nunavailable = "no tower"'))
    check_methods(suite, suite.table("one"))


def test_the_example_in_the_documentation_is_a_suite(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "suites.md").read_text(encoding="utf-8")
    example = text.split("```toml\n")[1].split("```")[0]
    suite = mine(tmp_path, text=example)
    check_methods(suite, suite.table("garden"))
    assert suite.needs(suite.table("garden")) == ("birds-train", "birds-test", "cats", "textures")
    assert (suite.seeds, suite.shots, suite.mode) == (3, 64, "fast")


def test_suites_and_tables_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no suite 'huge'.*paper, mini or a FILE\.toml"):
        load_suite("huge")
    with pytest.raises(UsageError, match=r"--suite .*no\.toml cannot be read"):
        load_suite(str(tmp_path / "no.toml"))
    with pytest.raises(UsageError, match=r"suite 'mini' has no table 6\. Expected one of 1, 2"):
        load_suite("mini").table(6)
