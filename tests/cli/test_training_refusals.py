"""What the training commands refuse: exit code 2 for invalid options, 1 for what cannot be learned."""

import pytest
from training_samples import QUICK


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--epochs", "0"], "--epochs: expected a number above zero, found 0."),
        (["--rate", "nan"], "--rate: expected a number above zero, found nan."),
        (["--tau", "-1"], "--tau: expected a number above zero, found -1.0."),
        (["--sets", "0"], "--sets: expected a number above zero, found 0."),
        (["--context-length", "0"], "--context-length: expected a number above zero, found 0."),
        (["--batch-size", "-8"], "--batch-size: expected a number above zero, found -8."),
        (["--weight", "-1"], "--weight: expected zero or a number above it, found -1.0."),
        (["--epochs", "3", "--warmup", "3"], "--warmup: expected fewer than the 3 epochs, found 3."),
        (["--no-names"], "Prompts without class names need a context of their own for every class."),
        (["--init", "a photo"], "--init 'a photo' is 2 tokens, but the context has 4 vectors."),
        (["--val-fraction", "1.5"], "--val-fraction: expected a fraction between 0 and 1, found 1.5."),
        (["--shots", "0"], "--shots: expected at least 1, found 0."),
        (["--target-tpr", "95"], "--target-tpr: expected a fraction above 0 and below 1, found 95.0."),
    ],
)
def test_a_bad_value_exits_with_2_and_one_sentence(lsn, work, words, sentence) -> None:
    done = lsn("train-pos", *QUICK, *words)
    assert (done.code, done.out) == (2, "")
    lines = done.err.splitlines()
    assert lines[0] == f"Error: {sentence}"
    assert len(lines) <= 2  # and what to do
    assert [path.name for path in work.iterdir()] == ["features.h5"]


@pytest.mark.parametrize(
    "words",
    [
        ["--mode", "fancy"],
        ["--learner", "maple"],
        ["--position", "top"],
        ["--orthogonality", "max"],
        ["--kernel", "mkl"],
        ["--precision", "fp8"],
        ["--schedule", "step"],
        ["--memory", "-1"],
        ["--epochs", "many"],
    ],
)
@pytest.mark.parametrize("command", ["train-pos", "train-neg"])
def test_a_name_or_a_number_that_does_not_exist_exits_with_2(lsn, work, command, words) -> None:
    done = lsn(command, *QUICK, *words)
    assert (done.code, done.out) == (2, "")
    assert words[0] in done.err
    assert "Traceback" not in done.err


def test_what_cannot_be_learned_is_a_sentence(lsn, work) -> None:
    for words, sentence in (
        (
            ["train-neg", *QUICK],
            "Error: There is no positive-prompts artefact at lsn-work/positive.safetensors.",
        ),
        (
            ["train-pos", *QUICK, "--context-length", "40"],
            "Error: Text tower: a context of 40 with class 'cat' needs 44 tokens, but it reads at most 40.",
        ),
        (
            ["train-pos", *QUICK, "--rate", "1e30", "--epochs", "9"],
            "Error: Training diverged: the loss became ",
        ),
        (["train-pos", *QUICK, "--split", "none"], "Error: "),
    ):
        done = lsn(*words)
        assert (done.code, done.out) == (1, "")
        assert done.err.startswith(sentence)
        assert "Traceback" not in done.err
