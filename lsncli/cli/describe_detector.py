"""What commands say of a detector that they made: its threshold, and the detector that it replaces."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lsncli.cli import options
from lsncli.console import brief, printable, say
from lsncli.report.formats import Column

if TYPE_CHECKING:
    from lsncli.artefacts.detector import SavedDetector
    from lsncli.methods.workspace import Workspace


def describe_replacement(
    before: "SavedDetector | None", after: "SavedDetector", workspace: "Workspace", quiet: bool
) -> None:
    """Say that a detector took the place of one of another method, and how to get that one back."""
    from lsncli.methods.spec import method_of

    if before is None:
        return
    if before.by_class is not None and after.by_class is None:
        say(
            "The detector had a threshold for each class and now has one for all. "
            "`lsn calibrate --per-class` sets one for each.",
            quiet=quiet,
        )
    if (before.label, before.head_name) == (after.label, after.head_name):
        return
    text = f"This replaces the detector {before.label} of the workspace."
    method = method_of(before.method, before.head_name, before.settings)
    available = "negative" not in method.needs or workspace.negative.is_file()
    if available and before.head.classes == after.head.classes:
        command = options.in_workspace(f"lsn calibrate --method {method}", workspace.folder)
        text += f" `{command}` brings that one back."
    say(text, quiet=quiet)


def briefly(detector: "SavedDetector") -> "SavedDetector":
    """Return the detector with a label for remarks: without settings, unless details were asked for."""
    return replace(detector, label=brief(detector.label))


CLASS_COLUMNS = [
    Column("method", "Method", detail=True),
    Column("head", "Head", detail=True),
    Column("class", "Predicted", wide=True),
    Column("gamma", "Gamma", digits=6),
    Column("target_tpr", "Target TPR %", digits=1, percent=True, detail=True),
    Column("held_out", "Held out", digits=0),
    Column("tpr_low", "TPR from %", digits=1, percent=True),
    Column("tpr_high", "to %", digits=1, percent=True),
    Column("borrows", "Borrows", flag=True),
]
SHOWN = 20
"""Most classes of a table for people."""
NAMED = 8
"""Most classes that a sentence names."""


def class_rows(detector: "SavedDetector", row: Mapping[str, Any], *, people: bool) -> list[dict[str, Any]]:
    """Return a row for each class with the fields of ``row``, the first ``SHOWN`` for people.

    ``held_out`` counts the images of the class itself; gamma and the interval of a class that borrows are
    those of the images that it borrows.
    """
    found, held = detector.class_thresholds, detector.by_class
    if found is None or held is None:
        return []
    rows = []
    for label, name in enumerate(detector.head.classes[: SHOWN if people else None]):
        group = found.group(label)
        rows.append(
            {
                **row,
                "class": name,
                "gamma": group.gamma,
                "held_out": held.counts[label],
                "tpr_low": group.tpr_low,
                "tpr_high": group.tpr_high,
                "borrows": label in found.borrowing,
            }
        )
    return rows


def describe_threshold(detector: "SavedDetector", quiet: bool) -> None:
    """Print what gamma promises on stderr, with a warning if too few held-out images support it."""
    threshold, label = detector.threshold, brief(detector.label)
    if detector.class_thresholds is not None:
        _describe_classes(detector, quiet)
    else:
        say(
            f"Detector {label}: an image is ID if its score is at least gamma = {threshold.gamma:.6f}. "
            f"{threshold.n} held-out ID images set it for a TPR of {threshold.target}; on new ID images "
            f"expect {threshold.tpr_low:.1%} to {threshold.tpr_high:.1%} (95% interval).",
            quiet=quiet,
        )
    if detector.doubt:
        advice = "Use more images." if detector.seen else "Use more images or a larger --val-fraction."
        say(f"Warning: {detector.doubt} {advice}", quiet=quiet, style="yellow")


def _describe_classes(detector: "SavedDetector", quiet: bool) -> None:
    """Print what the thresholds of classes promise, and which classes borrow."""
    found, names, target = detector.class_thresholds, detector.head.classes, detector.threshold.target
    assert found is not None
    if len(names) > SHOWN:
        say(f"Shown: {SHOWN} of {len(names)} classes; csv and json hold all.", quiet=quiet)
    label, own = brief(detector.label), len(names) - len(found.borrowing)
    if not own:
        say(
            f"Warning: no predicted class has the {found.needed} held-out images that a gamma of its own "
            f"takes: all {len(names)} share gamma = {found.gammas[0]:.6f}, for a TPR of {target}.",
            quiet=quiet,
            style="yellow",
        )
        return
    say(
        f"Detector {label}: an image is ID if its score is at least the gamma of its predicted class. "
        f"{own} of {len(names)} classes have {found.needed} or more held-out images and their own gamma: "
        f"of new ID images predicted as any of them, expect {target} or more to be kept.",
        quiet=quiet,
    )
    if not found.borrowing:
        return
    some = ", ".join(printable(names[label]) for label in found.borrowing[:NAMED])
    more = f" and {len(found.borrowing) - NAMED} more" if len(found.borrowing) > NAMED else ""
    count, images = len(found.borrowing), found.groups[-1].count
    who = "1 class has fewer and borrows" if count == 1 else f"{count} classes have fewer and borrow"
    whose = "all classes" if found.from_all else "these classes"
    promise = "nothing is promised for them" if found.from_all else f"{target} holds for them together"
    say(f"{who} the gamma of {images} images of {whose}: {promise}. {some}{more}.", quiet=quiet)
