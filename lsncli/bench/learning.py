"""What a row of a table learns at a place, kept on disk under a digest of everything that decides it.

Rows that learn the same at the same place learn it once; the five ID splits of CIFAR+10 are one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from lsncli.artefacts.heads import load_no_tower, save_head
from lsncli.artefacts.prompts import save_prompts
from lsncli.backbones import Backbone, loader_of
from lsncli.bench.bound import Bound
from lsncli.bench.places import HELD_OUT, Loader, Task
from lsncli.console import Tick, silent
from lsncli.device import pick_device
from lsncli.errors import LsnError
from lsncli.images.class_names import check_distinct
from lsncli.methods.cache import digest
from lsncli.methods.heads import Model
from lsncli.methods.source_digest import code_of
from lsncli.prompts.dualcoop import DUAL
from lsncli.prompts.learner import steps
from lsncli.prompts.settings import PromptSettings, preset
from lsncli.store.reader import read_fingerprint
from lsncli.training.clipn import tower_head
from lsncli.training.linear_probe import linear_head
from lsncli.training.prompts import Plan, learn_resumably, learned_prompts, train_dual

CODE = (Loader, "lsncli.bench.desk:same_backbone")
"""What makes prompts and heads of given features, beside the learner and the model."""


@dataclass(frozen=True)
class Learning:
    """Prompts or a head: the ``kind``, a key of ``LEARNERS``, and what is learned by."""

    kind: str
    settings: PromptSettings | None = None
    """None where there is nothing to choose: a linear probe, CLIPN's head."""
    shots: int | None = None
    """Training rows of each class; None for all that are not held out."""

    def key(self, model: str, fingerprint: str, train: Sequence[str | tuple[str, ...]], seed: int) -> str:
        """Digest of model, rows, classes, settings and code; ``train`` is what the rows depend on."""
        chosen = asdict(self.settings) if self.settings else {}
        rule = (HELD_OUT, self.shots, seed)
        code = code_of(LEARNERS[self.kind], *CODE, *loader_of(model), without=IN_THE_KEY)
        return digest("learned", code, fingerprint, train, rule, self.kind, chosen)[:32]

    def work(self, rows: int, classes: int) -> int:
        """What the seconds grow with: steps times texts, or rows."""
        rows = min(rows, classes * (self.shots or rows))
        if self.settings is None:
            return rows
        texts = classes * self.settings.sets
        if self.settings.learner == "cocoop":
            texts *= min(self.settings.batch_size, rows)
        return steps(rows, self.settings) * texts

    def __str__(self) -> str:
        """The kind, the preset, and what differs from it."""
        if self.settings is None:
            return f"{self.kind} head"
        chosen = asdict(self.settings)
        usual = DUAL if self.kind == "dualcoop" else preset(chosen["kind"], chosen["mode"], chosen["learner"])
        other = [f"{key}={chosen[key]}" for key, value in asdict(usual).items() if chosen[key] != value]
        name = {"coop": "CoOp", "cocoop": "CoCoOp"}[self.settings.learner]
        return ", ".join([self.kind, name, self.settings.mode, *other])


@dataclass(frozen=True)
class Lesson:
    """A job: one learning on the rows of one place; the outcome goes to ``place.files[kind]``."""

    learning: Learning
    seed: int
    place: Bound
    device: str

    def plan(self, task: Task) -> Plan:
        """The rows to learn from."""
        return Plan(task.train, task.rows(self.learning.shots, self.seed))

    @property
    def settings(self) -> PromptSettings:
        """With the seed. Raises LsnError for a kind that needs settings and has none."""
        settings = self.learning.settings
        if settings is None:
            raise LsnError(f"Expected settings to learn {self.learning.kind} prompts by, found none.")
        return replace(settings, seed=self.seed)


IN_THE_KEY = (Backbone, Learning, check_distinct)
"""What learners use and what is in the key by its content, or changes no number."""


def learn(lesson: Lesson, task: Task, model: Model, tick: Tick = silent) -> None:
    """Learn, and write the outcome whole or not at all; prompts go on from their last epoch after a kill.

    Raises LsnError if the rows or the settings cannot be learned from.
    """
    LEARNERS[lesson.learning.kind](lesson, task, model, tick)
    lesson.place.checkpoint(lesson.learning.kind).unlink(missing_ok=True)


def _prompts(lesson: Lesson, task: Task, model: Model, tick: Tick) -> None:
    kind, settings, plan = lesson.learning.kind, lesson.settings, lesson.plan(task)
    backbone = model()
    tower, learned = learn_resumably(lesson.place.checkpoint(kind), backbone, plan, settings, tick=tick)
    save_prompts(lesson.place.prompts(kind), learned_prompts(backbone, tower, plan, learned, settings))


def _dual(lesson: Lesson, task: Task, model: Model, tick: Tick) -> None:
    train_dual(lesson.place, model(), lesson.plan(task), lesson.settings, tick=tick)


def _linear(lesson: Lesson, task: Task, _model: Model, _tick: Tick) -> None:
    plan, device = lesson.plan(task), pick_device(lesson.device)
    head, _ = linear_head(plan.split, plan.rows, read_fingerprint(lesson.place.features), device=device)
    save_head(lesson.place.head(lesson.learning.kind), head)


def _clipn(lesson: Lesson, task: Task, model: Model, _tick: Tick) -> None:
    tower_head(lesson.place, model(), load_no_tower(lesson.place.no_tower), task.train.classes)


LEARNERS: Mapping[str, Callable[[Lesson, Task, Model, Tick], None]] = {
    "positive": _prompts,
    "negative": _prompts,
    "dualcoop": _dual,
    "linear": _linear,
    "clipn": _clipn,
}
