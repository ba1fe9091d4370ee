"""Energy against closed forms, its bounds, and a naive log-sum-exp."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsncli.errors import UsageError
from lsncli.scores.energy import Energy
from lsncli.scores.maxlogit import MaxLogit


@pytest.mark.parametrize("tau", [0.5, 1.0, 4.0])
def test_zero_logits_give_tau_log_of_the_number_of_classes(corners, tau):
    assert Energy(tau=tau).scorer(corners, {})(np.eye(6)[5:]) == pytest.approx([tau * math.log(5)], abs=1e-14)


@pytest.mark.parametrize("tau", [1.0, 10.0, 100.0])
def test_scores_equal_a_naive_log_sum_exp(head, features, yes, tau):
    expected = [tau * math.log(math.fsum(math.exp(100 * c / tau) for c in row)) for row in yes]
    assert Energy(tau=tau).scorer(head, {})(features) == pytest.approx(expected, rel=1e-12)


@given(tau=st.floats(1e-3, 1e3))
def test_energy_exceeds_the_largest_logit_by_at_most_tau_log_classes(head, features, tau):
    gap = Energy(tau=tau).scorer(head, {})(features) - MaxLogit().scorer(head, {})(features)
    assert (gap >= -1e-9).all()
    assert (gap <= tau * math.log(7) + 1e-9).all()


@pytest.mark.parametrize("tau", [0.0, -1.0, math.nan])
def test_a_temperature_that_is_not_positive_is_refused(tau):
    with pytest.raises(UsageError, match="'tau' must be a finite number above 0"):
        Energy(tau=tau)
