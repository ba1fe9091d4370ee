"""Installed packages add scores and backbones by entry points."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lsncli import registry
from lsncli.backbones import load_backbone
from lsncli.errors import LsnError
from lsncli.store.format import Split
from lsncli.store.writer import write_split

CODE = '''
from dataclasses import dataclass

import numpy as np

from lsncli.scores.score import Score


@dataclass(frozen=True)
class Norm(Score):
    """The length of the feature."""

    PROMPTS = False

    def scorer(self, head, learned, device="cpu"):
        """Lengths of raw features."""
        return lambda features: FACTOR * np.linalg.norm(np.asarray(features, dtype=np.float64), axis=1)


FACTOR = 1.0


def load(model, pretrained, device, precision):
    raise SystemExit(f"the backbone of {model}")
'''
POINTS = "[lsncli.scores]\nnorm = tiny:Norm\n\n[lsncli.backbones]\ntiny = tiny:load\n"


def install(place: Path, points: str = POINTS, name: str = "tiny") -> Path:
    """What pip leaves behind of a package of one module."""
    about = place / f"{name}-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(points)
    (place / "tiny.py").write_text(CODE)
    return place


def lsn(place: Path, *words: object) -> subprocess.CompletedProcess[str]:
    code = f"import sys; sys.path.insert(0, {str(place)!r}); from lsncli.cli.app import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=False
    )


def test_an_added_score_is_a_method_and_its_results_depend_on_its_code(tmp_path: Path) -> None:
    place, work = install(tmp_path / "site"), tmp_path / "work"
    of_model = load_backbone("mini").fingerprint
    for number, name in enumerate(("train", "test", "far")):
        rows = np.random.default_rng(number).normal(size=(30, of_model.dim)).astype(np.float16)
        labels, keys = np.arange(30, dtype=np.int32) % 3, tuple(map(str, range(30)))
        write_split(work / "features.h5", Split(name, rows, labels, keys, ("a", "b", "c")), of_model)
    eval_ = ["eval", "--id", "test", "--ood", "far", "--method", "norm", "--work", work, "--format", "jsonl"]
    first = lsn(place, *eval_)
    assert first.returncode == 0, first.stderr
    (row,) = map(json.loads, first.stdout.splitlines())
    assert row["method"] == "norm"
    (place / "tiny.py").write_text(CODE.replace("FACTOR = 1.0", "FACTOR = -1.0"))
    (other,) = map(json.loads, lsn(place, *eval_).stdout.splitlines())
    assert other["auroc"] == pytest.approx(1 - row["auroc"])


def test_an_added_backbone_is_listed_and_loaded(tmp_path: Path) -> None:
    place = install(tmp_path / "site")
    assert "Added by the installed package tiny." in lsn(place, "models").stderr
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(b"")
    asked = lsn(place, "extract", tmp_path / "images", "--model", "tiny", "--work", tmp_path / "work")
    assert "the backbone of tiny" in asked.stderr


def test_a_name_that_is_taken_is_an_error_that_says_whose_it_is(tmp_path: Path) -> None:
    place = install(tmp_path / "site", "[lsncli.scores]\nmcm = tiny:Norm\n")
    done = lsn(place, "methods")
    assert done.returncode == 1
    assert "The installed package tiny adds 'mcm' to lsncli.scores, where it is already." in done.stderr


def test_what_cannot_be_imported_is_named() -> None:
    with pytest.raises(LsnError, match=r"'nowhere:Score', which an installed package adds"):
        registry.load("nowhere:Score")
