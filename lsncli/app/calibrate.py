"""Make a calibrated detector: a method, with gamma from held-out ID rows."""

from dataclasses import replace

from lsncli.app.heads import load_checked, make_head
from lsncli.app.heldout import Parts, check_held_out, hold_out, hold_out_again
from lsncli.app.methods import Method, settled
from lsncli.app.workspace import Workspace
from lsncli.artefacts.detector import Detector, save_detector
from lsncli.errors import LsnError
from lsncli.scores import score_in_chunks
from lsncli.store.format import Split
from lsncli.store.reader import read_fingerprint, read_split
from lsncli.threshold import calibrate

TARGET_TPR = 0.95
HELD_OUT = 0.2
"""Fraction of the labelled rows of each class that no prompt learns from."""
MARGIN = 1e-12
"""Gamma is the score of an image, and that image must be kept: in a batch of another size the same score can
differ in its last bit."""


def known_rows(work: Workspace, split: Split) -> Parts:
    """Training and held-out rows of ``split``: those of the positive prompts if it trained them.

    Without learned prompts a fifth of each class is held out, by seed 0.
    """
    if work.positive.is_file():
        rule = load_checked(work, "positive").held_out
        if rule.split == split.name:
            return hold_out_again(split, rule)
    return hold_out(split, HELD_OUT, None, seed=0)


def make_detector(
    work: Workspace, method: Method, *, split_name: str = "train", target_tpr: float = TARGET_TPR
) -> Detector:
    """Calibrate ``method`` on the held-out rows of a labelled split and write ``detector.safetensors``.

    Raises LsnError if the split has no classes or no row could be held out, or as the method does.
    """
    split = read_split(work.features, split_name)
    if not split.classes:
        raise LsnError(
            f"Split '{split_name}' has no classes, so no detector can be calibrated on it.",
            "Extract a folder with one folder per class.",
        )
    rows = known_rows(work, split)
    check_held_out(split, rows)
    score, settings = settled(method, work)
    head = make_head(work, method.prompts, split.classes, negatives="negative" in method.needs)
    train = rows.train if "train" in method.needs else None
    scorer = score.fit(head, train)
    threshold = calibrate(score_in_chunks(scorer, rows.held_out.features), target_tpr)
    detector = Detector(
        method=method.score,
        settings=settings,
        prompts=method.prompts,
        head=head,
        fingerprint=read_fingerprint(work.features),
        threshold=replace(threshold, gamma=threshold.gamma - MARGIN * max(1.0, abs(threshold.gamma))),
        train=train,
    )
    save_detector(work.detector, detector)
    return detector
