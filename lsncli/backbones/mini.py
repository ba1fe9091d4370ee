"""The embedded dual encoder: 12 MB that let the demo and the tests run offline on real images.

What it was trained on, how good it is and what it is not: ``mini_weights/MODEL_CARD.md``.
"""

from importlib.resources import as_file, files

from lsncli.backbones import openclip
from lsncli.errors import UsageError


def load(model: str, pretrained: str, device: str, precision: str) -> openclip.OpenClip:
    """Load the bundled weights; ``pretrained`` must be empty or ``bundled``."""
    if pretrained not in ("", "bundled"):
        raise UsageError(
            f"--model mini has one set of weights, bundled with lsn; found --pretrained '{pretrained}'.",
            "Leave --pretrained out.",
        )
    with as_file(files("lsncli.backbones") / "mini_weights") as folder:
        vocabulary = str(folder / "bpe_mini.txt.gz")
        return openclip.create(model, f"local-dir:{folder}", "", device, precision, bpe_path=vocabulary)
