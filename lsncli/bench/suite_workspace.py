"""Where a suite works: a workspace for each model, the files of results and timings, the images.

A row's workspace has the suite's features, and what was learned for that row.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

from lsncli.backbones import Backbone, load_again, load_backbone
from lsncli.bench.results import Results
from lsncli.evaluation.dataset_check import locate
from lsncli.images.dataset_layouts import DatasetLayout
from lsncli.methods.workspace import Workspace
from lsncli.reference.datasets import Dataset
from lsncli.store.format import SplitInfo
from lsncli.store.reader import list_splits, read_fingerprint


@dataclass(frozen=True)
class RowWorkspace(Workspace):
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


@dataclass(frozen=True)
class SuiteWorkspace:
    """``<work>/bench/<suite>/<model>/features.h5`` holds features, beside it lies what was learned."""

    work: Path
    suite: str
    model: str
    """What ``lsn extract --model`` takes; a line of a table may ask for another."""
    data: Path | None = None
    """Folder of the images; None if there is none."""
    pretrained: str = ""
    """Weights of ``model``; empty for those that it names."""
    device: str = "auto"
    batch_size: int = 16
    workers: int = 1
    bundle: Path | None = None
    """A store with features by ``model`` that came with the suite."""
    sets: Mapping[str, Dataset] = field(default_factory=dict)
    """What the suite says of its image sets, by name."""

    @property
    def results(self) -> Results:
        """All results of the suite."""
        return Results(self.work / "results" / f"{self.suite}.jsonl")

    @property
    def timings(self) -> Results:
        """How long jobs took."""
        return Results(self.work / "bench" / self.suite / "timings.jsonl")

    def workspace(self, model: str) -> RowWorkspace:
        """That of a model; the suite's for an empty name."""
        return RowWorkspace(
            self.work / "bench" / self.suite / re.sub(r"[^A-Za-z0-9._-]+", "-", model or self.model)
        )

    @cached_property
    def bundled(self) -> Mapping[str, SplitInfo]:
        """The sets of ``bundle``. Raises LsnError if it cannot be read."""
        return list_splits(self.bundle) if self.bundle else {}

    def weights(self, model: str) -> str:
        """``pretrained``, if this is the model it is meant for."""
        return self.pretrained if model in ("", self.model) else ""

    def backbone(self, model: str) -> Backbone:
        """The model, checked to be the one that made the features if there are some.

        Raises as ``load_backbone`` and ``load_again`` do.
        """
        store, weights = self.workspace(model).features, self.weights(model)
        if store.is_file():
            return same_backbone(store, weights, self.device)
        return load_backbone(model or self.model, pretrained=weights, device=self.device)

    def images(self, name: str) -> DatasetLayout | None:
        """Where the images of a set are; None if they are not in ``data``. Looked for once."""
        if name not in self._layouts:
            known = self.sets.get(name) or Dataset(name, title=name)
            self._layouts[name] = locate(self.data, known) if self.data else None
        return self._layouts[name]

    @cached_property
    def _layouts(self) -> dict[str, DatasetLayout | None]:
        return {}


@lru_cache(maxsize=1)
def same_backbone(store: Path, pretrained: str, device: str) -> Backbone:
    """The model that made the features of a store, loaded once for all jobs that follow each other."""
    return load_again(read_fingerprint(store), pretrained=pretrained, device=device)
