"""Four images, a text head and training rows for which other people's code gives known scores.

The expected values were computed in float64 with the authors' repositories or by their formulas, to eight
digits, on standard normals of a fixed seed at a logit scale of 10.
"""

import numpy as np
import pytest

from lsncli.scores import load_score, ready
from lsncli.types import Head, Rows, unit

_RNG = np.random.default_rng(7)
IMAGES, _TEXTS, WORDS, _MEANS, _NOISE = (
    _RNG.standard_normal(shape) for shape in ((4, 5), (3, 5), (7, 5), (3, 5), (18, 5))
)
HEAD = Head(("a", "b", "c"), unit(_TEXTS), 10.0)
TRAIN = Rows(np.repeat(_MEANS, 6, axis=0) + 0.5 * _NOISE, np.repeat(np.arange(3, dtype=np.int32), 6))


def check(name, expected, **settings):
    """The score ``name`` of the four images is ``expected``, to 1e-7."""
    assert IMAGES[0] == pytest.approx([0.001230, 0.298746, -0.274138, -0.890592, -0.454671], abs=1e-6)
    found = ready(load_score(name, **settings), HEAD, TRAIN)(IMAGES)
    assert found == pytest.approx(expected, abs=1e-7)
