"""Ensembles: ranks by loops, what learns from which rows, and what is refused."""

import numpy as np
import pytest

from lsncli.errors import LsnError, UsageError
from lsncli.methods.source_digest import code_of
from lsncli.scores import load_score, ready
from lsncli.scores.energy import Energy
from lsncli.scores.ensemble import Ensemble, held_out_rows
from lsncli.types import Head, Rows


def naive(names, head, train, features):
    kept = held_out_rows(train.labels)
    fitted = Rows(train.features[~kept], train.labels[~kept])
    means = np.zeros(len(features))
    for name in names:
        scorer = ready(load_score(name), head, fitted)
        held = [float(scorer(row[None])[0]) for row in train.features[kept]]
        for row, value in enumerate(scorer(features)):
            means[row] += (1 + sum(each <= value for each in held)) / (len(held) + 1) / len(names)
    return means


@pytest.mark.parametrize("names", [("mcm", "energy", "mahalanobis"), ("maxlogit", "knn")])
def test_it_is_the_mean_rank_among_rows_that_no_score_learned_from(names, head, train, features) -> None:
    found = ready(Ensemble("+".join(names)), head, train)(features)
    assert found == pytest.approx(naive(names, head, train, features), abs=1e-12)
    assert found.min() > 0
    assert found.max() <= 1


def test_each_fifth_row_of_a_class_is_held_out() -> None:
    labels = np.array([0] * 7 + [1] * 2 + [2] + [0] * 5, dtype=np.int32)
    assert np.flatnonzero(held_out_rows(labels)).tolist() == [1, 6, 8, 14]


def test_a_score_of_any_scale_counts_equally(head, train, features) -> None:
    """MCM varies in the third decimal, the energy by tens."""
    both = ready(Ensemble("mcm+energy"), head, train)(features)
    one = [naive([name], head, train, features) for name in ("mcm", "energy")]
    assert both == pytest.approx(np.mean(one, axis=0), abs=1e-12)


def test_what_it_cannot_combine_is_refused(head, train) -> None:
    for text, match in (
        ("mcm", "two scores or more"),
        ("mcm+mcm", "two scores or more"),
        ("mcm+lsn", "'lsn' cannot be part"),
        ("mcm+neglabel", "'neglabel' cannot be part"),
        ("mcm+ensemble", "'ensemble' cannot be part"),
        ("mcm+nothing", "no score 'nothing'"),
    ):
        with pytest.raises(UsageError, match=match):
            ready(Ensemble(text), head, train)
    few = Head(("a", "b"), np.eye(2))
    with pytest.raises(LsnError, match="two training rows of a class"):
        Ensemble("mcm+energy").fit(few, Rows(np.eye(2), np.array([0, 1], dtype=np.int32)))


def test_its_key_has_the_code_of_its_scores(monkeypatch) -> None:
    assert Ensemble("mcm+energy").code()[0] is Ensemble
    assert Energy in Ensemble("mcm+energy").code()
    assert code_of(*Ensemble("mcm+energy").code()) != code_of(*Ensemble("mcm+maxlogit").code())
    assert load_score("energy").code() == (Energy,)
