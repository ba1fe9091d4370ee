"""torchvision imports whether or not its compiled extension fits this torch."""

import importlib
import subprocess
import sys

import pytest

from lsncli.backbones.loading import ensure_torchvision

SCRIPT = """
from lsncli.backbones.loading import ensure_torchvision
ensure_torchvision(); ensure_torchvision()
import open_clip, torchvision.transforms
print(open_clip.list_models()[0] and torchvision.__version__)
"""


def test_torchvision_and_open_clip_import_after_it_and_calling_twice_is_harmless() -> None:
    run = [sys.executable, "-W", "error", "-c", SCRIPT]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize("error", [RuntimeError("something else"), ImportError("no such thing")])
def test_any_other_trouble_is_not_hidden(error: Exception, monkeypatch) -> None:
    def fail(name: str) -> None:
        raise error

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(type(error), match=str(error)):
        ensure_torchvision()
