"""Learn prompts from a split and calibrate a detector with them; learn the head ``dualcoop``."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from lsncli.artefacts.detector import SavedDetector, find_detector
from lsncli.artefacts.files import load_checkpoint, remove
from lsncli.artefacts.heads import LearnedHead, save_head
from lsncli.artefacts.prompts import LearnedPrompts, save_prompts
from lsncli.backbones import Backbone, text_ids_of, with_text
from lsncli.console import ProgressCallback, silent
from lsncli.detection.calibrate import HELD_OUT, TARGET_TPR, make_detector
from lsncli.device import threads_for
from lsncli.errors import LsnError
from lsncli.extraction.encoder import keep_freed_memory
from lsncli.images.class_names import check_distinct
from lsncli.methods.heads import LoadBackbone, load_checked
from lsncli.methods.holdout import HoldoutRows, check_held_out, hold_out, hold_out_again, labelled_split
from lsncli.methods.prepared import text_digest
from lsncli.methods.spec import Method, parse_method
from lsncli.methods.workspace import Workspace
from lsncli.prompts.dualcoop import DUAL, NEGATIVE, POSITIVE, Asymmetric
from lsncli.prompts.layout import TextTower
from lsncli.prompts.learner import LearnedContexts, learn, step_memory
from lsncli.prompts.settings import Kind, PromptSettings
from lsncli.scores.common import predict
from lsncli.store.format import Split
from lsncli.store.reader import read_split
from lsncli.training.checkpoints import checkpoint_saver, resume_point
from lsncli.training.linear_probe import TrainedHead, labelled_holdout
from lsncli.types import Head


def detector_method(kind: Kind, mode: str) -> Method:
    """Return the method of the detector for prompts of a kind: LSN, or without negatives CoOp + MCM.

    The preset ``best`` takes scores without a softmax, here MaxLogit (docs/decisions/0011).
    """
    if kind == "negative":
        return parse_method("lsn")
    return parse_method("maxlogit:positive" if mode == "best" else "mcm:positive")


@dataclass(frozen=True)
class Training:
    """Learned prompts, the number of training rows, and the detector of the workspace after it."""

    path: Path
    prompts: LearnedPrompts
    rows: int
    detector: SavedDetector
    learned: bool = True
    """False if the workspace had the prompts (``find_learned``)."""
    calibrated: bool = True
    """Whether the detector was calibrated here; False keeps the one that the workspace had."""

    @property
    def method(self) -> Method:
        """The method of the detector that goes with the prompts."""
        return detector_method(self.prompts.kind, self.prompts.settings["mode"])

    @property
    def has_own_detector(self) -> bool:
        """Whether the detector of the workspace has that method."""
        return (self.detector.method, self.detector.head_name) == (self.method.score, self.method.head)

    @property
    def is_outdated(self) -> bool:
        """Whether the detector has that method, but other prompts, as after a kill."""
        kept = self.detector.head
        text = kept.weights if self.prompts.kind == "positive" else kept.negative
        return self.has_own_detector and text_digest(text) != text_digest(self.prompts.head_text)


@dataclass(frozen=True)
class TrainingData:
    """A labelled split with its training and held-out rows, read before the training starts."""

    split: Split
    rows: HoldoutRows


def plan_positive(
    work: Workspace,
    *,
    split_name: str = "train",
    fraction: float = HELD_OUT,
    shots: int | None = None,
    seed: int = 0,
) -> TrainingData:
    """Choose the rows that positive prompts learn from.

    Raises LsnError for a split without classes, or without a row to hold out.
    """
    split = labelled_split(work, split_name)
    rows = hold_out(split, fraction, shots, seed)
    check_held_out(split, rows)  # before the training, which may take hours
    return TrainingData(split, rows)


def plan_negative(work: Workspace) -> TrainingData:
    """Return the rows that the positive prompts learned from; LsnError if there are no positive prompts."""
    rule = load_checked(work, "positive").held_out
    split = read_split(work.features, rule.split)
    return TrainingData(split, hold_out_again(split, rule))


def find_learned(
    work: Workspace,
    plan: TrainingData,
    settings: PromptSettings,
    *,
    target_tpr: float = TARGET_TPR,
    model: LoadBackbone | None = None,
) -> Training | None:
    """Return the prompts of the workspace if these settings, rows and model gave them, else None.

    Its detector is kept, whatever its method. Only if there is none, or one with earlier prompts of the same
    method, a new one is calibrated. An unfinished training counts as none.
    """
    path = work.prompts(settings.kind)
    if not path.is_file() or work.checkpoint(settings.kind).is_file():
        return None
    try:
        prompts = load_checked(work, settings.kind)
    except LsnError:
        return None  # broken, or of another model: to be learned again
    known = {key: value for key, value in prompts.settings.items() if key != "tower"}
    rows_of_prompts = prompts.classes, prompts.held_out
    if known != settings_as_json(settings) or rows_of_prompts != (plan.split.classes, plan.rows.rule):
        return None
    rows, detector = len(plan.rows.train), find_detector(work.detector)
    if detector is not None:
        kept = Training(path, prompts, rows, detector, learned=False, calibrated=False)
        if not kept.is_outdated:
            return kept
    method = detector_method(settings.kind, settings.mode)
    detector = make_detector(work, method, split_name=plan.split.name, target_tpr=target_tpr, model=model)
    return Training(path, prompts, rows, detector, learned=False)


def train_prompts(
    work: Workspace,
    backbone: Backbone,
    plan: TrainingData,
    settings: PromptSettings,
    *,
    kernel: str = "auto",
    memory: int = 0,
    resume: bool = True,
    target_tpr: float = TARGET_TPR,
    progress: ProgressCallback = silent,
    remark: Callable[[str], None] = lambda text: None,
) -> Training:
    """Learn on the planned rows; write the prompts and their detector (``detector_method``).

    An interrupted training with the same settings, rows and model resumes after its last epoch and gives the
    same prompts; ``resume=False`` starts anew. New positive prompts remove the negative prompts of earlier
    ones, whose held-out rows may differ, and ``remark`` says so. ``progress`` counts steps; ``memory`` is
    that of ``learner.step_memory``.
    """
    tower, learned = learn_resumably(
        work.checkpoint(settings.kind),
        backbone,
        plan,
        settings,
        kernel=kernel,
        memory=memory,
        resume=resume,
        progress=progress,
        remark=remark,
    )
    if settings.kind == "positive" and work.negative.is_file():
        remove(work.negative)
        remark(f"Removed {work.negative}: the negative prompts belonged to the earlier positive ones.")
    training = _finish(work, backbone, tower, plan, learned, settings, target_tpr)
    remove(work.checkpoint(settings.kind))
    return training


def learn_resumably(
    path: Path,
    backbone: Backbone,
    plan: TrainingData,
    settings: PromptSettings,
    *,
    objective: Asymmetric | None = None,
    kernel: str = "auto",
    memory: int = 0,
    resume: bool = True,
    progress: ProgressCallback = silent,
    remark: Callable[[str], None] = lambda text: None,
) -> tuple[TextTower, LearnedContexts]:
    """Learn on the planned rows, with checkpoints at ``path``; return the text tower and the contexts.

    The caller removes the last checkpoint when the result is written. Raises UsageError for two classes that
    the text encoder cannot tell apart.
    """
    check_distinct(plan.split.classes, text_ids_of(backbone), where=f"Split '{plan.split.name}'")
    keep_freed_memory()
    tower = with_text(backbone).text_tower(precision=settings.precision, kernel=kernel)
    stored, memory = load_checkpoint(path) if resume else None, step_memory(tower.device, memory)
    with threads_for(tower.vocabulary.width):
        run = _run(backbone, tower, plan, settings, objective, memory)
        if stored and kernel == "auto" and stored.run == run | {"kernel": stored.run.get("kernel")}:
            run = stored.run  # the self-test may choose another kernel this time; the training must not
            tower = with_text(backbone).text_tower(precision=settings.precision, kernel=run["kernel"])
        learned = learn(
            tower,
            plan.rows.train,
            plan.split.classes,
            settings,
            objective=objective,
            memory=memory,
            progress=progress,
            resume=resume_point(path, stored, run, settings.epochs, remark),
            on_epoch=checkpoint_saver(path, run, settings.epochs),
        )
    return tower, learned


def _run(
    backbone: Backbone,
    tower: TextTower,
    plan: TrainingData,
    settings: PromptSettings,
    objective: Asymmetric | None,
    memory: int,
) -> dict[str, Any]:
    """Return everything that decides the result of a training, to the last bit."""
    return {
        "settings": settings_as_json(settings),
        "objective": None if objective is None else asdict(objective),
        "fingerprint": backbone.fingerprint.digest,
        "classes": list(plan.split.classes),
        "held_out": asdict(plan.rows.rule),
        "kernel": tower.kernel,
        "device": tower.device.type,
        "threads": torch.get_num_threads(),
        "memory": memory,
    }


def settings_as_json(settings: PromptSettings) -> dict[str, Any]:
    """Return settings as they are read from a file."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(settings)))
    return values


def learned_prompts(
    backbone: Backbone,
    tower: TextTower,
    plan: TrainingData,
    learned: LearnedContexts,
    settings: PromptSettings,
) -> LearnedPrompts:
    """Return learned contexts as the artefact to write."""
    return LearnedPrompts(
        kind=settings.kind,
        fingerprint=backbone.fingerprint,
        classes=plan.split.classes,
        contexts=learned.contexts.numpy(),
        meta={name: tensor.numpy() for name, tensor in learned.meta.items()},
        text=learned.text,
        settings=asdict(settings) | {"tower": tower.path},
        history=learned.history,
        held_out=plan.rows.rule,
    )


def _finish(
    work: Workspace,
    backbone: Backbone,
    tower: TextTower,
    plan: TrainingData,
    learned: LearnedContexts,
    settings: PromptSettings,
    target_tpr: float,
) -> Training:
    prompts = learned_prompts(backbone, tower, plan, learned, settings)
    path = work.prompts(settings.kind)
    save_prompts(path, prompts)
    detector = make_detector(
        work,
        detector_method(settings.kind, settings.mode),
        split_name=plan.split.name,
        target_tpr=target_tpr,
        model=lambda: backbone,
    )
    return Training(path, prompts, len(plan.rows.train), detector)


KIND = "dualcoop"


def plan_dualcoop(work: Workspace, split_name: str = "train") -> TrainingData:
    """Choose the rows that DualCoOp learns from. Raises as ``linear_probe.labelled_holdout`` does."""
    return TrainingData(*labelled_holdout(work, split_name))


def train_dualcoop(
    work: Workspace,
    backbone: Backbone,
    plan: TrainingData,
    settings: PromptSettings = DUAL,
    loss: Asymmetric = Asymmetric(),  # noqa: B008 (frozen)
    *,
    kernel: str = "auto",
    memory: int = 0,
    resume: bool = True,
    progress: ProgressCallback = silent,
    remark: Callable[[str], None] = lambda text: None,
) -> TrainedHead:
    """Learn on the planned rows and write the head ``dualcoop``.

    ``prompts.dualcoop.dual_settings`` makes other settings. Resumes as ``train_prompts`` does; ``progress``
    counts steps (``learner.steps``). Raises LsnError as ``learner.learn`` does.
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
        progress=progress,
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
    path, held_out = work.head(KIND), plan.rows.held_out
    save_head(path, head)
    remove(work.checkpoint(KIND))
    correct = predict(Head(head.classes, head.weights), held_out.features) == held_out.labels
    seconds = time.perf_counter() - began
    return TrainedHead(path, head, len(plan.rows.train), len(held_out), float(correct.mean()), seconds)
