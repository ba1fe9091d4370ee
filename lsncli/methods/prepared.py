"""Methods ready to score: settings resolved, cache keys computed, fitted when a score is first needed.

Also measures time and peak memory of a block of code.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from lsncli.artefacts.prompts import Conditional, HeadSource, HeadText
from lsncli.backbones import Backbone
from lsncli.memory import InParts
from lsncli.methods.bound_text import bind_text
from lsncli.methods.cache import Cache, digest
from lsncli.methods.heads import Heads
from lsncli.methods.holdout import rows_for
from lsncli.methods.inputs import ExtraInput, ImageAccess, inputs_for
from lsncli.methods.source_digest import code_of
from lsncli.methods.spec import Method, ResolvedMethod, adapted, resolve_method
from lsncli.scores import Scorer
from lsncli.store.format import Split
from lsncli.types import Float64Array, Head, Labels, LearnedArrays, Rows

STATUS = Path("/proc/self/status")
CLEAR_REFS = Path("/proc/self/clear_refs")
MIB = 2**20


@dataclass
class ResourceUse:
    """Wall-clock seconds, and peak resident memory above that at the start, in MiB (None: unknown)."""

    seconds: float = 0.0
    peak_mib: float | None = None


@contextmanager
def metered(cost: ResourceUse) -> Iterator[None]:
    """Add the time and the peak memory of the block to ``cost``.

    Memory is measured on Linux alone, where a process can reset its high-water mark.
    """
    measurable = os.access(CLEAR_REFS, os.W_OK)
    if measurable:
        CLEAR_REFS.write_text("5")
        before = resident("VmRSS")
    start = time.perf_counter()
    try:
        yield
    finally:
        cost.seconds += time.perf_counter() - start
        if measurable:
            cost.peak_mib = max(cost.peak_mib or 0.0, (resident("VmHWM") - before) / MIB)


def resident(field: str) -> int:
    """Return the bytes of a field of ``/proc/self/status``, such as ``VmHWM:   123 kB``."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


KEPT_SECONDS = 1.0
"""Fits that take longer than this are cached."""


@dataclass(eq=False)
class PreparedMethod:
    """A method in a workspace, with its ``scores``, ``predictions`` and ``confidences`` by split so far."""

    method: Method
    resolved: ResolvedMethod
    source: HeadSource
    key: str
    """Digest of the score's code and settings, the head and the training rows that it reads."""
    head_key: str
    """Digest of the positive prompts, which alone decide the predicted classes."""
    heads: Heads
    train: Rows | None
    cache: Cache
    device: str
    inputs: ExtraInput | None
    """The input besides features, if the score needs one."""
    cost: ResourceUse = field(default_factory=ResourceUse)
    scores: dict[str, Float64Array] = field(default_factory=dict)
    predictions: dict[str, Labels] = field(default_factory=dict)
    confidences: dict[str, Float64Array] = field(default_factory=dict)
    """Softmax probability of the predicted class."""

    @cached_property
    def head(self) -> Head:
        """The head; loads the text tower if prompts depend on the image."""
        return self.heads.head(self.method.head, negatives="negative" in self.method.needs)

    @cached_property
    def scorer(self) -> Scorer:
        """The scorer, fitted here unless the fit is cached. Raises LsnError as ``fit`` and ``scorer`` do."""
        with metered(self.cost):
            return InParts(self.resolved.score.scorer(self.head, self._learned(), self.device))

    @property
    def conditional(self) -> bool:
        """Whether the prompts depend on the image (CoCoOp)."""
        return self.source.conditional

    def _learned(self) -> LearnedArrays:
        cached = self.cache.get(self.key)
        if cached:
            return cached[0]
        cost = ResourceUse()
        with metered(cost):
            learned = self.resolved.score.fit(self.head, self.train, self.device)
        if learned and cost.seconds > KEPT_SECONDS:
            self.cache.put(self.key, learned, {"what": f"learned by {self.method}"})
        return learned


def prepare_method(
    method: Method, heads: Heads, rows: Rows, split: Split, cache: Cache, device: str, images: ImageAccess
) -> PreparedMethod:
    """Resolve ``method`` and compute its keys; nothing is fitted yet.

    ``rows`` are training rows of ``split``, used only if the score needs them. Raises LsnError if prompts are
    missing or disagree about the classes.
    """
    method = adapted(method, heads)
    resolved = resolve_method(method, heads)
    source = heads.source(method.head, negatives="negative" in method.needs)
    train = rows_for(resolved.score, rows, split, source.classes)
    binding = code_of(bind_text, *heads.model_code, without=(Backbone,)) if source.conditional else ""
    head_key = digest("head", binding, text_digest(source.weights), source.bias, source.scale)
    key = digest(
        "method",
        code_of(*resolved.score.code()),
        method.score,
        resolved.settings,
        head_key,
        source.classes,
        text_digest(source.negative),
        None if train is None else digest(rows.content, train.labels),
    )
    inputs = inputs_for(method, heads, images)
    return PreparedMethod(method, resolved, source, key, head_key, heads, train, cache, device, inputs)


def text_digest(text: HeadText | None) -> str:
    """Return a digest of the text of a head: features, or the input of the text tower."""
    if isinstance(text, Conditional):
        return digest("conditional", text.contexts, text.meta, text.settings)
    return digest(text)
