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


COMPILER = """
import sys
from lsncli.backbones.loading import ensure_torchvision
{before}
ensure_torchvision()
import open_clip, timm, torchvision
print("torch._dynamo" in sys.modules)
import torch
from torchvision.ops import roi_align
from timm.models.naflexvit import NaFlexRopeIterator
import torch._dynamo
assert torch._dynamo.disable.__module__.startswith("torch._dynamo"), "the stand-in has stayed"
assert torch._dynamo.utils.is_compile_supported("cpu") == sys.modules[
    "torchvision.ops.roi_align"].is_compile_supported("cpu")
"""


REFUSED = """
import lsncli.backbones.loading as loading
def refuse(*args, **options): raise AttributeError("it has changed")
loading._not_compiled = refuse
"""


@pytest.mark.parametrize(
    ("before", "imported"), [("", "False"), ("import torch._dynamo", "True"), (REFUSED, "True")]
)
def test_the_compiler_of_torch_is_imported_when_it_is_used(before: str, imported: str) -> None:
    run = [sys.executable, "-W", "error", "-c", COMPILER.format(before=before)]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == imported


def test_a_function_that_is_not_to_be_compiled_is_called_through_the_compiler() -> None:
    from lsncli.backbones.loading import _not_compiled

    @_not_compiled
    def add(a: int, b: int = 1) -> int:
        return a + b

    assert add(1) == 2
    assert add(1, b=5) == 6
    with pytest.raises(AttributeError):
        _not_compiled(None)
