"""The embedded dual encoder: 12 MB that let the demo and the tests run offline on real images.

What it was trained on, how good it is and what it is not: ``mini_weights/MODEL_CARD.md``.
"""

from importlib.resources import as_file, files
from pathlib import Path

from lsncli.backbones import openclip
from lsncli.errors import UsageError


def load(model: str, pretrained: str, device: str, precision: str) -> openclip.OpenClip:
    """Load the bundled weights, or the checkpoint file ``pretrained`` of the same architecture.

    Raises UsageError for anything else but "" or ``bundled``, Unavailable for a file that does not fit.
    """
    model, _, tag = model.partition(":")
    weights = pretrained or tag
    checkpoint = "" if weights == "bundled" else weights
    if checkpoint and not Path(checkpoint).is_file():
        raise UsageError(
            f"--model mini has one set of weights, bundled with lsn; found '{weights}'.",
            "Leave --pretrained out, or name a checkpoint file of a fine-tuned mini model.",
        )
    with as_file(files("lsncli.backbones") / "mini_weights") as folder:
        vocabulary = str(folder / "bpe_mini.txt.gz")
        return openclip.create(
            model, f"local-dir:{folder}", checkpoint, device, precision, bpe_path=vocabulary
        )
