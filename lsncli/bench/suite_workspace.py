"""The workspaces of a suite: one per model, with features, learned files, results and timings."""

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
    """The workspace of a row: only the prompts and heads in ``files``, by kind, whatever the folder holds.

    Heads that no row learns, such as an imported one of CLIPN, come from the folder.
    """

    files: Mapping[str, Path] = field(default_factory=dict)
    words: str = ""
    """Digest of the word list of the candidates; empty if the user supplied the candidates."""

    def prompts(self, kind: str) -> Path:
        """Return the path of the row's prompts."""
        return self.files.get(kind, learned_file(self, f"no-{kind}"))

    def head(self, kind: str) -> Path:
        """Return the path of the row's head, else of the workspace's."""
        return self.files.get(kind) or super().head(kind)

    def checkpoint(self, kind: str) -> Path:
        """Return a path beside the result, so that trainings of other rows do not share it."""
        return self.files[kind].with_suffix(".unfinished.safetensors")

    def candidates(self, split: str) -> Path:
        """Return the path of the candidates of the whole set of a split."""
        path = super().candidates(split.partition("@")[0])
        return path.parent / self.words / path.name


def learned_file(work: Workspace, key: str) -> Path:
    """Return the path of the prompts or head with this key."""
    return work.folder / "learned" / f"{key}.safetensors"


@dataclass(frozen=True)
class SuiteWorkspace:
    """Features are in ``<work>/bench/<suite>/<model>/features.h5``, learned files beside them."""

    work: Path
    suite: str
    model: str
    """As for ``lsn extract --model``; a row of a table may name another model."""
    data: Path | None = None
    """Folder of the images, if any."""
    pretrained: str = ""
    """Weights of ``model``; empty for its default."""
    device: str = "auto"
    batch_size: int = 16
    workers: int = 1
    bundle: Path | None = None
    """A store that came with the suite: features by ``model``."""
    sets: Mapping[str, Dataset] = field(default_factory=dict)
    """The image sets of the suite by name."""

    @property
    def results(self) -> Results:
        """The results of the suite."""
        return Results(self.work / "results" / f"{self.suite}.jsonl")

    @property
    def timings(self) -> Results:
        """The times of finished jobs."""
        return Results(self.work / "bench" / self.suite / "timings.jsonl")

    def workspace(self, model: str) -> RowWorkspace:
        """Return the workspace of a model; the suite's model for an empty name."""
        return RowWorkspace(
            self.work / "bench" / self.suite / re.sub(r"[^A-Za-z0-9._-]+", "-", model or self.model)
        )

    @cached_property
    def bundled(self) -> Mapping[str, SplitInfo]:
        """The sets of ``bundle``. Raises LsnError if it cannot be read."""
        return list_splits(self.bundle) if self.bundle else {}

    def weights(self, model: str) -> str:
        """Return ``pretrained`` for the model of the suite, else ""."""
        return self.pretrained if model in ("", self.model) else ""

    def backbone(self, model: str) -> Backbone:
        """Load a model. If there are features, it must be the model that made them.

        Raises as ``load_backbone`` and ``load_again`` do.
        """
        store, weights = self.workspace(model).features, self.weights(model)
        if store.is_file():
            return same_backbone(store, weights, self.device)
        return load_backbone(model or self.model, pretrained=weights, device=self.device)

    def images(self, name: str) -> DatasetLayout | None:
        """Return the layout of a set below ``data``, or None; each set is searched once."""
        if name not in self._layouts:
            known = self.sets.get(name) or Dataset(name, title=name)
            self._layouts[name] = locate(self.data, known) if self.data else None
        return self._layouts[name]

    @cached_property
    def _layouts(self) -> dict[str, DatasetLayout | None]:
        return {}


@lru_cache(maxsize=1)
def same_backbone(store: Path, pretrained: str, device: str) -> Backbone:
    """Return the model that made the features of a store, loaded once for consecutive jobs."""
    return load_again(read_fingerprint(store), pretrained=pretrained, device=device)
