"""A handful of models to choose from, with what each is for; ``catalogue`` lists all."""

from dataclasses import dataclass

from lsncli.backbones import DEFAULT_MODEL


@dataclass(frozen=True)
class Recommended:
    """A model with what decides between it and the others."""

    model: str
    """The value of ``--model``."""
    parameters: int
    """Of image and text encoder."""
    dim: int
    """D, the length of a feature."""
    image_size: int
    """Pixels of a side."""
    about: str
    """What it is for."""
    bytes_each: int = 4
    """Bytes of a parameter in the file of the weights."""

    @property
    def megabytes(self) -> int:
        """Size of the weights in MB (10^6 bytes)."""
        return round(self.parameters * self.bytes_each / 1e6)


RECOMMENDED = (
    # Of mini the file is in float16; those that open_clip downloads are in float32.
    Recommended("mini", 6_078_849, 256, 160, "bundled; for a first try", bytes_each=2),
    Recommended(DEFAULT_MODEL, 149_620_737, 512, 224, "the default; the paper's model"),
    Recommended("ViT-B-32-quickgelu:openai", 151_277_313, 512, 224, "faster: larger patches"),
    Recommended("ViT-B-16:datacomp_xl_s13b_b90k", 149_620_737, 512, 224, "the default's size, newer data"),
    Recommended("ViT-L-14-quickgelu:openai", 427_616_513, 768, 224, "larger; slow without a GPU"),
    Recommended("ViT-B-16-SigLIP2:webli", 375_187_970, 768, 224, "class names in many languages"),
)
"""In the order of the list. A test compares the numbers with the architectures."""
