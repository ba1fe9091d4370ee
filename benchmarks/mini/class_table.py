"""Class embeddings ``E = normalise(M u + r)`` and CLIP's cone around them.

Content lives in the first ``dim - 2`` coordinates. The last two carry constants: the image side
has ``e1``, the text side ``t0 = rho e1 + sqrt(1 - rho^2) e2``. With content weights ``a`` on both
sides and ``b^2 = 1 - a^2`` a cosine becomes ``rho b^2 + a^2 cos``: the narrow cone of real CLIP
(mean 0.21 over classes). Rankings of classes do not change.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

from benchmarks.mini.coarse import membership
from benchmarks.mini.vocabulary import Vocabulary

DIM = 256
CONTENT = DIM - 2
A = math.sqrt(0.26)
B = math.sqrt(1 - A * A)
RHO = 0.285
SCALE = 100.0
RIDGE = 5.0
LEAN = 0.5


def text_side(content: Tensor) -> Tensor:
    """Return unit text features (n, 256) of unit content (n, 254)."""
    features = pad(A * content, (0, 2))
    features[:, CONTENT] = B * RHO
    features[:, CONTENT + 1] = B * math.sqrt(1 - RHO * RHO)
    return features


def directions(classifier: Tensor) -> tuple[Tensor, Tensor]:
    """Return unit class rows (1000, 254) and the projection (254, 1280), by SVD of a centred classifier."""
    u, s, v = torch.linalg.svd(classifier - classifier.mean(0), full_matrices=False)
    root = s[:CONTENT].sqrt()
    return normalize(u[:, :CONTENT] * root, dim=1), root[:, None] * v[:CONTENT]


def class_table(vocabulary: Vocabulary, rows: Tensor) -> Tensor:
    """Return unit content (concepts, 254) of every concept, in closed form.

    ``M`` is the ridge regression from CLIP features to ImageNet's unit ``rows``. ImageNet's own classes
    keep their rows (their residual is exact), coarse words are moved towards the mean of their members,
    all other names are ``normalise(M u)``. When the table was trained too, without the class-share term of
    ``image_training``, it forgot the classes that the few training photos lack.
    """
    u = vocabulary.features[vocabulary.imagenet]
    gram = u.T @ u + RIDGE * torch.eye(u.shape[1])
    content = normalize(vocabulary.features @ torch.linalg.solve(gram, u.T @ rows), dim=1)
    means = normalize(membership() @ rows, dim=1)
    coarse = vocabulary.coarse
    content[coarse] = normalize((1 - LEAN) * content[coarse] + LEAN * means, dim=1)
    content[vocabulary.imagenet] = rows
    return content
