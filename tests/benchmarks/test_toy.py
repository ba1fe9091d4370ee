"""The toy example of Figure 5 says what the paper says of it."""

import numpy as np
import pytest

from benchmarks import toy


def test_the_images_are_those_of_the_example() -> None:
    for label in range(3):
        own = [one for one, of in zip(toy.ID_IMAGES, toy.LABELS, strict=True) if of == label]
        others = [one for one, of in zip(toy.ID_IMAGES, toy.LABELS, strict=True) if of != label]
        assert all(toy.IS[label] in one and toy.IS_NOT[label] not in one for one in own)
        assert all(toy.IS[label] not in one and toy.IS_NOT[label] in one for one in others)
    assert toy.IS[0] in toy.OOD_IMAGE
    assert toy.IS_NOT[0] in toy.OOD_IMAGE


@pytest.mark.parametrize("seed", range(3))
def test_every_claim_holds_wherever_learning_starts(seed: int) -> None:
    found = toy.claims(toy.run(seed))
    assert len(found) == 7
    assert [claim for claim, holds in found.items() if not holds] == []


def test_equal_seeds_give_equal_numbers() -> None:
    np.testing.assert_array_equal(toy.run(1).lsn, toy.run(1).lsn)


def test_claims_can_fail() -> None:
    learned = toy.run()
    upside_down = toy.Toy(
        head=learned.head,
        features=learned.features,
        predicted=(1,) * 7,
        mcm=learned.mcm,
        min_cm=learned.min_cm,
        lsn=-learned.lsn,
    )
    assert sum(toy.claims(upside_down).values()) == 3


def test_it_runs_and_says_so(capsys, monkeypatch) -> None:
    monkeypatch.setattr("sys.argv", ["toy"])
    with pytest.raises(SystemExit) as stop:
        toy.main()
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert shown.count("yes ") == 7
    assert "●◆✖" in shown
