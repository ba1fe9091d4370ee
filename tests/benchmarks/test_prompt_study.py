"""The studies behind the presets: what they look at, and what they write."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.accuracy import prompt_study
from benchmarks.accuracy.prompt_study import (
    COLUMNS,
    fast_candidates,
    finalists,
    loss_candidates,
    preset_candidates,
    validation_places,
)
from benchmarks.accuracy.prompt_study import (
    test_places as places_of_tests,
)
from lsncli.prompts.settings import preset
from lsncli.scores import load_score


def test_settings_are_chosen_on_validation_folds_alone() -> None:
    for stage in ("fast", "losses", "choose"):
        assert all(place.fold is not None for place in validation_places(2, COLUMNS[stage]))
    assert all(place.fold is None for place in places_of_tests(2, 1, COLUMNS["confirm"]))


@pytest.mark.parametrize("made", [fast_candidates, loss_candidates, finalists, preset_candidates])
def test_no_two_candidates_are_the_same(made) -> None:
    found = made()
    assert len({name for name, _, _ in found}) == len(found)
    settings = [
        (yes and replace(yes, mode="paper"), no and replace(no, mode="paper")) for _, yes, no in found
    ]
    assert len({str(pair) for pair in settings}) == len(found)


def test_every_candidate_of_losses_changes_something_of_the_fast_preset() -> None:
    base = (preset("positive", "fast"), preset("negative", "fast"))
    assert [name for name, yes, no in loss_candidates() if (yes, no) == base] == ["paper's loss"]


def test_every_method_exists() -> None:
    for name, settings in (
        *prompt_study.LSN,
        *prompt_study.NO,
        *prompt_study.own_methods(preset("negative")),
    ):
        load_score(name, **settings)


def test_a_stage_runs_from_end_to_end(bench: Path, monkeypatch, capsys) -> None:
    quick = {"epochs": 1, "batch_size": 16, "length": 2}
    pair = (preset("positive", **quick), preset("negative", **quick))
    monkeypatch.setattr(prompt_study, "finalists", lambda: [("one", *pair), ("two", None, pair[1])])
    output = bench / "out.json"
    options = ["choose", "--seeds", "2", "--jobs", "1", "--columns", "cifar10", "--cache", str(bench)]
    monkeypatch.setattr("sys.argv", ["prompt_study", *options, "--output", str(output)])
    prompt_study.main()
    [result] = json.loads(output.read_text()).values()
    assert list(result["rows"]) == ["one", "two"]
    assert (result["seeds"], result["places"]) == (2, ["cifar10, split 0"])
    for row in result["rows"].values():
        for method in ("mcm", "lsn,form=paper,tau=1.0,tau_bar=5.0"):
            assert len(row[method]["cifar10"]["auroc"]) == len(row[method]["mean"]["fpr95"]) == 2
            assert all(0 <= value <= 100 for value in row[method]["mean"]["auroc"])
    assert result["rows"]["one"]["mcm"] != result["rows"]["two"]["mcm"]
    assert "two" in capsys.readouterr().out
