"""``lsn train-head --kind dualcoop``."""

import json

import pytest

from lsncli.artefacts.heads import load_head
from lsncli.prompts import learner
from lsncli.prompts.loop import run_epoch
from lsncli.training import checkpoints as resume

WORDS = ["train-head", "--kind", "dualcoop", "--device", "cpu"]


def test_a_pair_of_prompts_becomes_a_head(lsn, work) -> None:
    done = lsn(
        *WORDS, "--epochs", "2", "--batch-size", "8", "--rate", "0.01", "--seed", "3", "--format", "json"
    )
    assert done.code == 0, done.err
    (row,) = json.loads(done.out)
    assert {"head": "dualcoop", "classes": 3, "rows": 24, "c": None, "held_out": 6}.items() <= row.items()
    head = load_head(work / "dualcoop.head.safetensors", "dualcoop")
    assert (row["first_loss"], row["last_loss"]) == head.history
    asked = {"epochs": 2, "batch_size": 8, "rate": 0.01, "seed": 3, "length": 16, "gamma_neg": 2.0}
    assert asked.items() <= head.settings.items()
    assert "Next: lsn calibrate --method dualcoop" in done.err
    done = lsn("calibrate", "--method", "dualcoop")
    assert (done.code, "Detector DualCoOp" in done.err) == (0, True)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["photos"], "SOURCE"),
        (["--c", "1"], "--c"),
        (["--tune", "all"], "--tune"),
        (["--loss", "ce"], "--loss"),
    ],
)
def test_what_is_for_other_heads_is_refused(lsn, work, words, named) -> None:
    done = lsn(*WORDS, *words)
    assert done.code == 2
    assert f"{named} is not for it" in done.err


def test_an_interrupted_training_goes_on(lsn, work, monkeypatch) -> None:
    words = [*WORDS, "--epochs", "3"]
    monkeypatch.setattr(resume, "SAVE_SECONDS", 0.0)
    epochs = iter(range(10))

    def interrupted(*args: object) -> float:
        if next(epochs) == 1:
            raise KeyboardInterrupt
        return run_epoch(*args)

    monkeypatch.setattr(learner, "run_epoch", interrupted)
    done = lsn(*words)
    assert done.code == 130
    assert "Interrupted. The same command resumes after the last epoch." in done.err
    done = lsn(*words)
    assert done.code == 0
    assert "Resuming after epoch 1 of 3" in done.err
