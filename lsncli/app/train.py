"""Learn prompts from the store, then calibrate a detector with them."""

from dataclasses import asdict, dataclass
from pathlib import Path

from lsncli.app.calibrate import HELD_OUT, TARGET_TPR, make_detector
from lsncli.app.heads import load_checked
from lsncli.app.heldout import Parts, check_held_out, hold_out, hold_out_again
from lsncli.app.methods import parse_method
from lsncli.app.workspace import Workspace
from lsncli.artefacts.detector import Detector
from lsncli.artefacts.prompts import Kind, LearnedPrompts, save_prompts
from lsncli.backbones import Backbone
from lsncli.console import Tick, silent
from lsncli.device import threads_for
from lsncli.errors import LsnError
from lsncli.prompts.loop import Learned
from lsncli.prompts.negative import learn_negative
from lsncli.prompts.positive import learn_positive
from lsncli.prompts.settings import NegativeSettings, PositiveSettings
from lsncli.store.format import Split
from lsncli.store.reader import read_split


@dataclass(frozen=True)
class Training:
    """What was learned, from how many rows, and the detector that it made."""

    path: Path
    prompts: LearnedPrompts
    rows: int
    detector: Detector


@dataclass(frozen=True)
class Plan:
    """A labelled split and its rows, read once, so that the caller can size a progress bar."""

    split: Split
    rows: Parts


def plan_positive(
    work: Workspace,
    *,
    split_name: str = "train",
    fraction: float = HELD_OUT,
    shots: int | None = None,
    seed: int = 0,
) -> Plan:
    """Choose the rows that prompts will learn from.

    Raises LsnError for a split without classes or without a row that could be held out.
    """
    split = read_split(work.features, split_name)
    if not split.classes:
        raise LsnError(
            f"Split '{split_name}' has no classes to learn prompts for.",
            "Extract a folder with one folder per class, or give --classes.",
        )
    rows = hold_out(split, fraction, shots, seed)
    check_held_out(split, rows)  # before the work of learning
    return Plan(split, rows)


def plan_negative(work: Workspace) -> Plan:
    """The rows that the positive prompts learned from; LsnError if there are no positive prompts."""
    rule = load_checked(work, "positive").held_out
    split = read_split(work.features, rule.split)
    return Plan(split, hold_out_again(split, rule))


def train_positive(
    work: Workspace,
    backbone: Backbone,
    plan: Plan,
    settings: PositiveSettings,
    *,
    target_tpr: float = TARGET_TPR,
    tick: Tick = silent,
) -> Training:
    """CoOp on the planned rows; writes ``positive.safetensors`` and a CoOp + MCM detector.

    Negative prompts learned beside earlier positive ones are removed: their held-out rows may differ.
    """
    tower = backbone.text_tower()
    with threads_for(tower.width):
        learned = learn_positive(tower, plan.rows.train, plan.split.classes, settings, tick)
    work.negative.unlink(missing_ok=True)
    return _finish(work, "positive", backbone, plan, learned, settings, target_tpr)


def train_negative(
    work: Workspace,
    backbone: Backbone,
    plan: Plan,
    settings: NegativeSettings,
    *,
    target_tpr: float = TARGET_TPR,
    tick: Tick = silent,
) -> Training:
    """K sets of negative prompts on the same rows; writes ``negative.safetensors`` and an LSN detector."""
    tower = backbone.text_tower()
    with threads_for(tower.width):
        learned = learn_negative(tower, plan.rows.train, plan.split.classes, settings, tick)
    return _finish(work, "negative", backbone, plan, learned, settings, target_tpr)


def _finish(
    work: Workspace,
    kind: Kind,
    backbone: Backbone,
    plan: Plan,
    learned: Learned,
    settings: PositiveSettings | NegativeSettings,
    target_tpr: float,
) -> Training:
    """Write the prompts, then the detector that the paper makes of them."""
    prompts = LearnedPrompts(
        kind=kind,
        fingerprint=backbone.fingerprint,
        classes=plan.split.classes,
        context=learned.context.numpy(),
        text=learned.text,
        learner="CoOp",
        settings=asdict(settings),
        history=learned.history,
        held_out=plan.rows.rule,
    )
    path, method = {"positive": (work.positive, "mcm:positive"), "negative": (work.negative, "lsn")}[kind]
    save_prompts(path, prompts)
    detector = make_detector(work, parse_method(method), split_name=plan.split.name, target_tpr=target_tpr)
    return Training(path, prompts, len(plan.rows.train), detector)
