"""What is compared: methods by name or all that are possible, and which splits are ID and OOD."""

from collections.abc import Sequence

from lsncli.app.workspace import Workspace
from lsncli.errors import UsageError
from lsncli.scores import SCORES, forms_of, load_score
from lsncli.store.format import Split
from lsncli.store.reader import list_splits, read_split

LINEAR_SCORES = ("msp", "maxlogit", "energy")
"""What is compared on a linear probe beside the prompts' own scores."""


def default_methods(work: Workspace) -> list[str]:
    """What can be compared in this workspace at once, the paper's three first."""
    learned = ["mcm:positive"] if work.positive.is_file() else []
    learned += ["lsn"] if work.negative.is_file() else []
    return ["mcm", *learned, "msp", "maxlogit", "energy", "knn"]


def all_methods(work: Workspace) -> list[str]:
    """Every score that this store and what was learned in it are enough for, in every form."""
    found = ["mcm:positive", "maxlogit:positive"] if work.positive.is_file() else []
    for name in SCORES:
        score = load_score(name)
        own = work.head(score.HEAD) if score.HEAD else work.negative if "negative" in score.NEEDS else None
        if (own is None or own.is_file()) and score.NEEDS.isdisjoint({"pixels", "candidates"}):
            found += [f"{name},form={form}" for form in forms_of(name)] or [name]
    if work.head("linear").is_file():
        found += [f"{name}:linear" for name in LINEAR_SCORES]
    return found


def choose_splits(
    work: Workspace, id_split: str, ood_splits: Sequence[str], train_split: str
) -> tuple[Split, list[Split]]:
    """Read the ID split and the OOD splits; without names, every split but ID and training is OOD.

    Raises LsnError for a split that is not there, UsageError if no OOD split is left.
    """
    names = list(list_splits(work.features))
    chosen = list(dict.fromkeys(ood_splits)) or [
        name for name in names if name not in (id_split, train_split)
    ]
    if not chosen or id_split in chosen:
        raise UsageError(
            f"--ood: expected splits other than '{id_split}', found {', '.join(chosen) or 'none'}.",
            f"The store holds {', '.join(names)}; add one with `lsn extract ./other --split NAME`.",
        )
    return read_split(work.features, id_split), [read_split(work.features, name) for name in chosen]
