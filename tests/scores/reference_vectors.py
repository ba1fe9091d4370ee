"""Scores of four images by other people's code or formulas, to eight digits; see ``later_vectors``."""

import numpy as np
import pytest
from later_vectors import SCALE, arrays

from lsncli.scores import load_score, ready
from lsncli.types import Head, Rows

KNOWN = arrays()
HEAD = Head(("a", "b", "c"), KNOWN.t, SCALE)
TRAIN = Rows(KNOWN.z, KNOWN.labels.astype(np.int32))


def check(name, expected, **settings):
    """The score ``name`` of the four images is ``expected``, to 1e-7."""
    found = ready(load_score(name, **settings), HEAD, TRAIN)(KNOWN.x)
    assert found == pytest.approx(expected, abs=1e-7)
