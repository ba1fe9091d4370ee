"""What holds for every score in SCORES, for the loader of scores, and for scoring in chunks."""

from dataclasses import FrozenInstanceError, fields, is_dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsncli.errors import LsnError, UsageError
from lsncli.methods.inputs import INPUTS
from lsncli.scores import SCORES, load_score, ready, score_in_chunks, score_settings
from lsncli.scores.knn import Knn
from lsncli.scores.lsn import Lsn
from lsncli.scores.mcm import Mcm
from lsncli.scores.score import NEEDS
from lsncli.types import UNLABELLED, Head, Rows, unit

every_score = pytest.mark.parametrize("name", SCORES)
OF_FEATURES = [name for name in SCORES if load_score(name).NEEDS.isdisjoint({"candidates", "words"})]
"""ZOC is no function of features alone: tests/scores/test_zoc.py has what holds for it."""
every_function = pytest.mark.parametrize("name", OF_FEATURES)


@pytest.fixture(scope="session")
def fitted(head, train):
    """Fit the named score, once, to the shared head and training rows."""

    @cache
    def of(name):
        return ready(load_score(name), head, train)

    return of


@every_score
def test_every_score_states_formula_direction_paper_source_and_defaults(name):
    text = type(load_score(name)).__doc__
    for word in ("Formula", "higher = more ID", "Paper:", "Source: github.com/", "Default:"):
        assert word in text, f"the docstring of '{name}' lacks '{word}'"


@every_score
def test_every_score_has_a_file_of_its_name_and_a_mirrored_test_file(name):
    assert SCORES[name].startswith(f"lsncli.scores.{name}:")
    assert (Path(__file__).parent / f"test_{name}.py").is_file()


@every_score
def test_every_score_is_a_frozen_dataclass_whose_settings_have_defaults(name):
    score = load_score(name)
    assert is_dataclass(score)
    assert score.NEEDS.issubset(NEEDS)
    with pytest.raises(FrozenInstanceError):
        score.anything = 1
    described = {key: default for key, (_, default) in score_settings(name).items()}
    assert described == {field.name: getattr(score, field.name) for field in fields(score)}


@every_function
def test_scores_are_one_float64_a_row_and_nothing_is_changed(name, fitted, head, train, features):
    before = [a.copy() for a in (features, head.weights, head.negative, train.features)]
    scores = fitted(name)(features)
    assert scores.dtype == np.float64
    assert scores.shape == (len(features),)
    for array, kept in zip((features, head.weights, head.negative, train.features), before, strict=True):
        assert np.array_equal(array, kept)


@pytest.mark.parametrize("name", [name for name in OF_FEATURES if "weights" not in load_score(name).NEEDS])
@pytest.mark.parametrize("text", [True, False])
@pytest.mark.parametrize("negative", [True, False])
def test_prompts_may_depend_on_the_image(name, head, conditional, train, features, text, negative):
    mixed = replace(
        head,
        weights=conditional.weights if text else head.weights,
        negative=conditional.negative if negative else head.negative,
    )
    found = ready(load_score(name), mixed, train)(features)
    assert np.array_equal(found, ready(load_score(name), head, train)(features))


@every_function
def test_images_near_a_class_score_higher_than_images_near_none(name):
    """As wide as CLIP: scores that keep a tenth of the entries or sum over all need some."""
    rng = np.random.default_rng(5)
    text = unit(rng.normal(size=(50, 512)))
    head = Head(tuple(map(str, range(50))), text, 100.0, unit(0.1 * rng.normal(size=(3, 50, 512)) - text))
    labels = np.resize(np.arange(50, dtype=np.int32), 2100)
    near = 20 * text[labels] + rng.normal(size=(2100, 512))
    train = Rows(near[:2000], labels[:2000])
    scorer = ready(load_score(name), head, train)
    inside, outside = scorer(near[2000:]), scorer(rng.normal(size=(100, 512)))
    assert np.mean(inside[:, None] > outside) > 0.95


@every_function
@given(factor=st.floats(1e-3, 1e3))
def test_the_length_of_a_feature_does_not_matter(name, fitted, features, factor):
    scorer, wide = fitted(name), features.astype(np.float64)
    assert scorer(factor * wide) == pytest.approx(scorer(wide), rel=1e-11, abs=1e-13)


@pytest.mark.parametrize("name", [name for name in OF_FEATURES if "seed" not in score_settings(name)])
@given(order=st.permutations(range(7)))
def test_the_order_of_the_classes_does_not_matter(name, head, train, features, order):
    turned = Head(
        tuple(head.classes[c] for c in order), head.weights[order], head.scale, head.negative[:, order]
    )
    found = ready(load_score(name), turned, Rows(train.features, np.argsort(order)[train.labels]))(features)
    assert found == pytest.approx(ready(load_score(name), head, train)(features), rel=1e-12, abs=1e-14)


@every_function
@given(chunk=st.integers(1, 50))
def test_chunks_equal_the_whole(name, fitted, features, chunk):
    scorer = fitted(name)
    assert score_in_chunks(scorer, features, chunk) == pytest.approx(scorer(features), rel=1e-12, abs=1e-14)


@every_function
def test_no_rows_give_no_scores(name, fitted, features):
    assert fitted(name)(features[:0]).shape == (0,)
    assert score_in_chunks(fitted(name), features[:0]).shape == (0,)


@every_function
def test_features_of_another_model_are_refused(name, fitted):
    with pytest.raises(
        LsnError, match=r"Expected features of 12 dimensions, found an array of shape \(2, 5\)"
    ):
        fitted(name)(np.ones((2, 5)))
    with pytest.raises(LsnError, match=r"shape \(12,\)"):
        fitted(name)(np.ones(12))


@every_function
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused_with_their_count(name, fitted, features, value):
    broken = features.copy()
    broken[[4, 9], 2] = value
    with pytest.raises(LsnError, match="2 of 40 feature rows hold NaN or infinite"):
        fitted(name)(broken)


@every_function
def test_a_zero_feature_gets_a_finite_score(name, fitted):
    assert np.isfinite(fitted(name)(np.zeros((1, 12)))).all()


@every_function
def test_what_a_score_needs_is_what_it_cannot_be_fitted_without(name, head, conditional, train):
    score = load_score(name)
    bare = replace(head, negative=None)
    unlabelled = Rows(train.features, np.full_like(train.labels, UNLABELLED))
    lacking = {
        "train": (head, None),
        "labels": (head, unlabelled),
        "negative": (bare, train),
        "weights": (conditional, train),
    }
    for need, arguments in lacking.items():
        if need in score.NEEDS:
            with pytest.raises(LsnError, match=f"'{name}' needs"):
                ready(score, *arguments)
        else:
            assert np.isfinite(ready(score, *arguments)(train.features[:5])).all()


def test_mcm_of_a_thousand_classes_keeps_images_apart():
    rng = np.random.default_rng(2)
    head = Head(tuple(map(str, range(1000))), unit(1 + rng.normal(size=(1000, 64))))
    features = (1 + rng.normal(size=(4000, 64))).astype(np.float16)
    assert len(np.unique(score_in_chunks(Mcm().scorer(head, {}), features))) > 0.99 * 4000


def test_scoring_reads_slices_and_never_the_whole(fitted, features):
    class Disk:
        """An array that can only be measured and sliced, as an HDF5 dataset; remembers the slices."""

        asked: list[int] = []  # noqa: RUF012

        def __len__(self):
            return len(features)

        def __getitem__(self, rows):
            self.asked.append(len(features[rows]))
            return features[rows]

    score_in_chunks(fitted("mcm"), Disk(), 15)
    assert Disk.asked == [15, 15, 10]


def test_a_chunk_of_no_rows_is_refused(fitted, features):
    with pytest.raises(UsageError, match="at least 1 row, found 0"):
        score_in_chunks(fitted("mcm"), features, 0)


def test_settings_replace_defaults():
    assert load_score("lsn", tau=2, form="official") == Lsn(tau=2.0, tau_bar=5.0, form="official")
    assert load_score("knn", k=7) == Knn(k=7)
    assert load_score("mcm") == Mcm(tau=1.0)


def test_whole_numbers_and_numpy_scalars_become_plain_python_numbers():
    assert type(load_score("mcm", tau=1).tau) is float
    assert type(load_score("mcm", tau=np.float32(2)).tau) is float
    assert type(load_score("knn", k=np.int64(3)).k) is int


def test_an_unknown_score_is_refused_with_the_list_of_names():
    with pytest.raises(UsageError) as caught:
        load_score("mcmm")
    assert "no score 'mcmm'" in caught.value.message
    assert all(name in caught.value.hint for name in SCORES)


@pytest.mark.parametrize(
    ("name", "settings", "message", "hint"),
    [
        ("mcm", {"temperature": 1.0}, "no setting 'temperature'", "tau (a number, 1.0)"),
        ("msp", {"tau": 1.0}, "no setting 'tau'", "It has no settings."),
        ("mcm", {"tau": "1"}, "'tau' of the score 'mcm' must be a number, found '1'", "tau (a number, 1.0)"),
        ("mcm", {"tau": True}, "must be a number, found True", "tau"),
        ("knn", {"k": 1.5}, "must be a whole number, found 1.5", "k (a whole number, 50)"),
        ("knn", {"k": True}, "must be a whole number, found True", "k"),
        ("lsn", {"form": "no"}, "'paper' or 'official' or 'logit', found 'no'", "tau_bar (a number, 5.0)"),
        ("lsn", {"form": None}, "must be 'paper' or 'official' or 'logit', found None", "form"),
        ("lsn", {"NEEDS": frozenset()}, "no setting 'NEEDS'", "tau"),
        ("energy", {"tau": 0.0}, "'tau' must be a finite number above 0, found 0.0", ""),
    ],
)
def test_wrong_settings_are_refused_with_the_list_of_settings(name, settings, message, hint):
    with pytest.raises(UsageError) as caught:
        load_score(name, **settings)
    assert message in caught.value.message
    assert hint in caught.value.hint


@every_function
def test_prompts_says_whether_a_score_depends_on_prompts(name, fitted, head, train, features):
    random = np.random.default_rng(9)
    weights, negative = (unit(random.normal(size=one.shape)) for one in (head.weights, head.negative))
    other = replace(head, weights=weights, negative=negative)
    same = np.array_equal(ready(load_score(name), other, train)(features), fitted(name)(features))
    assert same != load_score(name).PROMPTS


@every_score
def test_what_a_score_says_it_looks_at_is_a_row_of_inputs(name):
    assert load_score(name).inputs() in {"", *INPUTS}
    assert load_score("odin", eps=0.1).inputs() == "pixels"
