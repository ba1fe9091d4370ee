"""``lsn train-pos`` and ``lsn train-neg``: what is asked for on the command line is what is learned."""

import json
from pathlib import Path

import numpy as np
import pytest
from training_samples import QUICK, features_of

from lsncli.artefacts.prompts import LearnedPrompts, load_prompts
from lsncli.prompts import learner, text_features
from lsncli.prompts.loop import run_epoch
from lsncli.prompts.settings import preset
from lsncli.training import checkpoints as resume


@pytest.fixture
def positive(lsn, work):
    """Runs train-pos with some words behind the quick ones: the prompts it wrote."""

    def run(*words: str, quick: list[str] = QUICK) -> LearnedPrompts:
        done = lsn("train-pos", *quick, *words)
        assert done.code == 0, done.err
        return load_prompts(work / "positive.safetensors", "positive")

    return run


@pytest.fixture
def negative(lsn, work, positive):
    """The same for train-neg, after a train-pos."""

    def run(*words: str, quick: list[str] = QUICK) -> LearnedPrompts:
        positive()
        done = lsn("train-neg", *quick, *words)
        assert done.code == 0, done.err
        return load_prompts(work / "negative.safetensors", "negative")

    return run


def test_a_training_is_one_row_of_data_and_remarks_beside_it(lsn, work) -> None:
    done = lsn("train-pos", *QUICK, "--epochs", "3", "--format", "json")
    (row,) = json.loads(done.out)
    prompts = load_prompts(work / "positive.safetensors", "positive")
    about = {"prompts": "positive", "learner": "CoOp", "mode": "best", "classes": 3, "rows": 24, "epochs": 3}
    assert about.items() <= row.items()
    assert (row["first_loss"], row["last_loss"]) == (prompts.history[0], prompts.history[-1])
    assert row["held_out"] == 6
    assert "Detector CoOp + maxlogit: an image is ID if its score is at least gamma" in done.err
    assert "Wrote lsn-work/positive.safetensors and the detector. Next: lsn train-neg" in done.err
    done = lsn("train-neg", *QUICK, "--format", "json")
    (row,) = json.loads(done.out)
    assert (row["prompts"], row["learner"], row["rows"]) == ("negative", "CoOp", 24)
    assert "Next: lsn score" in done.err
    files = {"features.h5", "positive.safetensors", "negative.safetensors", "detector.safetensors"}
    assert {path.name for path in work.iterdir()} == files


def test_quiet_says_nothing(lsn, work) -> None:
    for command in ("train-pos", "train-neg"):
        done = lsn(command, *QUICK, "--quiet")
        assert (done.code, done.err) == (0, "")
        assert done.out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--sets", "2"], {"sets": 2}),
        (["--position", "front"], {"position": "front"}),
        (["--position", "middle"], {"position": "middle"}),
        (["--init", "a photo of a"], {"init": "a photo of a"}),
        (["--tau", "0.5", "--rate", "0.03"], {"tau": 0.5, "rate": 0.03}),
        (["--batch-size", "7", "--seed", "5"], {"batch_size": 7, "seed": 5}),
        (["--schedule", "constant"], {"schedule": "constant"}),
        (["--epochs", "2", "--warmup", "1"], {"epochs": 2, "warmup": 1}),
        (["--precision", "bf16"], {"precision": "bf16"}),
    ],
)
def test_an_option_becomes_a_setting_and_leaves_the_others(positive, words, expected) -> None:
    found = positive(*words).settings
    expected = {"epochs": 1, "length": 4, **expected}
    settings = vars(preset("positive", "best", **expected))
    assert {name: found[name] for name in settings} == settings


def test_without_options_the_presets_hold(lsn, work, positive, monkeypatch) -> None:
    """But for the epochs, which would take long."""
    short = ["--epochs", "1", "--device", "cpu"]
    assert positive(quick=short).settings["mode"] == "best"
    for mode in ("paper", "official", "fast", "best"):
        for kind, command in (("positive", "train-pos"), ("negative", "train-neg")):
            done = lsn(command, *short, "--mode", mode)
            assert done.code == 0, done.err
            found = load_prompts(work / f"{kind}.safetensors", kind).settings
            settings = vars(preset(kind, mode, epochs=1))
            assert {name: found[name] for name in settings} == settings


def test_shots_and_val_fraction_choose_the_rows(positive, lsn) -> None:
    held_out = positive("--shots", "3", "--val-fraction", "0.4").held_out
    assert (held_out.shots, held_out.fraction) == (3, 0.4)
    (row,) = json.loads(lsn("train-neg", *QUICK, "--format", "json").out)
    assert row["rows"] == 9


def test_specific_contexts_with_and_without_names(positive, negative) -> None:
    found = positive("--specific", "--no-names")
    assert found.contexts.shape == (1, 3, 4, 32)
    assert (found.settings["specific"], found.settings["names"]) == (True, False)
    found = negative("--no-names", "--sets", "2")
    assert found.contexts.shape == (2, 3, 4, 32)
    assert found.settings["names"] is False
    assert negative("--shared").contexts.shape == (3, 4, 32)


def test_words_to_start_from_are_where_contexts_start(positive, tiny_backbone) -> None:
    vocabulary = tiny_backbone.text_tower().vocabulary
    words = vocabulary.embed(vocabulary.tokenize("a photo of a")).numpy()
    near = positive("--init", "a photo of a", "--rate", "1e-9").contexts
    np.testing.assert_allclose(near, words[None], atol=1e-6)


def test_orthogonality_and_its_weight(negative) -> None:
    found = negative("--orthogonality", "mean", "--weight", "0.5").settings
    assert (found["orthogonality"], found["weight"], found["mode"]) == ("mean", 0.5, "best")


@pytest.mark.parametrize("mode", ["paper", "official"])
def test_cocoop(positive, negative, lsn, mode: str) -> None:
    short = ["--epochs", "1", "--device", "cpu", "--mode", mode, "--learner", "cocoop"]
    found = positive("--shots", "3", quick=short)
    assert (found.settings["learner"], found.settings["batch_size"]) == ("cocoop", 1)
    assert found.contexts.shape == (1, 4, 32)
    assert found.meta["out.weight"].shape == (1, 32, 2)
    found = negative("--context-length", "2", "--sets", "2", quick=short)
    assert found.contexts.shape == (2, 3, 2, 32)
    assert found.meta["out.weight"].shape == (2, 32, 2)
    assert found.text is None


def test_equal_commands_give_equal_bytes_and_another_seed_does_not(positive, work) -> None:
    found = []
    for words in ([], [], ["--seed", "1"]):
        positive(*words)
        found.append((work / "positive.safetensors").read_bytes())
    assert found[0] == found[1] != found[2]


def test_options_come_from_the_environment_and_the_file_too(positive, negative, monkeypatch) -> None:
    monkeypatch.setenv("LSN_TRAIN_POS_TAU", "0.25")
    Path("lsn.toml").write_text('[train-neg]\nsets = 2\nmode = "official"\nspecific = false\n')
    assert positive().settings["tau"] == 0.25
    found = negative().settings
    assert (found["sets"], found["mode"], found["specific"]) == (2, "official", False)


def test_little_memory_gives_the_same_prompts(lsn, tiny_backbone, tmp_path, monkeypatch) -> None:
    """A hundred classes with contexts of their own in three sets, which are far more than 10 MiB."""
    asked: list[tuple[int, int]] = []

    def bounded(tower, layout, memory):
        asked.append((memory, 3 * tower.activation_bytes(layout)))
        return text_features.bounded(tower, layout, memory)

    monkeypatch.setattr(learner, "bounded", bounded)
    names = [f"class number {i}" for i in range(100)]
    work = features_of(tiny_backbone.fingerprint, tmp_path / "many", names, rows=200)
    words = ["--work", work, "--epochs", "1", "--batch-size", "100", "--device", "cpu", "--kernel", "torch"]
    found = []
    for memory in ("4", "0.01"):
        # SGD, because Adam's first step is the sign of a gradient that may be nothing but rounding.
        assert (
            lsn("train-pos", *words, "--specific", "--sets", "3", "--memory", memory, "--restart").code == 0
        )
        found.append(load_prompts(work / "positive.safetensors", "positive"))
    assert [memory for memory, _ in asked] == [4 << 30, int(0.01 * 2**30)]
    assert all(need > 1.5 * 0.01 * 2**30 for _, need in asked)
    np.testing.assert_allclose(found[0].contexts, found[1].contexts, rtol=0, atol=1e-5)
    np.testing.assert_allclose(found[0].text, found[1].text, rtol=0, atol=1e-5)


def test_an_unfinished_training_goes_on_or_starts_again(lsn, work, monkeypatch) -> None:
    words = ["train-pos", *QUICK, "--epochs", "4"]
    assert lsn(*words).code == 0
    expected = (work / "positive.safetensors").read_bytes()
    monkeypatch.setattr(resume, "SAVE_SECONDS", 0.0)
    epochs = iter(range(10))

    def interrupted(*args: object) -> float:
        if next(epochs) == 2:
            raise KeyboardInterrupt
        return run_epoch(*args)

    monkeypatch.setattr(learner, "run_epoch", interrupted)
    done = lsn(*words, "--restart")
    assert done.code == 130
    assert done.err.startswith("Interrupted. The same command resumes after the last epoch.")
    assert (work / "positive.safetensors").read_bytes() == expected  # that of before
    checkpoint = (work / "positive.unfinished.safetensors").read_bytes()
    done = lsn(*words)
    assert done.err.startswith("Resuming after epoch 2 of 4, from lsn-work/positive.unfinished")
    assert (work / "positive.safetensors").read_bytes() == expected
    (work / "positive.unfinished.safetensors").write_bytes(checkpoint)
    done = lsn(*words, "--restart")
    assert "Resuming" not in done.err
    assert (work / "positive.safetensors").read_bytes() == expected
    assert not (work / "positive.unfinished.safetensors").exists()


def test_help_names_every_choice(lsn) -> None:
    for command in ("train-pos", "train-neg"):
        shown = " ".join(lsn(command, "--help").out.split())
        for words in (
            "best|fast|paper|official",
            "coop|cocoop",
            "end|middle|front",
            "--restart",
            "--no-names",
        ):
            assert words in shown
