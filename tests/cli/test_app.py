"""The program as a whole: help, where options come from, exit codes, and what an error looks like."""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import typer
from cli_samples import imported_workspace
from PIL import Image

from lsncli import __version__
from lsncli.cli import app as app_module
from lsncli.cli.app import app
from lsncli.device import DeviceWarning
from lsncli.errors import LsnError
from lsncli.machine import Processor
from lsncli.store.reader import read_split


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return imported_workspace(tmp_path / "lsn-work")


def commands() -> Iterator[tuple[str, object]]:
    def below(name: str, command) -> Iterator[tuple[str, object]]:
        yield name, command
        for inside, one in getattr(command, "commands", {}).items():
            yield from below(f"{name} {inside}", one)

    yield from below("lsn", typer.main.get_command(app))


COMMANDS = dict(commands())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_every_option_explains_itself(name: str) -> None:
    command = COMMANDS[name]
    assert (command.help or "").strip(), f"{name} has no help"
    for parameter in command.params:
        if parameter.name != "help":
            assert (getattr(parameter, "help", None) or "").strip(), f"{name}: {parameter.name} has no help"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command_fits_100_columns(lsn, name: str) -> None:
    done = lsn(*name.split()[1:], "--help")
    assert done.code == 0
    assert done.err == ""
    assert max(len(line) for line in done.out.splitlines()) <= 100
    assert "…" not in done.out  # nothing was cut off


def test_the_commands_of_the_design_are_there() -> None:
    top = {"demo", "extract", "train-pos", "train-neg", "calibrate", "score", "eval", "methods", "store"}
    assert {name.removeprefix("lsn ") for name in COMMANDS} >= top | {
        f"store {name}" for name in ("info", "verify", "import", "export")
    }


def test_the_version_is_data(lsn) -> None:
    done = lsn("--version")
    assert (done.code, done.out, done.err) == (0, f"lsn {__version__}\n", "")


def test_without_a_command_five_lines_say_how_to_start(lsn) -> None:
    done = lsn()
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert len(lines) == 5
    assert max(map(len, lines)) <= 80
    for words in ("lsn demo", "--classes", "lsn extract", "lsn --help"):
        assert words in done.out


def test_help_lists_every_command_in_a_panel_of_its_stage(lsn) -> None:
    text = lsn("--help").out
    panels = [line.split()[1] for line in text.splitlines() if line.startswith("╭")]
    assert panels == [
        "Examples",
        "Start",
        "Features",
        "Learning",
        "Detecting",
        "Measuring",
        "Looking",
        "Stores",
        "Options",
    ]
    listed = {line.split()[1] for line in text.splitlines() if line.startswith("│ ") and line[2] != " "}
    assert listed >= {name for panel in app_module.COMMANDS.values() for name in panel} | {"store"}


class TestWhereOptionsComeFrom:
    """One option by all four ways: the target TPR of ``lsn calibrate``."""

    VARIABLE = "LSN_CALIBRATE_TARGET_TPR"

    def target(self, lsn, *words: str) -> float:
        done = lsn("calibrate", "--method", "mcm", "--format", "json", *words)
        assert done.code == 0, done.err
        (row,) = json.loads(done.out)
        return row["target_tpr"]

    def test_flag_beats_environment_beats_file_beats_default(self, lsn, work, monkeypatch) -> None:
        assert self.target(lsn) == 0.95
        Path("lsn.toml").write_text("target-tpr = 0.6\n")
        assert self.target(lsn) == 0.6
        Path("lsn.toml").write_text("target-tpr = 0.6\n[calibrate]\ntarget-tpr = 0.7\n")
        assert self.target(lsn) == 0.7
        monkeypatch.setenv(self.VARIABLE, "0.8")
        assert self.target(lsn) == 0.8
        assert self.target(lsn, "--target-tpr", "0.9") == 0.9

    def test_a_file_can_be_named(self, lsn, work) -> None:
        Path("lsn.toml").write_text("[calibrate]\ntarget-tpr = 0.7\n")
        Path("other.toml").write_text('[calibrate]\ntarget-tpr = 0.5\nmethod = "energy"\nformat = "csv"\n')
        done = lsn("--config", "other.toml", "calibrate")
        assert done.code == 0
        assert done.out.splitlines()[1].startswith("energy,hand,")
        assert ",0.5," in done.out

    @pytest.mark.parametrize("value", ["1.5", "0", "1", "-1", "nan", "95"])
    def test_a_value_that_cannot_be_meant_is_refused_from_everywhere(
        self, lsn, work, monkeypatch, value
    ) -> None:
        assert self.refused(lsn, "--target-tpr", value)
        monkeypatch.setenv(self.VARIABLE, value)
        assert self.refused(lsn)
        monkeypatch.delenv(self.VARIABLE)
        Path("lsn.toml").write_text(f"[calibrate]\ntarget-tpr = {value}\n")
        assert self.refused(lsn)
        assert not (work / "detector.safetensors").exists()

    def refused(self, lsn, *words: str) -> bool:
        done = lsn("calibrate", "--method", "mcm", *words)
        return done.code == 2 and "--target-tpr: expected a fraction above 0 and below 1" in done.err

    def test_a_value_of_another_kind_is_refused_and_the_option_named(self, lsn, work, monkeypatch) -> None:
        for prepare in (
            lambda: monkeypatch.setenv(self.VARIABLE, "most"),
            lambda: Path("lsn.toml").write_text('[calibrate]\ntarget-tpr = "most"\n'),
        ):
            prepare()
            done = lsn("calibrate", "--method", "mcm")
            monkeypatch.delenv(self.VARIABLE, raising=False)
            assert (done.code, done.out) == (2, "")
            assert "--target-tpr" in done.err

    def test_an_unknown_name_in_the_file_is_an_error_for_every_command(self, lsn, work) -> None:
        Path("lsn.toml").write_text("[calibrate]\ntarget = 0.7\n")
        done = lsn("methods")
        assert done.code == 2
        assert "lsn.toml: [calibrate] has no option 'target'." in done.err
        assert "target-tpr" in done.err

    def test_the_workspace_can_come_from_the_environment(self, lsn, work, monkeypatch) -> None:
        work.rename("elsewhere")
        assert lsn("store", "info").code == 1
        monkeypatch.setenv("LSN_WORK", "elsewhere")
        assert lsn("store", "info").code == 0


class TestExitCodes:
    """0 to 5, each by a real situation; 130 is in test_kills.py."""

    def test_0_when_all_is_well(self, lsn, work) -> None:
        assert lsn("store", "verify").code == 0

    def test_1_for_bad_data(self, lsn, work) -> None:
        path = work / "features.h5"
        path.write_bytes(path.read_bytes()[:1000])
        done = lsn("store", "info")
        assert (done.code, done.out) == (1, "")
        assert "features.h5" in done.err

    def test_1_for_a_store_that_is_not_there(self, lsn, tmp_path) -> None:
        done = lsn("store", "verify", "--work", "nowhere")
        assert done.code == 1
        assert done.err == (
            "Error: There is no feature store at nowhere/features.h5.\n"
            "Make one with `lsn extract FOLDER`, or give --work.\n"
        )

    @pytest.mark.parametrize(
        "words",
        [
            ["fly"],
            ["score"],
            ["eval", "--wings", "2"],
            ["eval", "--method", "nope"],
            ["eval", "--format", "xml"],
            ["score", "nowhere.jpg"],
            ["score", "x.jpg", "--batch-size", "-1"],
            ["extract", "nowhere"],
        ],
    )
    def test_2_for_what_cannot_be_meant(self, lsn, work, words) -> None:
        assert lsn("calibrate", "--method", "mcm", "-q").code == 0
        done = lsn(*words)
        assert (done.code, done.out) == (2, "")
        assert done.err

    def test_3_when_too_many_images_fail(self, lsn, work, tiny_model) -> None:
        Path("photos/a").mkdir(parents=True)
        Image.fromarray(np.full((40, 40, 3), 90, np.uint8)).save("photos/a/good.png")
        Path("photos/a/bad.png").write_bytes(b"")
        words = ["extract", "photos", "--work", "other", "--model", tiny_model, "--device", "cpu"]
        done = lsn(*words)
        assert done.code == 3
        assert "1 of 2 images failed" in done.err
        assert "a/bad.png: an empty file" in done.err
        assert lsn(*words, "--max-failure-rate", "0.5").code == 0

    def test_4_for_features_of_another_model(self, lsn, work, tiny_model) -> None:
        Path("photos").mkdir()
        Image.fromarray(np.full((40, 40, 3), 90, np.uint8)).save("photos/good.png")
        done = lsn("extract", "photos", "--model", tiny_model, "--device", "cpu", "--split", "new")
        assert done.code == 4
        assert "holds features of imported:theirs" in done.err
        assert lsn("calibrate", "--method", "mcm").code == 0
        done = lsn("score", "photos")
        assert done.code == 4
        assert "imported:theirs" in done.err

    def test_4_for_another_precision_which_is_never_ignored(self, lsn, tiny_model, monkeypatch) -> None:
        monkeypatch.setattr("lsncli.device.processor", lambda: Processor("any", frozenset()))
        Path("photos").mkdir()
        Image.fromarray(np.full((40, 40, 3), 90, np.uint8)).save("photos/good.png")
        words = ["extract", "photos", "--device", "cpu", "-q", "--split"]
        assert lsn(*words, "a", "--model", tiny_model, "--precision", "bf16").code == 0
        assert lsn(*words, "b").code == 0  # model and precision are the store's
        assert lsn(*words, "c", "--model", tiny_model).code == 0
        done = lsn(*words, "d", "--precision", "fp32")
        assert done.code == 4
        assert "bf16" in done.err
        assert "fp32" in done.err

    def test_5_for_a_device_or_weights_that_are_not_here(self, lsn, work, tiny_model, monkeypatch) -> None:
        import torch

        monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
        Path("photo.png").write_bytes(b"")
        done = lsn("extract", "photo.png", "--work", "o", "--model", tiny_model, "--device", "cuda")
        assert done.code == 5
        assert "--device cpu" in done.err
        done = lsn(
            *("extract", "photo.png", "--work", "o", "--model", tiny_model),
            *("--device", "cpu", "--precision", "tf32"),
        )
        assert (done.code, "--precision tf32 needs a CUDA device" in done.err) == (5, True)
        assert not Path("o").exists()
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(work))
        done = lsn("extract", "photo.png", "--work", "o")
        assert done.code == 5
        assert "--model mini" in done.err


class TestErrors:
    """One sentence and what to do next; a traceback for those who ask."""

    @pytest.fixture(autouse=True)
    def imported(self) -> None:
        """Import what takes ``list_splits`` by name, so that none keeps one that a test replaced."""
        import lsncli.evaluation.evaluate  # noqa: F401

    @pytest.fixture
    def broken(self, monkeypatch) -> None:
        def explode(*_: object, **__: object) -> None:
            raise ZeroDivisionError("by zero \x1b[31m\n[bold]")

        monkeypatch.setattr("lsncli.store.reader.list_splits", explode)

    def test_what_the_system_refuses_is_named_and_no_bug(self, lsn, work, monkeypatch) -> None:
        def locked(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied", "their/features.h5")

        monkeypatch.setattr("lsncli.store.reader.list_splits", locked)
        done = lsn("store", "info", "-q")
        assert (done.code, done.err) == (1, "Error: their/features.h5 cannot be used: Permission denied.\n")

    def test_a_gpu_that_cannot_be_used_is_a_remark(self, lsn, work, monkeypatch) -> None:
        def old(*_: object, **__: object) -> NoReturn:
            warnings.simplefilter("default", DeviceWarning)  # pytest restores the filters
            warnings.warn("The GPU is not used: its driver is old.", DeviceWarning, stacklevel=1)
            raise LsnError("This is the end.")

        monkeypatch.setattr("lsncli.store.reader.list_splits", old)
        shown = warnings.showwarning
        done = lsn("store", "info", "-q")
        assert done.err == "Warning: The GPU is not used: its driver is old.\nError: This is the end.\n"
        assert warnings.showwarning is shown

    def test_no_memory_is_no_bug(self, lsn, work, monkeypatch) -> None:
        def full(*_: object, **__: object) -> NoReturn:
            raise MemoryError("Unable to allocate 8 EiB")

        monkeypatch.setattr("lsncli.store.reader.list_splits", full)
        done = lsn("store", "info", "-q")
        assert done.code == 1
        assert done.err.startswith(
            "Error: There is not enough memory: Unable to allocate 8 EiB.\nUse a smaller"
        )
        assert "bug" not in done.err

    def test_an_unexpected_exception_becomes_a_sentence(self, lsn, work, broken) -> None:
        done = lsn("store", "info", "-q")
        assert (done.code, done.out) == (1, "")
        assert done.err == (
            "Error: Unexpected ZeroDivisionError: by zero \\x1b[31m\\n[bold]\n"
            "This is a bug in lsn; see --debug.\n"
        )

    def test_debug_shows_where_and_changes_no_exit_code(self, lsn, work, broken) -> None:
        done = lsn("--debug", "store", "info")
        assert done.code == 1
        assert "Traceback (most recent call last)" in done.err
        assert "in explode" in done.err
        done = lsn("--debug", "eval", "--method", "nope")
        assert done.code == 2
        assert "Traceback" in done.err
        assert "There is no score 'nope'" in done.err

    def test_no_traceback_without_debug(self, lsn, work) -> None:
        (work / "detector.safetensors").write_text("nonsense")
        Path("photo.jpg").write_text("nonsense")
        for words in (
            ["score", "photo.jpg"],
            ["train-neg"],
            ["train-pos"],
            ["eval", "--id", "nope"],
            ["calibrate", "--split", "far", "--method", "mcm"],
            ["store", "export", "out.xyz"],
            ["store", "import", "nothing.npy", "--model", "x"],
        ):
            done = lsn(*words)
            assert done.code in (1, 2, 4), words
            assert "Traceback" not in done.err
            assert done.err.startswith("Error: "), words
            assert "Unexpected" not in done.err
            assert done.out == ""

    def test_an_output_that_is_not_utf8_gets_escapes(self, lsn, work, monkeypatch) -> None:
        import io
        import sys

        pipe = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
        monkeypatch.setattr(sys, "stdout", pipe)
        done = lsn("eval", "--method", "mcm", "--format", "md")
        assert done.code == 0, done.err
        pipe.seek(0)
        assert "FPR95\\u2193" in pipe.read()


def test_a_configuration_cannot_say_yes_to_moving_files(lsn, work: Path, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lsn.toml").write_text("[score]\nyes = true\n")
    done = lsn("score", "images", "--move", "sorted")
    assert done.code == 2
    assert "[score] has no option 'yes'" in done.err


def test_a_damaged_store_is_refused_and_no_verify_reads_it(lsn, work: Path) -> None:
    store = work / "features.h5"
    sound = lsn("eval", "--work", work, "--method", "mcm", "--format", "json")
    features = read_split(store, "test").features.tobytes()
    before, found, after = store.read_bytes().rpartition(features)
    assert found
    store.write_bytes(before + features[:1] + bytes([features[1] ^ 0x80]) + features[2:] + after)
    done = lsn("eval", "--work", work, "--method", "mcm")
    assert (done.code, done.out) == (1, "")
    assert "split 'test': the checksum does not match: the rows were changed" in done.err
    assert "lsn --no-verify" in done.err
    assert "the checksum does not match: the rows were changed" in lsn("store", "verify", "--work", work).err
    read = lsn("--no-verify", "eval", "--work", work, "--method", "mcm", "--format", "json")
    assert read.code == 0
    assert read.out != sound.out
    assert lsn("--no-verify", "store", "verify", "--work", work).code == 1  # it is there to tell
    assert lsn("eval", "--work", work, "--method", "mcm").code == 1
