"""``lsn --help`` stays light: no heavy library is loaded for any help text."""

import subprocess
import sys

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


def test_python_dash_m_works() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lsncli", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("lsn ")
