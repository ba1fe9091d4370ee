"""Every form that an artefact ever had is read or named; today's is pinned by a golden file."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from artefact_samples import CLASSES, FINGERPRINT, detector, head, prompts, vectors
from safetensors import safe_open

from lsncli.artefacts import files
from lsncli.artefacts.detector import load_detector, save_detector
from lsncli.artefacts.files import (
    FORMS,
    form_of,
    load_checkpoint,
    read_artefact,
    save_checkpoint,
    write_artefact,
)
from lsncli.artefacts.files import KIND as CHECKPOINT
from lsncli.artefacts.heads import NoTower, load_head, load_no_tower, save_head, save_no_tower
from lsncli.artefacts.prompts import load_prompts, save_prompts
from lsncli.errors import LsnError
from lsncli.methods.cache import Cache
from lsncli.prompts.loop import Checkpoint
from lsncli.training.finetune import KIND as TOWER
from lsncli.types import Failure

GOLDEN = Path(__file__).parent / "golden"


@dataclass(frozen=True)
class Sample:
    """How a kind of artefact is written and read."""

    kind: str
    save: Callable[[Path], object]
    load: Callable[[Path], Any]


def save_result(path: Path) -> None:
    Cache(path.parent).put(path.stem, {"scores": vectors(3)}, {"what": "scores"})


def no_tower() -> NoTower:
    weights = {"no-prompts": vectors(2, 3).astype(np.float32)}
    return NoTower(FINGERPRINT, weights, {"epochs": 3}, 7, (Failure("a.jpg", "an empty file"),), (2.0, 1.5))


CHECKPOINTED = Checkpoint({"contexts": torch.arange(6.0).reshape(2, 3)}, (2.5, 0.5))
TUNED = {
    "preprocessing": {"mean": [0.5, 0.25, 0.125]},
    "model": "ViT-B-32",
    "settings": {},
    "classes": CLASSES,
}
SAMPLES = {
    "positive": Sample(
        "positive-prompts",
        lambda path: save_prompts(path, prompts("positive", "cocoop")),
        lambda path: load_prompts(path, "positive"),
    ),
    "negative": Sample(
        "negative-prompts",
        lambda path: save_prompts(path, prompts()),
        lambda path: load_prompts(path, "negative"),
    ),
    "detector": Sample("detector", lambda path: save_detector(path, detector()), load_detector),
    "head": Sample("head", lambda path: save_head(path, head()), lambda path: load_head(path, "linear")),
    "no-tower": Sample("no-tower", lambda path: save_no_tower(path, no_tower()), load_no_tower),
    "checkpoint": Sample(
        CHECKPOINT, lambda path: save_checkpoint(path, {"seed": 1}, CHECKPOINTED), load_checkpoint
    ),
    "result": Sample("result", save_result, lambda path: Cache(path.parent).get(path.stem)),
    "tower": Sample(
        TOWER,
        lambda path: write_artefact(path, TOWER, {"visual.proj": vectors(2, 2).astype(np.float32)}, TUNED),
        lambda path: read_artefact(path, TOWER, ""),
    ),
}
READ = {
    "positive-cocoop-v1": "positive",
    "negative-v1": "negative",
    "detector-v2": "detector",
    "detector-v3": "detector",
    "detector-v4": "detector",
    "linear-head-v1": "head",
}
"""What earlier releases wrote in a form that is read."""
NAMED = {
    "negative-v1-first": "negative",
    "detector-v1-first": "detector",
    "detector-v1": "detector",
    "detector-v2-first": "detector",
}
"""What earlier releases wrote in a form that is not read any more, under numbers that some others have."""


def content(path: Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """The metadata of a file but for its checksum, and the arrays."""
    with safe_open(path, framework="numpy") as file:
        metadata = {key: text for key, text in file.metadata().items() if key != "checksum"}
        return metadata, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def golden(name: str) -> Path:
    return GOLDEN / f"{name}-v{form_of(SAMPLES[name].kind).version}.safetensors"


def test_every_golden_file_is_in_one_of_the_tables() -> None:
    known = {*(golden(name).stem for name in SAMPLES), *READ, *NAMED}
    assert {path.stem for path in GOLDEN.iterdir()} == known
    assert {sample.kind for sample in SAMPLES.values()} >= FORMS.keys()


@pytest.mark.parametrize("name", SAMPLES)
def test_todays_form_is_the_golden_one_or_counts_its_version_up(
    tmp_path: Path, name: str, monkeypatch
) -> None:
    monkeypatch.setattr(files, "__version__", "0.1.0")
    SAMPLES[name].save(tmp_path / "new.safetensors")
    (new, new_arrays), (old, old_arrays) = content(tmp_path / "new.safetensors"), content(golden(name))
    assert new == old
    assert new_arrays.keys() == old_arrays.keys()
    for key, array in old_arrays.items():
        assert new_arrays[key].dtype == array.dtype
        np.testing.assert_allclose(new_arrays[key], array, rtol=1e-6)  # of another processor
    assert SAMPLES[name].load(golden(name)) is not None


@pytest.mark.parametrize("name", READ)
def test_older_forms_are_read(tmp_path: Path, name: str) -> None:
    sample = SAMPLES[READ[name]]
    found = sample.load(GOLDEN / f"{name}.safetensors")
    new = sample.load(golden(READ[name]))
    detector = READ[name] == "detector"
    classes = found.head.classes if detector else found.classes
    assert (found.fingerprint, classes) == (new.fingerprint, CLASSES)
    if detector:  # held-out scores came with version 4, those by class with 5, and all else is as it was
        assert (found.held_out is not None) == (name == "detector-v4")
        assert found.by_class is found.class_thresholds is None
        assert found.threshold == new.threshold


@pytest.mark.parametrize("name", NAMED)
def test_still_older_forms_are_named_and_say_what_to_do(name: str) -> None:
    version = name.split("-v")[1][0]
    with pytest.raises(
        LsnError, match="was written by an older lsn, in a form that is no longer read"
    ) as caught:
        SAMPLES[NAMED[name]].load(GOLDEN / f"{name}.safetensors")
    assert f"format version {version};" in caught.value.message
    assert "damaged" not in str(caught.value)
    assert ("Learn the prompts again" if "negative" in name else "lsn calibrate") in caught.value.hint


@pytest.mark.parametrize("name", SAMPLES)
def test_a_version_without_a_checksum_is_damaged_from_then_on(tmp_path: Path, name: str) -> None:
    data = golden(name).read_bytes()
    assert data.count(b'"checksum"') == 1
    path = tmp_path / "changed.safetensors"
    path.write_bytes(data.replace(b'"checksum"', b'"chekksum"'))
    if name == "result":  # an entry that is damaged is no entry
        assert SAMPLES[name].load(path) is None
        return
    with pytest.raises(LsnError, match="is damaged: it was changed after it was written"):
        SAMPLES[name].load(path)
