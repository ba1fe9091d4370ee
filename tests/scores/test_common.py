"""One way to cosines, whether the prompts are fixed or depend on the image."""

from dataclasses import replace

import numpy as np
import pytest

from lsncli.errors import LsnError
from lsncli.scores import chunk_of, score_in_chunks
from lsncli.scores.common import check_negative, negative_cosines, positive_cosines, predict
from lsncli.scores.mcm import Mcm


def test_cosines_of_fixed_prompts_are_those_of_a_plain_loop(head, features, yes, no):
    np.testing.assert_allclose(positive_cosines(head, features), yes, rtol=0, atol=1e-12)
    found = list(negative_cosines(head, features))
    np.testing.assert_allclose(found, no, rtol=0, atol=1e-12)


def test_negative_sets_are_computed_one_after_the_other(head, features):
    class Counted(np.ndarray):
        """Negative text features that count how many sets were taken."""

        taken = 0

        def __iter__(self):
            for text in np.asarray(self):
                Counted.taken += 1
                yield text

    sets = negative_cosines(replace(head, negative=head.negative.view(Counted)), features)
    next(sets)
    assert Counted.taken == 1


def test_prompts_that_depend_on_the_image_are_asked_for_their_cosines(conditional, head, features):
    assert np.array_equal(positive_cosines(conditional, features), positive_cosines(head, features))
    found, expected = (list(negative_cosines(one, features)) for one in (conditional, head))
    assert np.array_equal(found, expected)
    assert np.array_equal(predict(conditional, features), predict(head, features))


def test_a_head_is_conditional_if_any_part_of_it_is(conditional, head):
    assert not head.conditional
    assert conditional.conditional
    assert replace(head, weights=conditional.weights).conditional
    assert replace(head, negative=conditional.negative).conditional
    assert not replace(head, negative=None).conditional


def test_rows_go_in_small_chunks_where_each_costs_a_text_pass(conditional, head):
    assert chunk_of(head) == chunk_of() == 8192
    assert chunk_of(head, conditional) == chunk_of(conditional) == 64


def test_progress_counts_rows(head, features):
    steps: list[int] = []
    score_in_chunks(Mcm().scorer(head, {}), features, 15, lambda n, note="": steps.append(n))
    assert steps == [15, 15, 10]


@pytest.mark.parametrize("text", ["fixed", "conditional"])
def test_negative_prompts_must_be_of_the_classes(head, conditional, text):
    yes = head if text == "fixed" else conditional
    check_negative(replace(yes, negative=head.negative), "lsn")
    with pytest.raises(LsnError, match=r"shape \(K, 7, 12\), found \(3, 6, 12\)"):
        check_negative(replace(yes, negative=head.negative[:, :6]), "lsn")
