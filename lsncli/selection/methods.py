"""The methods that a selection compares, from the simplest."""

from collections.abc import Sequence
from dataclasses import replace

from lsncli.backbones import NoText
from lsncli.errors import UsageError
from lsncli.methods.heads import MEANS, TEXT_HEADS, Heads
from lsncli.methods.spec import Method, adapted, parse_method
from lsncli.prompts.settings import Kind
from lsncli.scores import load_score

DEFAULT = "mcm"
LOGITS = (DEFAULT, "maxlogit", "energy", "gen")
WORDS = ("neglabel", "eoe")
ROWS = (
    *("proto", "she", "fdbd", "nci", "knn,k=10", "nnguide", "mahalanobis", "rmds", "vim", "klm"),
    *("react", "dice", "vra", "scale", "ensemble"),
)
PROMPTS = ("mcm:positive", "maxlogit:positive", "energy:positive", "lsn")
"""Methods with learned prompts, the last ones because they take training."""
HEADS = (*TEXT_HEADS, MEANS)
"""The heads that can be made without a class."""
INPUTS = ("", "vocabulary")
"""The inputs besides features that can be made without a class."""


def default_methods(heads: Heads, *, prompts: bool) -> list[str]:
    """Return the methods to compare, from the simplest: by what they need, and then as published.

    They need nothing, words, training rows or learned ``prompts``. For a model without a text encoder, class
    means take the place of hand-written prompts. Scores with a training of their own are left out (``vos``,
    ``npos``, ``rpl``, ``arpl``).
    """
    try:
        heads.source("hand", negatives=False)
    except NoText:
        return [str(replace(parse_method(name), head=MEANS)) for name in (*LOGITS, *ROWS)]
    return [*LOGITS, *WORDS, *ROWS, *(PROMPTS if prompts else ())]


def comparable(names: Sequence[str], heads: Heads) -> dict[str, Method]:
    """Return the methods ``names``, adapted to the workspace, by name.

    Raises UsageError for a method whose head or inputs cannot be made without a class.
    """
    found: dict[str, Method] = {}
    for name in names:
        method = adapted(parse_method(name), heads)
        inputs = load_score(method.score, **method.settings).inputs()
        if method.head not in HEADS or inputs not in INPUTS:
            raise UsageError(
                f"--method {name} cannot be compared: what it is made of knows all classes.",
                f"Use a head of {', '.join(HEADS)}, or `lsn eval` with OOD images.",
            )
        if method not in found.values():  # "neglabel" is also "neglabel:neglabel"
            found[name] = method
    return found


def kinds_of_prompts(method: Method) -> tuple[Kind, ...]:
    """Return the kinds of learned prompts that a method takes, in the order in which they are learned."""
    positive: tuple[Kind, ...] = ("positive",) if method.head == "positive" else ()
    return (*positive, "negative") if "negative" in method.needs else positive
