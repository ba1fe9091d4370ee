"""``--verbose``: stage seconds, fingerprints and settings of methods are details."""

import json
from pathlib import Path

import numpy as np
import pytest
from cli_runner import exit_code
from cli_samples import imported_workspace
from PIL import Image

from lsncli import console
from lsncli.cli.evaluate_rows import with_short_labels

DETAILS = ("Seconds, summed over", " fp32 [", "Encoded on")


@pytest.fixture
def photos(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.fromarray(np.full((40, 40, 3), 90, np.uint8)).save(tmp_path / "photos" / name / "a.png")
    return tmp_path / "photos"


def test_extract_says_seconds_and_fingerprint_only_if_asked(lsn, photos, tiny_model, monkeypatch) -> None:
    words = ("extract", photos, "--model", tiny_model, "--device", "cpu", "--overwrite")
    usual = lsn(*words).err
    assert "lsn-work/features.h5: features of local-dir" in usual
    assert not any(text in usual for text in DETAILS)
    for asked in ((*words, "--verbose"), (*words, "-v")):
        assert all(text in lsn(*asked).err for text in DETAILS)
    assert lsn(*words, "-v", "-q").err == ""
    Path("lsn.toml").write_text("verbose = true\n")
    assert all(text in lsn(*words).err for text in DETAILS)


def test_the_environment_asks_for_details_too(monkeypatch) -> None:
    for value, asked in (("1", True), ("", False)):
        monkeypatch.setenv("LSN_VERBOSE", value)
        assert console.verbose() is asked
        assert console.brief("CoOp + LSN,form=logit") == "CoOp + LSN" + ",form=logit" * asked


@pytest.mark.parametrize(("value", "asked"), [("0", False), ("1", True)])
def test_zero_in_the_environment_is_no(photos, tiny_model, monkeypatch, capsys, value, asked) -> None:
    monkeypatch.setenv("LSN_VERBOSE", value)
    assert exit_code("extract", photos, "--work", "w", "--model", tiny_model, "--device", "cpu") == 0
    assert ("Seconds" in capsys.readouterr().err) is asked


def test_settings_are_left_out_for_people_unless_they_tell_methods_apart() -> None:
    rows = [{"method": name, "ood": "a"} for name in ("knn,k=3", "lsn,form=logit", "lsn", "mcm")]
    assert [row["method"] for row in with_short_labels(rows)] == ["knn", "lsn,form=logit", "lsn", "mcm"]


def test_programs_always_get_the_settings(lsn, tmp_path) -> None:
    imported_workspace(tmp_path / "lsn-work")
    words = ("eval", "--method", "knn,k=3", "--device", "cpu")
    rows = json.loads(lsn(*words, "--format", "json").out)
    assert {row["method"] for row in rows} == {"knn,k=3"}
    assert "knn,k=3" not in lsn(*words).out
    assert "knn,k=3" in lsn(*words, "--verbose").out
    words = ("calibrate", "--method", "knn,k=3", "--device", "cpu")
    assert json.loads(lsn(*words, "--format", "json").out)[0]["method"] == "knn,k=3"
    assert "knn,k=3" not in lsn(*words).out
    assert "knn,k=3" in lsn(*words, "-v").out
