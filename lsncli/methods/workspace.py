"""The folder that commands share: one feature store and what was learned from it."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Workspace:
    """The paths of a workspace, ``./lsn-work`` by default; each command reads and writes its own files."""

    folder: Path

    @property
    def features(self) -> Path:
        """The feature store."""
        return self.folder / "features.h5"

    @property
    def positive(self) -> Path:
        """The learned positive prompts."""
        return self.prompts("positive")

    @property
    def negative(self) -> Path:
        """The learned negative prompts."""
        return self.prompts("negative")

    @property
    def detector(self) -> Path:
        """The detector of the last training or calibration."""
        return self.folder / "detector.safetensors"

    @property
    def cache(self) -> Path:
        """Cached results (``methods.cache``); may be deleted at any time."""
        return self.folder / "cache"

    def extraction(self, split: str) -> Path:
        """Time and resources of the extraction of a split (``extraction.runner``)."""
        return self.folder / "results" / f"extract-{split}.json"

    def prompts(self, kind: str) -> Path:
        """The learned prompts of a kind, ``positive`` or ``negative``."""
        return self.folder / f"{kind}.safetensors"

    def head(self, kind: str) -> Path:
        """The learned classifier head of a kind, such as ``linear``."""
        return self.folder / f"{kind}.head.safetensors"

    @property
    def no_tower(self) -> Path:
        """CLIPN's learned "no" text encoder."""
        return self.folder / "no-tower.safetensors"

    def candidates(self, split: str) -> Path:
        """The candidate labels of a split's images, for ZOC (``methods.candidates``)."""
        return self.folder / "candidates" / f"{split}.jsonl"

    @property
    def tower(self) -> Path:
        """A model with a fine-tuned image tower, as ``--pretrained FILE`` reads it."""
        return self.folder / "tower.safetensors"

    def checkpoint(self, kind: str) -> Path:
        """The checkpoint of an unfinished training of a kind; removed when it is finished."""
        return self.folder / f"{kind}.unfinished.safetensors"
