"""What is compared: methods by name or all that are possible, and which splits are ID and OOD."""

from collections.abc import Sequence

from lsncli.app.heldout import no_rows
from lsncli.app.workspace import Workspace
from lsncli.errors import LsnError, UsageError
from lsncli.scores import SCORES, forms_of, load_score
from lsncli.store.format import Split
from lsncli.store.reader import list_splits, read_split

TRAIN = "train"
"""The training split where none is named."""

LINEAR_SCORES = ("msp", "maxlogit", "energy")
"""What is compared on a linear probe beside the prompts' own scores."""


def default_methods(work: Workspace, *, rows: bool = True) -> list[str]:
    """What can be compared in this workspace at once, the paper's three first; knn with training ``rows``."""
    learned = ["mcm:positive"] if work.positive.is_file() else []
    learned += ["lsn"] if work.negative.is_file() else []
    return ["mcm", *learned, "msp", "maxlogit", "energy", *(["knn"] if rows else [])]


def all_methods(work: Workspace, *, rows: bool = True) -> list[str]:
    """Every score that this store and what was learned in it are enough for, in every form.

    Without training ``rows`` no score that learns from them.
    """
    found = ["mcm:positive", "maxlogit:positive"] if work.positive.is_file() else []
    for name in SCORES:
        score = load_score(name)
        own = work.head(score.HEAD) if score.HEAD else work.negative if "negative" in score.NEEDS else None
        missing = {"pixels", "candidates"} | (set() if rows else {"train", "labels"})
        if (own is None or own.is_file()) and score.NEEDS.isdisjoint(missing):
            found += [f"{name},form={form}" for form in forms_of(name)] or [name]
    if work.head("linear").is_file():
        found += [f"{name}:linear" for name in LINEAR_SCORES]
    return found


def has_rows(work: Workspace, train_split: str | None) -> bool:
    """Whether there is a training split, which may have any name if it is named."""
    return train_split is not None or TRAIN in list_splits(work.features)


def training_split(work: Workspace, name: str | None, id_split: Split) -> Split:
    """Read the split ``name``; without a name ``TRAIN``, or the classes of the ID split if there is none.

    Raises LsnError for a named split that is missing, and where no classes are known.
    """
    known = has_rows(work, name)
    split = read_split(work.features, name or TRAIN) if known else no_rows(id_split, TRAIN)
    if not split.classes:
        of = split.name if known else id_split.name
        raise LsnError(f"Split '{of}' has no classes.", "Name a labelled split with --train.")
    return split


def choose_splits(
    work: Workspace, id_split: str, ood_splits: Sequence[str], train_split: str | None
) -> tuple[Split, list[Split]]:
    """Read the ID split and the OOD splits; without names, every split but ID and training is OOD.

    Raises LsnError for a split that is not there, UsageError if no OOD split is left.
    """
    names = list(list_splits(work.features))
    chosen = list(dict.fromkeys(ood_splits)) or [
        name for name in names if name not in (id_split, train_split or TRAIN)
    ]
    if not chosen or id_split in chosen:
        raise UsageError(
            f"--ood: expected splits other than '{id_split}', found {', '.join(chosen) or 'none'}.",
            f"The store holds {', '.join(names)}; add one with `lsn extract ./other --split NAME`.",
        )
    return read_split(work.features, id_split), [read_split(work.features, name) for name in chosen]
