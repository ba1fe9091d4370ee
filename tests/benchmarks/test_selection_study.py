"""The study of `lsn select`: its sets do not overlap, and the decision quotes what is recorded."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.accuracy.selection import FAR, image_set, of_classes, summarise, tasks
from benchmarks.accuracy.selection_errors import CLASSES, bootstrap_errs, simulated
from benchmarks.records import read

DECISION = Path(__file__).parents[2] / "docs" / "decisions" / "0034-choosing-without-ood-images.md"


def recorded() -> dict:
    content, _ = read("selection")
    assert content is not None
    return content


def test_near_and_foreign_images_are_of_no_class_and_not_the_same() -> None:
    seen = 0
    for task in tasks():
        if task.name.startswith("cifar"):
            break  # their features do not come with lsn
        seen += 1
        near = task.ood[0]
        assert [split.name for split in task.ood] == ["near", *FAR]
        for other in (near, task.foreign):
            assert not set(other.classes) & set(task.train.classes)
            assert len(other.labels) >= 400
        if task.name == "imagenette":
            assert not set(near.keys) & set(task.foreign.keys)
        assert not set(task.train.keys) & set(task.test.keys)
        assert np.bincount(task.train.labels).max() <= 64
    assert seen == 6


def test_rows_of_classes_are_at_most_as_many_as_asked_for_and_named_in_their_order() -> None:
    photos = image_set("textures-dtd10")
    part = of_classes(photos, photos.classes[3:1:-1], "part", most=5)
    assert part.classes == (photos.classes[3], photos.classes[2])
    assert np.bincount(part.labels).tolist() == [5, 5]


def test_gain_and_regret_by_hand() -> None:
    found = [
        {"auroc": {"mcm": 0.8, "a": 0.9, "b": 0.85}, "choices": {"rule": "b"}},
        {"auroc": {"mcm": 0.7, "a": 0.6, "b": 0.65}, "choices": {"rule": "a"}},
    ]
    assert summarise(found) == {"rule": {"gain": -2.5, "least gain": -10.0, "regret": 7.5}}


def test_the_record_keeps_what_it_promises() -> None:
    content = recorded()
    assert content["rules"] == summarise(content["sets"])
    assert len(content["sets"]) == 16
    assert content["rules"]["lsn select"]["least gain"] >= -0.5
    assert content["rules"]["lsn select"]["gain"] >= 3
    for each in content["sets"]:
        assert not set(each["choices"].values()) - each["auroc"].keys()


@pytest.mark.parametrize("number", range(16))
def test_the_decision_quotes_the_record(number: int) -> None:
    content, text = recorded(), DECISION.read_text(encoding="utf-8")
    each = content["sets"][number]
    auroc, name = each["auroc"], each["choices"]["lsn select"]
    best = max(auroc, key=lambda method: auroc[method])
    foreign = each["choices"]["with --foreign"]
    cells = [f"{100 * auroc[method]:.1f}" for method in ("mcm", name, foreign, best)]
    line = f"| {each['name']} | {cells[0]} | {name} {cells[1]} | {foreign} {cells[2]} | {best} {cells[3]} |"
    assert line in text
    if number == 0:
        for rule, values in content["rules"].items():
            assert f"| {rule} | " + " | ".join(f"{value:.1f}" for value in values.values()) + " |" in text


def test_the_decision_quotes_the_cheaper_ways_to_learn_prompts() -> None:
    content, _ = read("selection-prompts")
    assert content is not None
    text = DECISION.read_text(encoding="utf-8")
    for way in ("exact", "all classes", "warm start 80", "warm start 50"):
        cells = [
            f"{100 * each['approximations'][way][method]:.1f}"
            for each in content["sets"]
            for method in ("lsn", "energy:positive")
        ]
        assert f"| {way} | {' | '.join(cells)} |" in text


def test_the_page_says_how_far_negative_prompts_are_behind() -> None:
    content, _ = read("selection-prompts")
    assert content is not None
    text = " ".join((DECISION.parents[1] / "select.md").read_text(encoding="utf-8").split())
    behind = []
    for each in content["sets"]:
        means = {name: np.mean([axes["near"], axes["shifted words"]]) for name, axes in each["axes"].items()}
        behind.append(f"{100 * (max(means.values()) - means['lsn']):.1f}")
    assert f"`lsn` is {behind[0]} points below the best method without prompts on Imagenette" in text
    assert f"and {behind[1]} points below on twenty classes of Tiny-ImageNet" in text


def test_the_decision_quotes_how_often_a_selection_errs() -> None:
    content, _ = read("selection-errors")
    assert content is not None
    text = " ".join(DECISION.read_text(encoding="utf-8").split())
    for rule in ("bootstrap", "random signs"):
        rates = [f"{100 * content['errors'][str(classes)][rule]:.1f}" for classes in CLASSES]
        assert f"{', '.join(rates[:-1])} and {rates[-1]} %" in text


def test_simulated_methods_are_equal_and_the_bootstrap_errs_as_often_as_a_plain_loop() -> None:
    random = np.random.default_rng(0)
    values = np.stack([simulated(6, random) for _ in range(2000)])
    assert abs(values[:, 1:].mean() - 0.8) < 0.001
    differences = values[0, 1:] - values[0, 0]
    drawn = np.random.default_rng(1).integers(6, size=(1000, 6))
    errors = differences.std(axis=1, ddof=1) / np.sqrt(6)
    means = differences.mean(axis=1)
    largest = [max((differences[:, rows].mean(axis=1) - means) / errors) for rows in drawn]
    found = [bootstrap_errs(each[1:] - each[0], random) for each in values[:200]]
    assert 0.3 < np.mean(found) < 0.6
    assert bootstrap_errs(differences, random) == (max(means / errors) > np.quantile(largest, 0.95))
