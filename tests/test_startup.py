"""Commands start lightly: help, usage errors and an empty workspace load no heavy library."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "pandas", "sklearn", "scipy", "h5py", "open_clip", "matplotlib", "numpy")
SCRIPT = """
import sys
from lsncli.cli.app import main
try:
    main({argv!r})
except SystemExit as stop:
    assert stop.code == 0, stop.code
print("LOADED", *sorted(name for name in {heavy!r} if name in sys.modules))
"""


@pytest.mark.parametrize("argv", [["--help"], ["extract", "--help"], ["eval", "--help"], ["--version"]])
def test_help_loads_no_heavy_library(argv: list[str]) -> None:
    script = SCRIPT.format(argv=argv, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "LOADED"


UNUSED = ("torch._dynamo", "torch.distributed.tensor", "sympy", "scipy.stats", "scipy.optimize", "pandas")
"""What only other commands need; each takes a tenth of a second or more to import."""
SCORE = """
import sys
import numpy as np
from lsncli.artefacts.detector import save_detector
from lsncli.backbones import load_backbone
from lsncli.backbones.openclip import OpenClip
from lsncli.cli.app import main
from lsncli.detection.zero_shot import zero_shot_detector
from PIL import Image
from pathlib import Path
save_detector(Path("detector.safetensors"), zero_shot_detector(["cat", "dog"], load_backbone("mini")))
Image.fromarray(np.full((9, 9, 3), 99, np.uint8)).save("one.png")
OpenClip.text_tower = None  # whoever calls it fails
try:
    main(["score", "one.png", "--work", ".", "--format", "csv"])
except SystemExit as stop:
    assert stop.code == 0, stop.code
print("LOADED", *sorted(name for name in {unused!r} if name in sys.modules))
"""


def test_a_score_loads_no_compiler_and_makes_no_text_tower(tmp_path: Path) -> None:
    run = [sys.executable, "-c", SCORE.format(unused=UNUSED)]
    done = subprocess.run(run, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "LOADED"
    assert "one.png" in done.stdout


@pytest.mark.parametrize("argv", [["score"], ["score", "a.jpg", "--split", "b"]])
def test_a_usage_error_needs_no_heavy_library(argv: list[str]) -> None:
    script = SCRIPT.format(argv=argv, heavy=HEAVY).replace("stop.code == 0", "stop.code == 2")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "LOADED"


def test_python_dash_m_works() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lsncli", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("lsn ")


@pytest.mark.parametrize(
    "argv",
    [
        ["score", "one.png"],
        ["train-pos"],
        ["train-neg"],
        ["eval"],
        ["calibrate"],
        ["calibrate", "one.png"],
    ],
)
def test_an_empty_workspace_is_said_before_a_heavy_library_is_loaded(tmp_path: Path, argv: list[str]) -> None:
    heavy = set(HEAVY) - {"numpy"}  # the check of --target-tpr needs it
    script = SCRIPT.format(argv=argv, heavy=heavy).replace("stop.code == 0", "stop.code == 1")
    run = [sys.executable, "-c", script]
    done = subprocess.run(run, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "LOADED"
    assert "lsn-work" in done.stderr


def test_a_folder_without_images_is_said_before_a_model_library_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    argv = ["score", "empty", "--classes", "cat,dog", "--model", "mini"]
    script = SCRIPT.format(argv=argv, heavy=set(HEAVY) - {"numpy"}).replace(
        "stop.code == 0", "stop.code == 1"
    )
    run = [sys.executable, "-c", script]
    done = subprocess.run(run, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "LOADED"
    assert "empty" in done.stderr
