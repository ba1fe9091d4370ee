"""The CUDA paths, on a CUDA device that is only pretended: ``checks.py`` in a process of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def card(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled guard of the device."""
    if torch.version.cuda or torch.version.hip:
        pytest.skip("this torch has a guard for real devices")
    if sys.platform != "linux" or shutil.which("g++") is None:
        pytest.skip("needs Linux and g++, to compile the guard of a device")
    root, library = Path(torch.__file__).parent, tmp_path_factory.mktemp("card") / "libcard.so"
    abi = f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"
    words = ["g++", "-O0", "-std=c++20", "-shared", "-fPIC", abi, f"-I{root / 'include'}"]
    words += [str(HERE / "card.cpp"), "-o", str(library), f"-L{root / 'lib'}", "-lc10", "-ltorch_cpu"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return library


def test_what_the_card_computes_is_what_the_cpu_computes(card: Path) -> None:
    path = os.pathsep.join([str(HERE), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {"PRETENDED_CARD": str(card), "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    words = ["-p", "pretended_card", "-p", "no:cacheprovider", "-n0", "-W", "error", "--tb=short"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words, str(HERE / "checks.py")],
        cwd=HERE.parents[1],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
