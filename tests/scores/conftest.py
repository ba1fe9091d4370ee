"""A small head with negative prompts, some raw features, and their cosines by plain Python loops."""

import math
from dataclasses import replace

import numpy as np
import pytest

from lsncli.scores.common import cosines
from lsncli.types import Head, Rows, unit

CLASSES, DIM, SETS = 7, 12, 3


@pytest.fixture(scope="session")
def head():
    rng = np.random.default_rng(11)
    return Head(
        classes=tuple("abcdefg"),
        weights=unit(rng.normal(size=(CLASSES, DIM)) + 0.5),
        scale=100.0,
        negative=unit(rng.normal(size=(SETS, CLASSES, DIM)) + 0.5),
    )


@pytest.fixture(scope="session")
def conditional(head):
    """The same head with functions in place of text features; their answers cannot be written to."""

    def locked(text):
        def of(features):
            found = (
                cosines(features, text) if text.ndim == 2 else np.stack([cosines(features, t) for t in text])
            )
            found.flags.writeable = False
            return found

        return of

    return replace(head, weights=locked(head.weights), negative=locked(head.negative))


@pytest.fixture(scope="session")
def features():
    return (3.0 * np.random.default_rng(12).normal(size=(40, DIM)) + 1.0).astype(np.float16)


@pytest.fixture(scope="session")
def train():
    rng = np.random.default_rng(13)
    return Rows(rng.normal(size=(90, DIM)).astype(np.float16), rng.integers(0, CLASSES, 90).astype(np.int32))


def naive_cosines(features, text):
    return [
        [
            math.fsum(map(math.prod, zip(x, t, strict=True))) / math.hypot(*x) / math.hypot(*t)
            for t in text.tolist()
        ]
        for x in features.astype(float).tolist()
    ]


@pytest.fixture(scope="session")
def yes(head, features):
    """Cosines with the positive prompts: a list of 40 rows of 7."""
    return naive_cosines(features, head.weights)


@pytest.fixture(scope="session")
def no(head, features):
    """Cosines with the negative prompts: 3 lists of 40 rows of 7."""
    return [naive_cosines(features, text) for text in head.negative]


@pytest.fixture(scope="session")
def softmax():
    """The textbook softmax of one list of numbers."""

    def of(row):
        exponentials = [math.exp(value) for value in row]
        return [e / math.fsum(exponentials) for e in exponentials]

    return of


@pytest.fixture(scope="session")
def corners():
    """Five orthogonal classes in six dimensions: the sixth axis is as far from one as from another."""
    return Head(classes=tuple("abcde"), weights=np.eye(5, 6), scale=100.0, negative=np.eye(5, 6)[None])
