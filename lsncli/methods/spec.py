"""Methods: a score with its settings on a head, parsed from text and resolved in a workspace."""

from dataclasses import dataclass, replace
from typing import Any

from lsncli.artefacts.heads import COMMANDS
from lsncli.backbones import NoText
from lsncli.errors import UsageError
from lsncli.methods.heads import HEADS, MEANS, Heads
from lsncli.methods.words import choice_for
from lsncli.scores import Score, load_score, score_settings

SCORE_LABELS = {"mcm": "MCM", "lsn": "LSN", "mincm": "MinCM", "dualcoop": "DualCoOp", "clipn": "CLIPN"}
LEARNER_LABELS = {"coop": "CoOp", "cocoop": "CoCoOp"}
"""Names that the paper's tables use."""

LSN_SCORES = ("lsn", "mincm")
"""The scores that the ``score`` settings of negative prompts apply to."""


@dataclass(frozen=True)
class Method:
    """The name of a score, of its head (one of ``HEADS``) and its settings."""

    score: str
    head: str
    settings: dict[str, Any]

    def __str__(self) -> str:
        """The method as users write it; ``parse_method`` is the inverse."""
        head = "" if self.head == default_head(self.score) else f":{self.head}"
        return self.score + head + _format_settings(self.settings)

    @property
    def needs(self) -> frozenset[str]:
        """What the score requires, keys of ``scores.score.NEEDS``."""
        return load_score(self.score).NEEDS

    @property
    def learns_from_rows(self) -> bool:
        """Whether the score itself learns from training rows, or its words are selected by them."""
        return not self.needs.isdisjoint({"train", "labels"}) or self.settings.get("mine") == "images"


@dataclass(frozen=True)
class ResolvedMethod:
    """A method in a workspace: the score, all of its settings, and its label in tables."""

    score: Score
    settings: dict[str, Any]
    label: str


def parse_method(text: str) -> Method:
    """Parse ``SCORE[:HEAD][,SETTING=VALUE...]``, such as ``mcm``, ``mcm:positive`` or ``knn,k=10``.

    Without a head, ``default_head`` decides. Raises UsageError that lists the valid names.
    """
    name, *pairs = text.split(",")
    score, _, head = name.partition(":")
    types = score_settings(score)
    settings: dict[str, Any] = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        kind = types[key][0] if key in types else str
        try:
            settings[key] = kind(value) if kind in (int, float) else value
        except ValueError:
            settings[key] = value  # load_score raises the error
    load_score(score, **settings)
    head = head or default_head(score)
    if head not in HEADS:
        raise UsageError(f"--method {text}: expected a head of {', '.join(HEADS)}, found '{head}'.")
    return Method(score, head, settings)


def method_of(score: str, head: str, settings: dict[str, Any]) -> Method:
    """Return the method of a resolved score, such as a detector's, without the settings that are defaults."""
    types = score_settings(score)
    return Method(score, head, {key: value for key, value in settings.items() if value != types[key][1]})


def adapted(method: Method, heads: Heads) -> Method:
    """Return ``method`` with the head that hand-written prompts stand for in a workspace.

    A score with a vocabulary of words has classes in the texts of its words. A score that does not depend on
    prompts, such as kNN, is on class means if the model has no text encoder.
    """
    if method.head != "hand":
        return method
    if WORDS in score_settings(method.score):
        return replace(method, head=choice_for(word_list(method), heads.fingerprint.model).recipe)
    if load_score(method.score).PROMPTS:
        return method
    try:
        heads.source(method.head, negatives=False)
    except NoText:
        return replace(method, head=MEANS)
    return method


WORDS = "words"
"""The setting of scores with a vocabulary of words."""


def word_list(method: Method) -> str:
    """Return the word list of a method."""
    name: str = method.settings.get(WORDS, score_settings(method.score)[WORDS][1])
    return name


def resolve_method(method: Method, heads: Heads) -> ResolvedMethod:
    """Complete the settings of ``method`` with those of the workspace's prompts, and label it.

    A setting that the user left out is that of the negative prompts (their ``score`` settings), else the
    score's default. The label is the paper's where it has one: "CoOp + LSN" or "CoCoOp + MCM" after the
    learner of the positive prompts, with "(CoOp negatives)" if the negative ones have another learner, and
    with the settings that the user gave or that differ from the defaults. Raises LsnError if prompts are
    missing.
    """
    types = score_settings(method.score)
    learned_head = method.head in COMMANDS  # it has negative prompts of its own
    negative = heads.negative.settings if "negative" in method.needs and not learned_head else {}
    of_prompts = negative.get("score", {}) if method.score in LSN_SCORES else {}
    of_prompts = {key: value for key, value in of_prompts.items() if key in types}
    defaults = {key: default for key, (_, default) in types.items()}
    settings = defaults | of_prompts | method.settings
    if WORDS in types:
        settings[WORDS] = choice_for(word_list(method), heads.fingerprint.model).name
    label = SCORE_LABELS.get(method.score, method.score)
    learner = heads.positive.settings["learner"] if method.head == "positive" else ""
    if learner:
        label = f"{_learner_label(learner)} + {label}"
    if negative and negative["learner"] != learner:
        label += f" ({_learner_label(negative['learner'])} negatives)"
    changed = {key for key, value in settings.items() if value != defaults[key]}
    shown = {key: settings[key] for key in settings if key in method.settings or key in changed}
    return ResolvedMethod(load_score(method.score, **settings), settings, label + _format_settings(shown))


def _format_settings(settings: dict[str, Any]) -> str:
    return "".join(f",{key}={value}" for key, value in settings.items())


def default_head(name: str) -> str:
    """Return the head of the score ``name`` where the user names none.

    It is the score's own (``Score.HEAD``), else the learned positive prompts for a score that needs negative
    ones, else the hand-written prompt.
    """
    score = load_score(name)
    return score.HEAD or ("positive" if "negative" in score.NEEDS else "hand")


def _learner_label(learner: str) -> str:
    return LEARNER_LABELS.get(learner, learner)
