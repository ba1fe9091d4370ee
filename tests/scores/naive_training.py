"""Training as the papers write it: loops over rows, float64, gradients by central differences."""

import math

import numpy as np

from lsncli.types import Head, Rows, unit

STEP = 1e-5


def gradient(loss, at):
    slopes = np.empty_like(at)
    for i in np.ndindex(at.shape):
        ahead, behind = at.copy(), at.copy()
        ahead[i] += STEP
        behind[i] -= STEP
        slopes[i] = (loss(ahead) - loss(behind)) / (2 * STEP)
    return slopes


def descend(loss, start, *, epochs, rate, decay, nesterov, schedule):
    """Gradient descent with momentum 0.9 on all rows at once: one step an epoch."""
    at, velocity = np.array(start, dtype=np.float64), 0.0
    for epoch in range(epochs):
        slope = gradient(loss, at) + decay * at
        velocity = 0.9 * velocity + slope
        at = at - rate * schedule(epoch / epochs) * (slope + 0.9 * velocity if nesterov else velocity)
    return at


def cross_entropy(logits, label):
    return math.log(math.fsum(math.exp(value - logits[label]) for value in logits))


def clusters(classes, shots, dim, seed=0, width=0.3):
    """A text head, as many training rows of each class about its text, and test rows (ID, OOD)."""
    rng = np.random.default_rng(seed)
    text = unit(rng.normal(size=(classes, dim)))
    labels = np.repeat(np.arange(classes, dtype=np.int32), shots)

    def rows():
        return (5 * (text[labels] + width * rng.normal(size=(len(labels), dim)))).astype(np.float16)

    head = Head(tuple(map(str, range(classes))), text, 100.0)
    return head, Rows(rows(), labels), rows(), rng.normal(size=(200, dim))


def linear_probe(head, seed=3):
    """A head with a bias and scale 1, as a linear probe is."""
    rng = np.random.default_rng(seed)
    shape = head.weights.shape
    return Head(head.classes, rng.normal(size=shape), 1.0, bias=rng.normal(size=shape[0]))
