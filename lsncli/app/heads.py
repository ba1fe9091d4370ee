"""Classifier heads: hand-written prompts, learned positive prompts, with or without negatives."""

from lsncli.app.workspace import Workspace
from lsncli.artefacts.prompts import Kind, LearnedPrompts, load_prompts
from lsncli.backbones import load_again
from lsncli.errors import FingerprintMismatch, LsnError, UsageError
from lsncli.prompts.contexts import text_features
from lsncli.prompts.loop import as_units
from lsncli.store.reader import read_fingerprint, read_text
from lsncli.types import Head, unit

TEMPLATE = "a photo of a {}"
"""The prompt of MCM (Ming et al., NeurIPS 2022), without a full stop."""

PROMPTS = ("hand", "positive")


def hand_head(work: Workspace, classes: tuple[str, ...]) -> Head:
    """A zero-shot head: text features of ``TEMPLATE`` with each class name.

    They come from the store if class text features were imported, otherwise from the text tower of the
    model that made the features. Raises LsnError if imported text features lack a class.
    """
    fingerprint = read_fingerprint(work.features)
    imported = read_text(work.features)
    if imported is None:
        tower = load_again(fingerprint, device="cpu").text_tower()
        text = as_units(text_features(tower, [TEMPLATE.format(name) for name in classes]))
        return Head(classes, text, fingerprint.logit_scale)
    names, features = imported
    missing = [name for name in classes if name not in names]
    if missing:
        raise LsnError(
            f"The imported text features lack {len(missing)} of {len(classes)} classes: '{missing[0]}' ...",
            "Import text features for every class with `lsn store import --text`.",
        )
    rows = unit(features)[[names.index(name) for name in classes]]
    return Head(classes, rows, fingerprint.logit_scale)


def learned_head(work: Workspace, *, negatives: bool) -> Head:
    """The head of the learned positive prompts, with the negative sets if asked for.

    Raises LsnError if prompts are missing or disagree, FingerprintMismatch if they are of another model
    than the store.
    """
    positive = load_checked(work, "positive")
    negative = load_checked(work, "negative") if negatives else None
    if negative is not None and negative.classes != positive.classes:
        raise LsnError(
            f"{work.negative} knows {len(negative.classes)} classes, {work.positive} other ones.",
            "Run `lsn train-neg` again.",
        )
    scale = positive.fingerprint.logit_scale
    return Head(positive.classes, positive.text, scale, None if negative is None else negative.text)


def make_head(work: Workspace, prompts: str, classes: tuple[str, ...], *, negatives: bool) -> Head:
    """A head by name: ``hand`` or ``positive``; ``negatives`` adds the learned negative sets to either."""
    if prompts not in PROMPTS:
        raise UsageError(f"Prompts: expected one of {', '.join(PROMPTS)}, found '{prompts}'.")
    if prompts == "positive":
        return learned_head(work, negatives=negatives)
    head = hand_head(work, classes)
    if not negatives:
        return head
    learned = learned_head(work, negatives=True)
    if learned.classes != classes:
        raise LsnError(
            f"{work.negative} was learned for {len(learned.classes)} classes that are not the "
            f"{len(classes)} of this split.",
            "Name the split that the prompts were trained on.",
        )
    return Head(classes, head.text, head.scale, learned.negative)


def load_checked(work: Workspace, kind: Kind) -> LearnedPrompts:
    """Learned prompts of the model that the store belongs to; FingerprintMismatch otherwise."""
    path = work.positive if kind == "positive" else work.negative
    prompts = load_prompts(path, kind)
    store = read_fingerprint(work.features)
    if prompts.fingerprint.digest != store.digest:
        raise FingerprintMismatch(
            f"{path} was learned with another model: expected {store}, found {prompts.fingerprint}.",
            f"Run `lsn train-{kind[:3]}` again, or use another --work folder.",
        )
    return prompts
