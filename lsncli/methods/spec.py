"""A method is a score on a head: how users name one, and how it is fitted on a workspace."""

from dataclasses import dataclass, replace
from typing import Any

from lsncli.artefacts.heads import COMMANDS
from lsncli.backbones import NoText
from lsncli.errors import UsageError
from lsncli.methods.heads import HEADS, MEANS, Heads
from lsncli.scores import Score, load_score, score_settings

SCORE_LABELS = {"mcm": "MCM", "lsn": "LSN", "mincm": "MinCM", "dualcoop": "DualCoOp", "clipn": "CLIPN"}
LEARNER_LABELS = {"coop": "CoOp", "cocoop": "CoCoOp"}
"""Names that the paper's tables use."""

LSN_SCORES = ("lsn", "mincm")
"""The scores that the ``score`` settings of negative prompts are meant for."""


@dataclass(frozen=True)
class Method:
    """The name of a score, of its head (one of ``HEADS``) and its settings."""

    score: str
    head: str
    settings: dict[str, Any]

    def __str__(self) -> str:
        """The method as users write it; ``parse_method`` is the inverse."""
        head = "" if self.head == default_head(self.score) else f":{self.head}"
        return self.score + head + _written(self.settings)

    @property
    def needs(self) -> frozenset[str]:
        """What the score cannot do without, keys of ``scores.score.NEEDS``."""
        return load_score(self.score).NEEDS

    @property
    def learns_from_rows(self) -> bool:
        """Whether the score itself learns from training rows, beside what prompts learned."""
        return not self.needs.isdisjoint({"train", "labels"})


@dataclass(frozen=True)
class ResolvedMethod:
    """A method in a workspace: its score, every setting of it, and what a table calls it there."""

    score: Score
    settings: dict[str, Any]
    label: str


def parse_method(text: str) -> Method:
    """``SCORE[:HEAD][,SETTING=VALUE...]``, such as ``mcm``, ``mcm:positive`` or ``knn,k=10``.

    Without a head a score takes its own (``Score.HEAD``), else one that needs negative prompts takes the
    learned positive ones, any other the hand-written prompt. Raises UsageError listing what could have been
    meant.
    """
    name, *pairs = text.split(",")
    score, _, head = name.partition(":")
    kinds = score_settings(score)
    settings: dict[str, Any] = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        kind = kinds[key][0] if key in kinds else str
        try:
            settings[key] = kind(value) if kind in (int, float) else value
        except ValueError:
            settings[key] = value  # load_score says what it should have been
    load_score(score, **settings)
    head = head or default_head(score)
    if head not in HEADS:
        raise UsageError(f"--method {text}: expected a head of {', '.join(HEADS)}, found '{head}'.")
    return Method(score, head, settings)


def without_text(method: Method, heads: Heads) -> Method:
    """``method``, or the same score on class means where the model has no text encoder and the score does not
    depend on prompts, such as kNN."""
    if method.head != "hand" or load_score(method.score).PROMPTS:
        return method
    try:
        heads.source(method.head, negatives=False)
    except NoText:
        return replace(method, head=MEANS)
    return method


def resolve_method(method: Method, heads: Heads) -> ResolvedMethod:
    """The method with all its settings, by the prompts of a workspace.

    What the user left open is what the negative prompts were learned for (their ``score`` settings), else
    the score's own default. The label is the paper's where it has one: "CoOp + LSN" or "CoCoOp + MCM" after
    the learner of the positive prompts, with "(CoOp negatives)" where the negative ones are of another;
    settings that the user gave or that are not the score's defaults are shown. Raises LsnError if prompts
    are missing.
    """
    kinds = score_settings(method.score)
    own = method.head in COMMANDS  # a learned head brings its negative prompts along
    negative = heads.negative.settings if "negative" in method.needs and not own else {}
    learned_for = negative.get("score", {}) if method.score in LSN_SCORES else {}
    learned_for = {key: value for key, value in learned_for.items() if key in kinds}
    defaults = {key: default for key, (_, default) in kinds.items()}
    settings = defaults | learned_for | method.settings
    label = SCORE_LABELS.get(method.score, method.score)
    learner = heads.positive.settings["learner"] if method.head == "positive" else ""
    if learner:
        label = f"{_learner_label(learner)} + {label}"
    if negative and negative["learner"] != learner:
        label += f" ({_learner_label(negative['learner'])} negatives)"
    other = {key for key, value in settings.items() if value != defaults[key]}
    shown = {key: settings[key] for key in settings if key in method.settings or key in other}
    return ResolvedMethod(load_score(method.score, **settings), settings, label + _written(shown))


def _written(settings: dict[str, Any]) -> str:
    return "".join(f",{key}={value}" for key, value in settings.items())


def default_head(name: str) -> str:
    """The head that the score ``name`` takes when the user names none."""
    score = load_score(name)
    return score.HEAD or ("positive" if "negative" in score.NEEDS else "hand")


def _learner_label(learner: str) -> str:
    return LEARNER_LABELS.get(learner, learner)
