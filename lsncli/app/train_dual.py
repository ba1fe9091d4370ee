"""Learn DualCoOp's pair of prompts from the store; they become the head ``dualcoop``."""

import time
from collections.abc import Callable
from dataclasses import asdict

from lsncli.app.train import Plan, learn_resumably
from lsncli.app.train_head import TrainedHead, labelled_parts
from lsncli.app.workspace import Workspace
from lsncli.artefacts.files import remove
from lsncli.artefacts.heads import LearnedHead, save_head
from lsncli.backbones import Backbone
from lsncli.console import Tick, silent
from lsncli.errors import LsnError
from lsncli.prompts.dual import DUAL, NEGATIVE, POSITIVE, Asymmetric
from lsncli.prompts.learner import MEMORY
from lsncli.prompts.settings import PromptSettings
from lsncli.scores.common import predict
from lsncli.types import Head

KIND = "dualcoop"


def plan_dual(work: Workspace, split_name: str = "train") -> Plan:
    """The rows to learn from, as for any head; raises as ``train_head.labelled_parts`` does."""
    return Plan(*labelled_parts(work, split_name))


def train_dual(
    work: Workspace,
    backbone: Backbone,
    plan: Plan,
    settings: PromptSettings = DUAL,
    loss: Asymmetric = Asymmetric(),  # noqa: B008 (frozen)
    *,
    kernel: str = "auto",
    memory: int = MEMORY,
    resume: bool = True,
    tick: Tick = silent,
    remark: Callable[[str], None] = lambda text: None,
) -> TrainedHead:
    """Learn on the planned rows and write the head; ``prompts.dual.dual_settings`` makes other settings.

    Resumes an interrupted training of the same settings, rows and model, as ``train.train_prompts`` does;
    ``learner.steps`` says how often ``tick`` is called. Raises LsnError as ``learner.learn`` does.
    """
    began = time.perf_counter()
    tower, learned = learn_resumably(
        work.checkpoint(KIND),
        backbone,
        plan,
        settings,
        objective=loss,
        kernel=kernel,
        memory=memory,
        resume=resume,
        tick=tick,
        remark=remark,
    )
    if learned.text is None:
        raise LsnError("DualCoOp's prompts do not depend on the image; found settings of CoCoOp.")
    head = LearnedHead(
        kind=KIND,
        fingerprint=backbone.fingerprint,
        classes=plan.split.classes,
        scale=backbone.fingerprint.logit_scale,
        weights=learned.text[POSITIVE],
        negative=learned.text[[NEGATIVE]],
        settings=asdict(settings) | asdict(loss) | {"tower": tower.path},
        held_out=plan.rows.rule,
        history=learned.history,
    )
    path, held = work.head(KIND), plan.rows.held_out
    save_head(path, head)
    remove(work.checkpoint(KIND))
    right = predict(Head(head.classes, head.weights), held.features) == held.labels
    seconds = time.perf_counter() - began
    return TrainedHead(path, head, len(plan.rows.train), len(held), float(right.mean()), seconds)
