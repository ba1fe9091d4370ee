"""A method is a score on a head: how users name one, and how it is fitted on a workspace."""

from dataclasses import dataclass
from typing import Any

from lsncli.app.heads import PROMPTS, load_checked
from lsncli.app.workspace import Workspace
from lsncli.errors import UsageError
from lsncli.scores import Score, load_score, score_settings

LABELS = {("mcm", "hand"): "MCM", ("mcm", "positive"): "CoOp + MCM", ("lsn", "positive"): "CoOp + LSN"}
"""Names that the paper's tables use for a score on the prompts of a kind."""


@dataclass(frozen=True)
class Method:
    """The name of a score, the prompts of its head (``hand`` or ``positive``) and its settings."""

    score: str
    prompts: str
    settings: dict[str, Any]

    @property
    def label(self) -> str:
        """The paper's name where it has one, else the score's; changed settings are always shown."""
        changed = "".join(f",{key}={value}" for key, value in self.settings.items())
        return LABELS.get((self.score, self.prompts), self.score) + changed

    @property
    def needs(self) -> frozenset[str]:
        """What the score cannot do without: "train", "negative" or neither."""
        return load_score(self.score).NEEDS


def parse_method(text: str) -> Method:
    """``SCORE[:PROMPTS][,SETTING=VALUE...]``, such as ``mcm``, ``mcm:positive`` or ``knn,k=10``.

    Without prompts a score that needs negative prompts takes the learned positive ones, any other the
    hand-written ones. Raises UsageError listing what could have been meant.
    """
    name, *pairs = text.split(",")
    score, _, prompts = name.partition(":")
    kinds = score_settings(score)
    settings: dict[str, Any] = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        kind = kinds[key][0] if key in kinds else str
        try:
            settings[key] = kind(value) if kind in (int, float) else value
        except ValueError:
            settings[key] = value  # load_score says what it should have been
    needs = load_score(score, **settings).NEEDS
    prompts = prompts or ("positive" if "negative" in needs else "hand")
    if prompts not in PROMPTS:
        raise UsageError(f"--method {text}: expected prompts {' or '.join(PROMPTS)}, found '{prompts}'.")
    return Method(score, prompts, settings)


def settled(method: Method, work: Workspace) -> tuple[Score, dict[str, Any]]:
    """The score with all its settings; LSN takes the form of the mode its negative prompts learned in."""
    settings = dict(method.settings)
    if "negative" in method.needs and "form" in score_settings(method.score):
        settings.setdefault("form", load_checked(work, "negative").settings["mode"])
    defaults = {key: default for key, (_, default) in score_settings(method.score).items()}
    return load_score(method.score, **settings), defaults | settings
