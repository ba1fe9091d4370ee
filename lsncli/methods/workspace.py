"""The folder that a set of commands shares: one feature store and what was learned from it."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Workspace:
    """``./lsn-work`` unless told otherwise; every command reads and writes its own file in it."""

    folder: Path

    @property
    def features(self) -> Path:
        return self.folder / "features.h5"

    @property
    def positive(self) -> Path:
        return self.prompts("positive")

    @property
    def negative(self) -> Path:
        return self.prompts("negative")

    @property
    def detector(self) -> Path:
        return self.folder / "detector.safetensors"

    @property
    def cache(self) -> Path:
        """Results by content (``methods.cache``); may be deleted at any time."""
        return self.folder / "cache"

    def extraction(self, split: str) -> Path:
        """What the extraction of a split took (``extraction.merge``)."""
        return self.folder / "results" / f"extract-{split}.json"

    def prompts(self, kind: str) -> Path:
        """The learned prompts of a kind, ``positive`` or ``negative``."""
        return self.folder / f"{kind}.safetensors"

    def head(self, kind: str) -> Path:
        """The learned classifier head of a kind, such as ``linear``."""
        return self.folder / f"{kind}.head.safetensors"

    @property
    def no_tower(self) -> Path:
        """The learned "no" text encoder of CLIPN."""
        return self.folder / "no-tower.safetensors"

    def candidates(self, split: str) -> Path:
        """Candidate words of every image of a split, for ZOC (``methods.candidates``)."""
        return self.folder / "candidates" / f"{split}.jsonl"

    @property
    def tower(self) -> Path:
        """A model whose image tower was fine-tuned, as ``--pretrained FILE`` reads it."""
        return self.folder / "tower.safetensors"

    def checkpoint(self, kind: str) -> Path:
        """The state of an unfinished training of that kind; removed when it is finished."""
        return self.folder / f"{kind}.unfinished.safetensors"
