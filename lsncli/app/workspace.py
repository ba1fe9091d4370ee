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

    def prompts(self, kind: str) -> Path:
        """The learned prompts of a kind, ``positive`` or ``negative``."""
        return self.folder / f"{kind}.safetensors"

    def head(self, kind: str) -> Path:
        """The learned classifier head of a kind, such as ``linear``."""
        return self.folder / f"{kind}.head.safetensors"

    def checkpoint(self, kind: str) -> Path:
        """The state of an unfinished training of that kind; removed when it is finished."""
        return self.folder / f"{kind}.unfinished.safetensors"
