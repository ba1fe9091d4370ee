"""Nothing that knows a class takes part where the class is left out: each leak has a test of its own."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from selection_samples import CLASSES, tiny

from lsncli.artefacts.prompts import LearnedPrompts
from lsncli.errors import LsnError
from lsncli.methods.heads import Heads
from lsncli.methods.spec import Method, adapted, parse_method
from lsncli.methods.word_features import WordEncoder
from lsncli.methods.words import Words, choice_for, select_words
from lsncli.metrics import auroc
from lsncli.selection.axes import INSIDE, OUTSIDE, Scope, near, shifted_words, without
from lsncli.selection.choose import WORDS
from lsncli.selection.folds import Fold, divide, take
from lsncli.selection.prompts import learn_prompts
from lsncli.store.reader import read_split
from lsncli.types import UNLABELLED

FOLD = Fold("random", (2, 5))
METHODS = (
    "mcm",
    "mcm:means",
    "energy",
    "proto",
    "knn,k=3",
    "mahalanobis",
    "rmds",
    "fdbd",
    "nci",
    "ensemble",
    "neglabel",
)


@pytest.fixture
def scope(tmp_path: Path, tiny_backbone) -> Scope:
    work = tiny(tmp_path, tiny_backbone)
    split = read_split(work.features, "train")
    heads = Heads(work, split.classes, lambda: tiny_backbone)
    parts = divide(np.arange(len(split.labels)), split.labels)
    return Scope(split, parts, heads, tuple(range(len(CLASSES))))


def methods_of(scope: Scope, *names: str) -> dict[str, Method]:
    return {name: adapted(parse_method(name), scope.heads) for name in names or METHODS}


def outside_of(scope: Scope):
    rows = np.flatnonzero(np.isin(scope.split.labels, FOLD.held_out))
    return take(scope.split, rows, FOLD.held_out, OUTSIDE)


def scores_of(scope: Scope, outside=None, methods: Mapping[str, Method] | None = None):
    failed: dict[str, str] = {}
    found = without(scope, FOLD).scores(methods or methods_of(scope), [outside or outside_of(scope)], failed)
    assert not failed
    return found


def test_every_fold_shares_one_model(scope, tiny_backbone) -> None:
    loads = []
    heads = replace(scope.heads, model=lambda: loads.append(1) or tiny_backbone)
    folds = [replace(heads, classes=heads.classes[start:], whole=heads) for start in range(3)]
    assert {id(each.backbone) for each in (*folds, heads)} == {id(tiny_backbone)}
    assert loads == [1]


def changed(scope: Scope, rows: np.ndarray) -> Scope:
    """Return the scope with other features in some rows of the split."""
    features = scope.split.features.copy()
    features[rows] = np.random.default_rng(11).normal(size=(len(rows), features.shape[1]))
    return replace(scope, split=replace(scope.split, features=features))


def test_auroc_of_each_class_is_that_of_its_rows_against_the_id_rows_to_compare_on(scope) -> None:
    failed: dict[str, str] = {}
    found, seconds = near(scope, FOLD, methods_of(scope), failed)
    assert not failed
    assert seconds.keys() == found.keys() == set(METHODS)
    outside, scores = outside_of(scope), scores_of(scope)
    for name in METHODS:
        expected = [
            auroc(scores[name].inside, scores[name].by_split[OUTSIDE][outside.labels == k]) for k in (0, 1)
        ]
        np.testing.assert_array_equal(found[name], expected)
        assert len(outside.labels) == 24
        assert len(scores[name].inside) == 6 * 4  # a third of the rows of six classes
    assert max(values.mean() for values in found.values()) > 0.7  # the task is possible


def test_rows_of_a_class_that_is_left_out_are_not_learned_from(scope) -> None:
    fit_of_left_out = scope.parts.fit[np.isin(scope.split.labels[scope.parts.fit], FOLD.held_out)]
    outside = outside_of(scope)
    before, after = scores_of(scope, outside), scores_of(changed(scope, fit_of_left_out), outside)
    for name in METHODS:
        np.testing.assert_array_equal(after[name].inside, before[name].inside, err_msg=name)
        np.testing.assert_array_equal(after[name].by_split[OUTSIDE], before[name].by_split[OUTSIDE])


def test_rows_to_compare_on_are_not_learned_from(scope) -> None:
    outside = outside_of(scope)
    before, after = scores_of(scope, outside), scores_of(changed(scope, scope.parts.select), outside)
    for name in METHODS:
        np.testing.assert_array_equal(
            after[name].by_split[OUTSIDE], before[name].by_split[OUTSIDE], err_msg=name
        )
        assert not np.array_equal(after[name].inside, before[name].inside)


def test_the_name_of_a_class_that_is_left_out_plays_no_part(scope, tmp_path, tiny_backbone) -> None:
    names = tuple("zebra" if name == "fox" else name for name in scope.split.classes)
    renamed = replace(
        scope,
        split=replace(scope.split, classes=names),
        heads=Heads(scope.heads.work, names, lambda: tiny_backbone),
    )
    before, after = scores_of(scope), scores_of(renamed, outside_of(scope))
    for name in set(METHODS) - {"neglabel"}:  # whose words must not be the name
        for one, other in (
            (after[name].inside, before[name].inside),
            (after[name].by_split[OUTSIDE], before[name].by_split[OUTSIDE]),
        ):  # texts of another length may round otherwise
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6, err_msg=name)


def test_heads_of_a_fold_have_the_text_of_known_classes_alone(scope) -> None:
    known = without(scope, FOLD)
    assert known.classes == (0, 1, 3, 4, 6, 7)
    assert known.banned == ("cat", "fox")
    heads = replace(scope.heads, classes=("ant", "hen"), whole=scope.heads)
    np.testing.assert_array_equal(
        heads.head("hand", negatives=False).weights, scope.heads.text("hand")[[0, 7]]
    )


def test_a_vocabulary_never_holds_the_name_of_a_class_that_is_left_out(scope, tmp_path, monkeypatch) -> None:
    from lsncli.methods import inputs

    used: list[tuple[str, ...]] = []

    def recording(*given: Any, **options: Any) -> Words:
        used.append((chosen := select_words(*given, **options)).words)
        return chosen

    monkeypatch.setattr(inputs, "select_words", recording)
    (tmp_path / "words.txt").write_text("table\nfoxes\nCat\nhens\nlamp")
    method = methods_of(scope, f"neglabel,words={tmp_path / 'words.txt'}")
    scores_of(scope, methods=method)
    without_ban = replace(scope, classes=(0, 1, 3, 4, 6, 7))
    without_ban.scores(method, [outside_of(scope)], {})
    assert {frozenset(words) for words in used} == {
        frozenset({"table", "lamp"}),
        frozenset({"table", "foxes", "Cat", "lamp"}),
    }


@pytest.mark.parametrize("name", ["imagenet1k", "wordnet"])
def test_banned_names_are_dropped_from_every_list(scope, tiny_backbone, name, monkeypatch) -> None:
    from lsncli.methods import words as module
    from lsncli.methods.text_recipes import WordPool

    pool = WordPool(
        ("goldfish", "Fox", "table", "lamps", "spoon", "anchor", "church", *(f"barn {n}" for n in range(60)))
    )
    monkeypatch.setattr(module.WordChoice, "pool", lambda self: pool)
    encoder = WordEncoder(tiny_backbone.text_tower(), "tiny")
    choice = choice_for(name, "tiny")
    chosen = select_words(choice, ("cat",), encoder, banned=("fox", "lamp"))
    assert not {"Fox", "lamps"} & set(chosen.words)
    assert {"Fox", "lamps"} <= {word for some in chosen.dropped.values() for word in some}


def test_far_words_are_no_classes_and_in_no_vocabulary(scope) -> None:
    far = shifted_words(scope.heads, scope.split, scope.parts)
    assert far.name == WORDS
    assert (far.labels == UNLABELLED).all()
    assert len(far.keys) > 400
    assert not {"hen", "gray fox", "Arctic fox", "tabby cat"} & set(far.keys)  # share a word with a class
    encoder = WordEncoder(scope.heads.tower, "tiny")
    chosen = select_words(choice_for("imagenet1k", "tiny"), CLASSES, encoder, banned=tuple(far.keys))
    assert not set(chosen.words) & set(far.keys)


def test_far_words_lie_where_images_do(scope) -> None:
    far = shifted_words(scope.heads, scope.split, scope.parts)
    images = scope.split.features[scope.parts.fit].astype(np.float64)
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    text = far.features - (images.mean(axis=0) - scope.heads.text("hand").mean(axis=0))
    np.testing.assert_allclose(np.linalg.norm(text, axis=1), 1, atol=1e-6)


def test_prompts_are_learned_without_the_classes_and_the_workspaces_own_are_not_read(
    scope, monkeypatch
) -> None:
    from lsncli.methods import heads as module
    from lsncli.selection import prompts as use

    def never(*_: object) -> LearnedPrompts:
        raise AssertionError("the workspace's prompts know all classes")

    monkeypatch.setattr(module, "load_checked", never)
    monkeypatch.setattr(
        use, "SETTINGS", {kind: replace(each, epochs=1, length=2) for kind, each in use.SETTINGS.items()}
    )
    known = without(scope, FOLD)
    fit = known.known(known.parts.fit, INSIDE)
    steps: list[int] = []
    learned = learn_prompts(scope.heads, fit, lambda n, note="": steps.append(n))
    assert sum(steps) == use.count_passes(len(fit.labels))
    for kind in ("positive", "negative"):
        assert learned[kind].classes == tuple(name for name in CLASSES if name not in ("cat", "fox"))
    scores = replace(known, prompts=learned).scores(
        methods_of(scope, "mcm:positive", "lsn"), [outside_of(scope)], {}
    )
    assert scores.keys() == {"mcm:positive", "lsn"}
    left_out = scope.parts.fit[np.isin(scope.split.labels[scope.parts.fit], FOLD.held_out)]
    other = without(changed(scope, np.concatenate([left_out, scope.parts.select])), FOLD)
    again = learn_prompts(scope.heads, other.known(other.parts.fit, INSIDE))
    np.testing.assert_array_equal(again["negative"].contexts, learned["negative"].contexts)


def test_prompts_of_a_fold_are_learned_once(tmp_path, tiny_backbone, monkeypatch) -> None:
    from lsncli.methods.cache import Cache
    from lsncli.selection import prompts as use

    monkeypatch.setattr(
        use, "SETTINGS", {kind: replace(each, epochs=1, length=2) for kind, each in use.SETTINGS.items()}
    )
    work = tiny(tmp_path, tiny_backbone, each=2)
    split = read_split(work.features, "train")
    heads = Heads(work, split.classes, lambda: tiny_backbone, Cache(work.cache))
    first = learn_prompts(heads, split)
    monkeypatch.setattr(use, "keep_freed_memory", None)  # called before learning
    steps: list[int] = []

    def skipped(step: int, note: str = "") -> None:
        steps.append(step)

    second = learn_prompts(heads, split, skipped=skipped)
    assert sum(steps) == use.count_passes(16)
    for kind in ("positive", "negative"):
        np.testing.assert_array_equal(first[kind].text, second[kind].text)
        assert first[kind].settings == second[kind].settings


def test_a_method_that_fails_is_named_and_stops_no_other(scope) -> None:
    failed: dict[str, str] = {}
    found, _ = near(scope, FOLD, methods_of(scope, "mcm", "vim,dim=32"), failed)
    assert found.keys() == {"mcm"}
    assert "dim" in failed["vim,dim=32"]


def test_without_text_there_are_no_words(tmp_path) -> None:
    from selection_samples import imported, rows_of, split_of

    features, labels = rows_of(np.eye(8, 24), 6, 0.1, seed=0)
    work = imported(tmp_path, split_of("train", features, labels))
    split = read_split(work.features, "train")
    with pytest.raises(LsnError):
        shifted_words(Heads(work, split.classes), split, divide(np.arange(48), split.labels))
