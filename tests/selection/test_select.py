"""A whole selection: the best method is found, chance is not taken for evidence, OOD splits play no part."""

import json
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from selection_samples import CLASSES, centres, imported, known_best, rows_of, split_of, tiny, unlabelled

from lsncli.detection.calibrate import known_rows
from lsncli.errors import LsnError, UsageError
from lsncli.interchange.exchange import imported_fingerprint
from lsncli.methods.workspace import Workspace
from lsncli.selection import select as use
from lsncli.selection.choose import WORDS, Choice
from lsncli.selection.select import learn_for, plan_selection, select
from lsncli.store.reader import read_split
from lsncli.store.writer import write_split

METHODS = ("mcm", "energy", "proto", "knn,k=5", "mahalanobis")


def chosen(work: Workspace, methods=METHODS, **options) -> Choice:
    plan = plan_selection(work, methods, **options)
    return select(plan, {}).choice


def as_bytes(choice: Choice) -> bytes:
    fields = asdict(choice)
    for row in fields["compared"]:
        row["by_class"] = row["by_class"].tolist()
    return json.dumps(fields).encode()


def test_the_known_best_method_is_found(tmp_path) -> None:
    choice = chosen(known_best(tmp_path))
    assert choice.verdict == "chosen"
    assert choice.method in ("proto", "knn,k=5")
    assert sum(choice.row(choice.method).near.values()) / 3 > 0.95
    assert sum(choice.row("mcm").near.values()) / 3 < 0.8


@pytest.mark.parametrize("seed", range(5))
def test_with_permuted_labels_there_is_no_evidence(tmp_path, seed) -> None:
    choice = chosen(known_best(tmp_path, permuted=True), seed=seed)
    assert choice.method == "mcm"
    assert choice.verdict in ("chance", "no difference", "no better")
    assert all(abs(value - 0.5) < 0.2 for row in choice.compared for value in row.near.values())


def test_other_splits_of_the_store_play_no_part(tmp_path) -> None:
    def added(work: Workspace, *splits) -> Workspace:
        for split in splits:
            write_split(work.features, split, imported_fingerprint("theirs", 24, 20.0))
        return work

    alone = known_best(tmp_path / "alone")
    test = split_of("test", *rows_of(centres(), 3, 0.5, seed=9))
    others = added(known_best(tmp_path / "others"), unlabelled("far", 30, 1), test, unlabelled("near", 9, 2))
    shuffled = added(
        known_best(tmp_path / "shuffled"), test, unlabelled("near", 30, 1), unlabelled("far", 8, 4)
    )
    results = {as_bytes(chosen(work)) for work in (alone, others, shuffled)}
    assert len(results) == 1
    assert as_bytes(chosen(others, foreign=["far"])) not in results


def test_rows_that_set_gamma_play_no_part(tmp_path) -> None:
    work = known_best(tmp_path / "first")
    split = read_split(work.features, "train")
    rows = known_rows(work, split)
    held = np.setdiff1d(np.arange(len(split.labels)), rows.where)
    assert len(held) == len(rows.held_out) == 40
    features = split.features.copy()
    features[held] = np.random.default_rng(4).normal(size=(len(held), 24))
    text = centres(seed=77)
    other = imported(tmp_path / "second", replace(split, features=features), text=text)
    assert as_bytes(chosen(other)) == as_bytes(chosen(work))


def test_a_foreign_split_is_a_far_axis(tmp_path) -> None:
    work = known_best(tmp_path)
    write_split(work.features, unlabelled("far", 30, 1), imported_fingerprint("theirs", 24, 20.0))
    choice = chosen(work, foreign=["far"])
    assert all(row.far.keys() == {"far"} for row in choice.compared)  # no text encoder: no words
    row = choice.row("proto")
    assert row.mean == pytest.approx((np.mean(list(row.near.values())) + row.far["far"]) / 2) or (
        not choice.ranked_far
    )
    with pytest.raises(UsageError, match="--foreign train: this is the split of the classes"):
        plan_selection(work, METHODS, foreign=["train"])
    write_split(
        work.features,
        split_of("test", *rows_of(centres(), 3, 0.5, seed=9)),
        imported_fingerprint("theirs", 24, 20.0),
    )
    with pytest.raises(
        UsageError, match="--foreign test: expected images of no class of train, found some of 'ant'"
    ):
        plan_selection(work, METHODS, foreign=["far", "test"])
    with pytest.raises(LsnError, match="no split 'nothing'"):
        plan_selection(work, METHODS, foreign=["nothing"])


def test_the_plan_counts_scores_and_steps(tmp_path, tiny_backbone) -> None:
    work = tiny(tmp_path, tiny_backbone)
    write_split(
        work.features,
        replace(unlabelled("far", 7, 1), features=np.ones((7, 32), np.float16)),
        tiny_backbone.fingerprint,
    )
    plan = plan_selection(work, ["mcm", "proto", "neglabel"], foreign=["far"], model=lambda: tiny_backbone)
    counted: list[int] = []
    selection = select(plan, {}, progress=lambda n, note="": counted.append(n))
    assert not selection.failed
    assert sum(counted) == plan.rows
    assert plan.passes == 0
    assert [split.name for split in plan.far] == [WORDS, "far"]
    assert selection.choice.compared[0].far.keys() == {WORDS, "far"}
    again = select(
        plan_selection(work, ["mcm", "proto", "neglabel"], foreign=["far"], model=lambda: tiny_backbone), {}
    )
    assert as_bytes(again.choice) == as_bytes(selection.choice)


def test_the_words_of_the_far_axis_and_those_of_a_score_are_never_the_same(
    tmp_path, tiny_backbone, monkeypatch
) -> None:
    from lsncli.methods import inputs
    from lsncli.methods.words import Words, select_words

    used: list[set[str]] = []

    def recording(*given: Any, **options: Any) -> Words:
        chosen = select_words(*given, **options)
        used.append(set(chosen.words))
        return chosen

    monkeypatch.setattr(inputs, "select_words", recording)
    plan = plan_selection(tiny(tmp_path, tiny_backbone), ["mcm", "neglabel"], model=lambda: tiny_backbone)
    assert not select(plan, {}).failed
    far = set(plan.far[0].keys)
    assert len(used) == len(plan.folds) + 1
    assert used[-1]
    assert not used[-1] & far
    assert used[0] & far  # words of the near axis are not restricted by them


def test_learned_prompts_take_part(tmp_path, tiny_backbone, monkeypatch) -> None:
    from lsncli.selection import prompts

    quick = {kind: replace(each, epochs=1, length=2) for kind, each in prompts.SETTINGS.items()}
    monkeypatch.setattr(prompts, "SETTINGS", quick)
    work = tiny(tmp_path, tiny_backbone, each=5)
    plan = plan_selection(work, prompts=True, model=lambda: tiny_backbone)
    assert {"lsn", "mcm:positive"} <= plan.methods.keys()
    counted: list[int] = []
    same, learned = learn_for(plan, progress=lambda n, note="": counted.append(n))
    assert same is plan
    assert sum(counted) == plan.passes > 0
    assert set(learned) == {*plan.folds, use.EVERYTHING}
    for fold, pair in learned.items():
        known = tuple(name for label, name in enumerate(CLASSES) if label not in fold.held_out)
        assert pair["positive"].classes == pair["negative"].classes == known
    selection = select(plan, learned)
    assert {"lsn", "mcm:positive", "energy:positive"} <= {row.method for row in selection.choice.compared}
    assert not work.positive.is_file()  # the workspace's prompts are not touched


def test_the_time_that_is_left_does_not_count_prompts_that_are_known(
    tmp_path, tiny_backbone, monkeypatch
) -> None:
    from lsncli.selection import prompts

    quick = {kind: replace(each, epochs=1, length=2) for kind, each in prompts.SETTINGS.items()}
    monkeypatch.setattr(prompts, "SETTINGS", quick)
    plan = plan_selection(tiny(tmp_path, tiny_backbone, each=3), prompts=True, model=lambda: tiny_backbone)
    totals: list[int] = []

    def recording(progress, total, announce):
        totals.append(total)
        return progress

    monkeypatch.setattr(use, "announcing", recording)
    heads, first = plan.scope.heads, plan.fit(plan.folds[0])
    prompts.learn_prompts(heads, first)
    counted: list[int] = []
    for _ in range(2):
        learn_for(plan, progress=lambda n, note="": counted.append(n))
    assert totals == [plan.passes - prompts.count_passes(len(first.labels))]  # the second time all are known
    assert sum(counted) == 2 * plan.passes


def test_prompts_of_the_workspace_that_are_not_those_compared_are_named(tmp_path, tiny_backbone) -> None:
    from lsncli.methods.spec import parse_method
    from lsncli.selection.prompts import SETTINGS, other_prompts
    from lsncli.training.prompts import plan_positive, train_prompts

    work = tiny(tmp_path, tiny_backbone, each=3)
    method = parse_method("mcm:positive")
    assert other_prompts(work, method) == ""  # there are none
    for settings, message in (
        (SETTINGS["positive"], ""),
        (
            replace(SETTINGS["positive"], mode="fast", epochs=1),
            "settings (--mode fast) than the compared ones",
        ),
    ):
        train_prompts(work, tiny_backbone, plan_positive(work), settings)
        found = other_prompts(work, method)
        assert message in found
        assert bool(found) is bool(message)
    assert "`lsn train-pos` learns them" in found
    assert other_prompts(work, parse_method("mcm")) == ""


def test_prompts_beyond_the_budget_are_left_out_and_it_is_said(tmp_path, tiny_backbone, monkeypatch) -> None:
    work = tiny(tmp_path, tiny_backbone, each=5)
    plan = plan_selection(work, prompts=True, model=lambda: tiny_backbone)

    def slow(progress, total, announce):
        return lambda step, note="": announce(total - step, 7200.0)

    monkeypatch.setattr(use, "announcing", slow)
    said: list[str] = []
    less, learned = learn_for(plan, budget=60.0, remark=said.append)
    assert not learned
    assert set(plan.methods) - set(less.methods) == {
        "mcm:positive",
        "maxlogit:positive",
        "energy:positive",
        "lsn",
    }
    assert "2.0 h, more than the budget" in said[0] or "120 min, more than the budget" in said[0]
    assert less.passes == 0


def test_the_slowest_methods_beyond_the_budget_are_left_out_but_never_the_default(tmp_path) -> None:
    work = known_best(tmp_path)
    plan = plan_selection(work, METHODS)
    selection = select(plan, {}, budget=0.0)
    assert set(selection.failed) == set(METHODS) - {"mcm"}
    assert all("of the budget" in reason for reason in selection.failed.values())
    assert selection.choice.method == selection.choice.runner_up == "mcm"
    assert use._too_slow({"mcm": 9.0, "a": 2.0, "b": 1.0, "c": 3.0}, 2, 24.0, "mcm").keys() == {"c"}


def test_words_that_take_longer_than_the_budget_to_encode_are_left_out(
    tmp_path, tiny_backbone, monkeypatch
) -> None:
    from lsncli.methods.inputs import VocabularyInput

    plan = plan_selection(
        tiny(tmp_path, tiny_backbone), ["mcm", "neglabel", "proto"], model=lambda: tiny_backbone
    )
    monkeypatch.setattr(VocabularyInput, "seconds_to_encode", lambda self: 1800.0)
    failed = select(plan, {}, budget=1700.0).failed
    assert failed == {"neglabel": "Encoding its words, once for this model, takes about 30 min."}
    assert not select(plan, {}, budget=1900.0).failed


def test_splits_of_any_name_can_be_foreign(tmp_path) -> None:
    work = known_best(tmp_path)
    names = ["words", "inside", "fit"]
    for number, name in enumerate(names):
        write_split(work.features, unlabelled(name, 30, number), imported_fingerprint("theirs", 24, 20.0))
    choice = chosen(work, foreign=names)
    row = choice.row("mcm")
    assert list(row.far) == names
    assert len(set(row.far.values())) == 3
    assert row.far_mean == pytest.approx(np.mean(list(row.far.values())))


def test_a_method_by_two_names_is_compared_once(tmp_path, tiny_backbone) -> None:
    work = tiny(tmp_path, tiny_backbone)
    names = ["mcm", "knn,k=5", "knn:hand,k=5"]
    assert list(plan_selection(work, names, model=lambda: tiny_backbone).methods) == ["mcm", "knn,k=5"]


def test_few_classes_few_rows_and_methods_that_know_all_classes_are_refused(tmp_path) -> None:
    five = split_of("train", *rows_of(centres(5), 6, 0.5, seed=0), CLASSES[:5])
    with pytest.raises(LsnError, match="at least 6 classes, found 5"):
        plan_selection(imported(tmp_path / "five", five, text=centres(5)), METHODS)
    work = known_best(tmp_path / "eight")
    for method in ("msp:linear", "odin,eps=0.01", "zoc"):
        with pytest.raises(UsageError, match="cannot be compared"):
            plan_selection(work, ["mcm", method])


def test_the_first_of_named_methods_is_the_default_and_must_work(tmp_path) -> None:
    work = known_best(tmp_path)
    assert chosen(work, ["proto", "mcm"]).default == "proto"
    with pytest.raises(LsnError, match="The default, neglabel, could not be compared"):
        chosen(work, ["neglabel", "mcm"])
