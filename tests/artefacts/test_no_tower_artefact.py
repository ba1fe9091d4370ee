"""The "no" encoder on disk: to the bit, and nothing else is taken for one."""

import numpy as np
import pytest
from artefact_samples import FINGERPRINT, vectors

from lsncli.artefacts.files import write_artefact
from lsncli.artefacts.heads import NoTower, load_no_tower, save_no_tower
from lsncli.errors import LsnError
from lsncli.types import Failure

TOWER = NoTower(
    fingerprint=FINGERPRINT,
    weights={
        "model.text.weight": vectors(3, 2).astype(np.float32),
        "no-prompts": np.zeros((2, 3, 2), np.float32),
    },
    settings={"epochs": 3},
    pairs=7,
    failures=(Failure("a.jpg", "an empty file"),),
    history=(2.0, 1.5),
)


def test_it_comes_back_as_it_was(tmp_path) -> None:
    save_no_tower(tmp_path / "one", TOWER)
    found = load_no_tower(tmp_path / "one")
    assert vars(found) | {"weights": 0} == vars(TOWER) | {"weights": 0}
    assert all(np.array_equal(found.weights[name], array) for name, array in TOWER.weights.items())
    save_no_tower(tmp_path / "two", TOWER)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_what_is_not_one_is_refused(tmp_path) -> None:
    path = tmp_path / "no-tower.safetensors"
    with pytest.raises(LsnError, match="no no-tower artefact") as caught:
        load_no_tower(path)
    assert "lsn train-no" in caught.value.hint
    write_artefact(path, "head", {}, {})
    with pytest.raises(LsnError, match="expected an artefact of format lsn-no-tower, found lsn-head"):
        load_no_tower(path)
    write_artefact(path, "no-tower", {}, {"settings": {}})
    with pytest.raises(LsnError, match="is damaged: KeyError 'fingerprint'"):
        load_no_tower(path)
