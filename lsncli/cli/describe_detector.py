"""What commands say of a detector that they made: its threshold, and the detector that it replaces."""

from dataclasses import replace
from typing import TYPE_CHECKING

from lsncli.cli import options
from lsncli.console import brief, say

if TYPE_CHECKING:
    from lsncli.artefacts.detector import SavedDetector
    from lsncli.methods.workspace import Workspace


def describe_replacement(
    before: "SavedDetector | None", after: "SavedDetector", workspace: "Workspace", quiet: bool
) -> None:
    """Say that a detector took the place of one of another method, and how to get that one back."""
    from lsncli.methods.spec import method_of

    if before is None or (before.label, before.head_name) == (after.label, after.head_name):
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


def describe_threshold(detector: "SavedDetector", quiet: bool) -> None:
    """Print what gamma promises on stderr, with a warning if too few held-out images support it."""
    threshold, label = detector.threshold, brief(detector.label)
    say(
        f"Detector {label}: an image is ID if its score is at least gamma = {threshold.gamma:.6f}. "
        f"{threshold.n} held-out ID images set it for a TPR of {threshold.target}; on new ID images "
        f"expect {threshold.tpr_low:.1%} to {threshold.tpr_high:.1%} (95% interval).",
        quiet=quiet,
    )
    if threshold.doubt:
        advice = "Use more images." if detector.seen else "Use more images or a larger --val-fraction."
        say(f"Warning: {threshold.doubt} {advice}", quiet=quiet, style="yellow")
