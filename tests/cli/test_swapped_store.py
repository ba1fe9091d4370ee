"""A store that is swapped for another model's between two commands: one sentence, and nothing is changed."""

import shutil
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from cli_runner import exit_code
from cli_samples import imported_workspace
from photo_samples import photos
from training_samples import QUICK, features_of

from lsncli.store.reader import read_split
from lsncli.store.writer import write_split

COMMANDS = {
    "train-neg": (["train-neg", *QUICK], 4),
    "calibrate": (["calibrate", "--method", "mcm:positive", "--device", "cpu"], 4),
    "eval": (["eval", "--id", "train", "--ood", "far", "--method", "mcm:positive", "--device", "cpu"], 4),
    "score a split": (["score", "--split", "train", "--device", "cpu"], 4),
    "report": (["report", "--device", "cpu", "--output", "page.html"], 4),
}
UNCONCERNED = {
    "score images": (["score", "images", "--device", "cpu"], 0),
    "verify": (["store", "verify"], 0),
}
"""Commands to which the store is no other than before."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_backbone) -> Path:
    """A workspace in which prompts were learned and a detector calibrated, with images beside it."""

    place = tmp_path_factory.mktemp("swapped")
    work = features_of(tiny_backbone.fingerprint, place / "lsn-work")
    assert exit_code("train-pos", *QUICK, "--work", str(work), "--quiet") == 0
    photos(place / "images", 2)
    return place


def swap(work: Path, other: str, fingerprint) -> bytes:
    """Put another model's store in the place of the workspace's: its bytes."""
    (work / "features.h5").unlink()
    if other == "imported":
        imported_workspace(work)
    else:
        other_model = replace(fingerprint, **{other: "ab" * 32 if other == "weights" else "bf16"})
        features_of(other_model, work)
        train = read_split(work / "features.h5", "train")
        for name in ("test", "far"):
            write_split(work / "features.h5", replace(train, name=name), other_model)
    return (work / "features.h5").read_bytes()


@pytest.mark.parametrize(
    ("name", "other"),
    [*product(COMMANDS, ["weights", "precision", "imported"]), *product(UNCONCERNED, ["imported"])],
)
def test_a_swapped_store_is_noticed(lsn, made, tmp_path, tiny_backbone, name: str, other: str) -> None:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    work = tmp_path / "lsn-work"
    store = swap(work, other, tiny_backbone.fingerprint)
    kept = {path: path.read_bytes() for path in work.glob("*.safetensors")}
    words, code = (COMMANDS | UNCONCERNED)[name]
    done = lsn(*words)
    assert done.code == code, done.err
    assert done.err.count("Error: ") == (code != 0)
    assert "bug in lsn" not in done.err
    assert (work / "features.h5").read_bytes() == store
    assert {path: path.read_bytes() for path in work.glob("*.safetensors")} == kept
    assert not (tmp_path / "page.html").exists()
