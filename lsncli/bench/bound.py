"""A suite's workspace as one row sees it: the suite's features, and what was learned for the row."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lsncli.methods.workspace import Workspace


@dataclass(frozen=True)
class Bound(Workspace):
    """``files`` are the learned prompts and heads by kind; others are not there, whatever the folder has.

    Heads of which the suite learns none, such as an imported one of CLIPN, are the folder's own.
    """

    files: Mapping[str, Path] = field(default_factory=dict)
    words: str = ""
    """Digest of the word list that images' words are chosen from; empty where the user left them."""

    def prompts(self, kind: str) -> Path:
        """Those that the row learns."""
        return self.files.get(kind, learned_file(self, f"no-{kind}"))

    def head(self, kind: str) -> Path:
        """The one that the row learns, else the workspace's."""
        return self.files.get(kind) or super().head(kind)

    def checkpoint(self, kind: str) -> Path:
        """Beside what is being learned: another row's training does not disturb it."""
        return self.files[kind].with_suffix(".unfinished.safetensors")

    def candidates(self, split: str) -> Path:
        """Words are kept for a whole set, of which a split is a part."""
        path = super().candidates(split.partition("@")[0])
        return path.parent / self.words / path.name


def learned_file(work: Workspace, key: str) -> Path:
    """Where what was learned under ``key`` is kept."""
    return work.folder / "learned" / f"{key}.safetensors"
