"""docs/add-a-score.md is true: its method, added as it says, is listed, evaluated, calibrated and scores."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from cli_runner import exit_code

from lsncli.artefacts.detector import load_detector
from lsncli.detection.calibrate import make_detector
from lsncli.evaluation.evaluate import choose_splits, evaluate, plan_evaluation
from lsncli.methods.spec import parse_method
from lsncli.methods.workspace import Workspace
from lsncli.scores import SCORES, load_score
from lsncli.store.format import Split
from lsncli.store.writer import write_split
from lsncli.types import unit

PAGE = (Path(__file__).parents[1] / "docs" / "add-a-score.md").read_text(encoding="utf-8")


@pytest.fixture
def added(tmp_path, monkeypatch) -> str:
    """Steps 1 and 2 of the page; returns the name of the method."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (name, place) = re.search(r'`"(\w+)": "([\w.:]+)"`', PAGE).groups()
    package, _, attribute = place.partition(":")
    module = package.rpartition(".")[2]
    assert f"`lsncli/scores/{module}.py`" in PAGE
    (tmp_path / f"{module}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(SCORES, name, f"{module}:{attribute}")
    return name


@pytest.fixture
def work(tmp_path, tiny_backbone) -> Workspace:
    made = Workspace(tmp_path / "work")
    made.folder.mkdir()
    random = np.random.default_rng(0)
    centres = random.normal(size=(2, 32))
    for name, rows, classes in (("train", 40, ("cat", "dog")), ("test", 20, ("cat", "dog")), ("far", 30, ())):
        labels = np.arange(rows, dtype=np.int32) % 2 if classes else np.full(rows, -1, np.int32)
        near = centres[labels] if classes else 0
        features = (near + 0.3 * random.normal(size=(rows, 32))).astype(np.float16)
        keys = tuple(f"{name}/{row}.jpg" for row in range(rows))
        write_split(made.features, Split(name, features, labels, keys, classes), tiny_backbone.fingerprint)
    return made


def test_the_method_of_the_page_is_compared_with_others(added, work, tiny_backbone) -> None:
    inside, outside = choose_splits(work, "test", (), "train")
    methods = [parse_method(f"{added},power=2"), parse_method("mcm")]
    plan = plan_evaluation(work, methods, inside, outside, "train", model=lambda: tiny_backbone)
    found = evaluate(plan)
    assert found.failed == ()
    assert found.ranked()[0].label == f"{added},power=2.0"
    assert found.ranked()[0].metrics.auroc > 0.99


def test_the_method_of_the_page_makes_a_detector(added, work, tiny_backbone) -> None:
    make_detector(work, parse_method(added), model=lambda: tiny_backbone)
    detector = load_detector(work.detector)
    scorer = load_score(detector.method, **detector.settings).scorer(None, detector.learned)
    probe = np.random.default_rng(1).normal(size=(5, 32))
    means = detector.learned["means"]
    expected = [-min(np.linalg.norm(row - mean) for mean in means) for row in unit(probe)]
    np.testing.assert_allclose(scorer(probe), expected)


def test_the_method_of_the_page_is_listed(added, capsys) -> None:
    assert exit_code("methods", "--format", "json") == 0
    (row,) = [row for row in json.loads(capsys.readouterr().out) if row["name"] == added]
    assert "labelled training rows" in row["needs"]
    assert "power=1.0" in row["settings"]
