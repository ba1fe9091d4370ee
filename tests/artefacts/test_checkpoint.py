"""The state of an unfinished training on disk: whose it is, that it is whole, and that bits survive."""

import math
from pathlib import Path

import pytest
import torch

from lsncli.artefacts.files import load_checkpoint, save_checkpoint, write_artefact
from lsncli.errors import LsnError
from lsncli.prompts.loop import Checkpoint

RUN = {"settings": {"rate": 0.1, "init": "", "score": {}}, "classes": ["ox", "Gürteltier"], "shots": None}


def made(seed: int = 0) -> Checkpoint:
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        "contexts.0": torch.randn(3, 2, 5, generator=generator),
        "optimizer.0.step": torch.tensor(7.0),
        "optimizer.0.exp_avg": torch.randn(3, 2, 5, generator=generator) * 1e-30,
        "generator": generator.get_state(),
    }
    return Checkpoint(tensors, (2.302585092994046, 1 / 3, math.pi))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "positive.unfinished.safetensors"


def test_a_checkpoint_comes_back_to_the_bit(path: Path) -> None:
    save_checkpoint(path, RUN, made())
    kept = load_checkpoint(path)
    assert kept is not None
    assert kept.run == RUN
    found = kept.checkpoint
    assert found.history == made().history
    assert found.tensors.keys() == made().tensors.keys()
    for name, tensor in made().tensors.items():
        assert found.tensors[name].dtype == tensor.dtype
        assert torch.equal(found.tensors[name], tensor)
    torch.Generator().set_state(found.tensors["generator"])


def test_the_next_one_takes_its_place_and_nothing_else_is_left(path: Path) -> None:
    save_checkpoint(path, RUN, made(1))
    first = path.read_bytes()
    save_checkpoint(path, RUN, made(2))
    second = path.read_bytes()
    save_checkpoint(path, RUN, made(1))
    assert path.read_bytes() == first != second
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_no_file_is_no_checkpoint(path: Path) -> None:
    assert load_checkpoint(path) is None


@pytest.mark.parametrize("damage", ["cut", "text", "other kind", "no run"])
def test_a_damaged_file_is_a_sentence_and_a_way_out(path: Path, damage: str) -> None:
    save_checkpoint(path, RUN, made())
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-10])
    elif damage == "text":
        path.write_text("nonsense")
    else:
        write_artefact(path, "detector" if damage == "other kind" else "checkpoint", {}, {"history": []})
    with pytest.raises(LsnError, match=r"positive\.unfinished\.safetensors") as caught:
        load_checkpoint(path)
    assert caught.value.hint == "Start again with --restart."
    assert "\n" not in caught.value.message
