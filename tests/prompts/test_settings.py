"""The presets hold the published settings, and an invalid value is a sentence."""

import json
import math
import re
from dataclasses import asdict, replace

import pytest

from lsncli.errors import UsageError
from lsncli.prompts.settings import MODES, PRESETS, preset

KINDS = ("positive", "negative")


def test_positive_prompts_of_the_paper_are_appendix_d() -> None:
    found = preset("positive")
    assert (found.kind, found.mode, found.learner) == ("positive", "paper", "coop")
    assert (found.sets, found.specific, found.names, found.position) == (1, False, True, "end")
    assert (found.length, found.init) == (16, "")
    assert (found.tau, found.double_softmax) == (0.01, False)
    assert (found.optimizer, found.rate) == ("sgd", 0.002)
    assert (found.momentum, found.weight_decay) == (0.9, 5e-4)  # CoOp's own
    assert (found.schedule, found.warmup) == ("cosine", 0)
    assert (found.epochs, found.batch_size) == (50, 8)
    assert found.score == {}


def test_negative_prompts_of_the_paper_are_appendix_d() -> None:
    found = preset("negative")
    assert (found.kind, found.mode, found.learner) == ("negative", "paper", "coop")
    assert (found.sets, found.specific, found.names, found.position) == (3, True, True, "end")
    assert (found.length, found.init) == (16, "")
    assert (found.tau, found.double_softmax) == (0.05, False)
    assert (found.weight, found.orthogonality, found.turns) == (0.1, "sum", False)
    assert (found.optimizer, found.rate) == ("adam", 0.001)
    assert (found.epochs, found.batch_size) == (100, 8)
    assert found.score == {}


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("positive", {"double_softmax": True, "rate": 0.001}),
        (
            "negative",
            {
                "double_softmax": True,
                "rate": 0.002,
                "weight": 1.0,
                "orthogonality": "signed",
                "turns": True,
                "score": {"form": "official"},
            },
        ),
    ],
)
def test_official_differs_from_the_paper_where_the_code_does(kind, changes) -> None:
    assert preset(kind, "official") == replace(preset(kind), mode="official", **changes)


@pytest.mark.parametrize("mode", ["paper", "official"])
def test_cocoop_is_ten_epochs_of_single_images(mode: str) -> None:
    for kind, length in (("positive", 4), ("negative", 16)):
        found = preset(kind, mode, "cocoop")
        expected = replace(preset(kind, mode), learner="cocoop", length=length, epochs=10, batch_size=1)
        assert found == expected


@pytest.mark.parametrize("kind", KINDS)
def test_every_mode_is_a_preset_of_both_kinds_and_stands_its_own_test(kind) -> None:
    assert tuple(PRESETS[kind]) == MODES == ("paper", "official", "fast", "best")
    for mode in MODES:
        for learner in ("coop", "cocoop"):
            found = preset(kind, mode, learner)
            assert (found.kind, found.mode, found.learner) == (kind, mode, learner)
            assert found.precision == "fp32"
            assert found.seed == 0


def test_a_given_value_wins_and_none_is_not_given() -> None:
    found = preset("negative", "official", epochs=3, rate=None, weight=0.0, names=False, turns=False)
    changes = {"epochs": 3, "weight": 0.0, "names": False, "turns": False}
    assert found == replace(preset("negative", "official"), **changes)
    assert preset("positive", learner="cocoop", length=7, batch_size=2).length == 7


def test_settings_are_plain_values_that_an_artefact_can_hold() -> None:
    for kind in KINDS:
        for mode in MODES:
            fields = asdict(preset(kind, mode))
            assert json.loads(json.dumps(fields)) == fields


ABOVE, ZERO = "expected a number above zero", "expected zero or a number above it"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mode": "fancy"}, "--mode: expected one of paper, official, fast, best, found 'fancy'."),
        ({"learner": "maple"}, "--learner: expected one of coop, cocoop, found 'maple'."),
        ({"position": "top"}, "--position: expected one of end, middle, front, found 'top'."),
        ({"orthogonality": "max"}, "--orthogonality: expected one of sum, mean, signed, found 'max'."),
        ({"optimizer": "lbfgs"}, "--optimizer: expected one of sgd, adam, found 'lbfgs'."),
        ({"schedule": "step"}, "--schedule: expected one of cosine, constant, found 'step'."),
        ({"precision": "fp8"}, "--precision: expected one of fp32, bf16, fp16, found 'fp8'."),
        ({"length": 0}, f"--context-length: {ABOVE}, found 0."),
        ({"epochs": -1}, f"--epochs: {ABOVE}, found -1."),
        ({"batch_size": 0}, f"--batch-size: {ABOVE}, found 0."),
        ({"rate": 0.0}, f"--rate: {ABOVE}, found 0.0."),
        ({"rate": math.nan}, f"--rate: {ABOVE}, found nan."),
        ({"rate": math.inf}, f"--rate: {ABOVE}, found inf."),
        ({"sets": 0}, f"--sets: {ABOVE}, found 0."),
        ({"tau": -0.1}, f"--tau: {ABOVE}, found -0.1."),
        ({"weight": -1.0}, f"--weight: {ZERO}, found -1.0."),
        ({"weight": math.nan}, f"--weight: {ZERO}, found nan."),
        ({"warmup": -1}, f"--warmup: {ZERO}, found -1."),
        ({"warmup": 5, "epochs": 5}, "--warmup: expected fewer than the 5 epochs, found 5."),
        ({"weight_decay": -1e-4}, f"--weight-decay: {ZERO}, found -0.0001."),
        ({"momentum": -0.9}, f"--momentum: {ZERO}, found -0.9."),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_value_that_cannot_be_meant_is_a_sentence(kind, given: dict, message: str) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$") as caught:
        preset(kind, **given)
    assert caught.value.exit_code == 2
