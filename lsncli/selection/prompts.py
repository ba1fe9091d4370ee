"""Prompts learned without the classes of a fold, kept in the workspace's cache."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict

from lsncli.artefacts.prompts import HeldOut, LearnedPrompts
from lsncli.backbones import Backbone
from lsncli.console import ProgressCallback, silent
from lsncli.device import threads_for
from lsncli.extraction.encoder import keep_freed_memory
from lsncli.methods.cache import digest
from lsncli.methods.heads import Heads, load_checked
from lsncli.methods.source_digest import code_of
from lsncli.methods.spec import Method
from lsncli.methods.workspace import Workspace
from lsncli.prompts.learner import learn
from lsncli.prompts.settings import Kind, PromptSettings, preset
from lsncli.selection.methods import kinds_of_prompts
from lsncli.store.format import Split
from lsncli.training.duration import text_passes
from lsncli.training.prompts import TrainingData, plan_negative, plan_positive, settings_as_json
from lsncli.types import unit

SETTINGS: dict[Kind, PromptSettings] = {kind: preset(kind, "best") for kind in ("negative", "positive")}
"""Negative prompts first: they take most of the time, which is estimated from the beginning."""


def count_passes(rows: int) -> int:
    """Return the text passes of learning positive and negative prompts on ``rows`` rows."""
    return sum(text_passes(settings, rows) for settings in SETTINGS.values())


def missing_prompts(
    work: Workspace, method: Method, split_name: str
) -> Iterator[tuple[TrainingData, PromptSettings]]:
    """Yield the rows and settings of prompts that ``method`` takes and the workspace lacks, one by one.

    They are to be learned before the next is asked for: negative prompts need the positive ones. All learn
    as they did for the comparison, but from every class. Raises as ``plan_positive`` and ``plan_negative``.
    """
    for kind in kinds_of_prompts(method):
        if not work.prompts(kind).is_file():
            positive = kind == "positive"
            plan = plan_positive(work, split_name=split_name) if positive else plan_negative(work)
            yield plan, SETTINGS[kind]


def other_prompts(work: Workspace, method: Method) -> str:
    """Return a sentence if the workspace's prompts for ``method`` are not learned as for the comparison."""
    for kind in kinds_of_prompts(method):
        if not work.prompts(kind).is_file():
            continue
        found = load_checked(work, kind).settings
        if {key: value for key, value in found.items() if key != "tower"} != settings_as_json(SETTINGS[kind]):
            return (
                f"The detector takes the workspace's {kind} prompts, which were learned with other settings "
                f"(--mode {found['mode']}) than the compared ones. `lsn train-{kind[:3]}` learns them as "
                "they were compared."
            )
    return ""


def learn_prompts(
    heads: Heads, fit: Split, progress: ProgressCallback = silent, skipped: ProgressCallback = silent
) -> Mapping[Kind, LearnedPrompts]:
    """Learn CoOp's positive and LSN's negative prompts (mode ``best``) on the rows of ``fit`` alone.

    Equal rows give the same prompts from the cache of ``heads``. ``progress`` counts text passes, ``skipped``
    those of prompts that are in the cache.
    """
    return {kind: _learn(heads, fit, settings, progress, skipped) for kind, settings in SETTINGS.items()}


def _learn(
    heads: Heads,
    fit: Split,
    settings: PromptSettings,
    progress: ProgressCallback,
    skipped: ProgressCallback,
) -> LearnedPrompts:
    tower = heads.tower
    rows = digest(fit.rows.content, fit.labels, list(fit.classes))
    code = code_of(learn, *heads.model_code, without=(Backbone,))
    key = digest("fold", code, heads.fingerprint.digest, tower.kernel, asdict(settings), rows)
    found = heads.cache.get(key)

    def count(step: int, note: str = "") -> None:
        progress(step * settings.sets, note)

    if found is None:
        keep_freed_memory()
        with threads_for(tower.vocabulary.width):
            learned = learn(tower, fit.rows, fit.classes, settings, progress=count)
        assert learned.text is not None  # CoOp's prompts do not depend on the image
        arrays = {"contexts": learned.contexts.numpy(), "text": learned.text}
        heads.cache.put(
            key, arrays, {"what": f"{settings.kind} prompts of a fold", "history": learned.history}
        )
    else:
        arrays = found[0]
        skipped(text_passes(settings, len(fit.labels)))
    return LearnedPrompts(
        kind=settings.kind,
        fingerprint=heads.fingerprint,
        classes=fit.classes,
        contexts=arrays["contexts"],
        meta={},
        text=unit(arrays["text"]),
        settings=asdict(settings) | {"tower": tower.path},
        history=(),
        held_out=HeldOut(fit.name, rows, 0.0, None, settings.seed),
    )
