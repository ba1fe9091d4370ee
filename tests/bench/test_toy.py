"""The toy example of Figure 5 says what the paper says of it."""

import csv
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from lsncli.bench.figures import toy
from lsncli.bench.figures.request import Request
from lsncli.errors import LsnError


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


def upside_down() -> toy.Toy:
    learned = toy.run()
    return toy.Toy(
        head=learned.head,
        features=learned.features,
        predicted=(1,) * 7,
        mcm=learned.mcm,
        min_cm=learned.min_cm,
        lsn=-learned.lsn,
    )


def test_claims_can_fail() -> None:
    assert sum(toy.claims(upside_down()).values()) == 3


def request_to(folder: Path, **given: object) -> Request:
    return Request(SimpleNamespace(name="mini", note=""), folder, "mini", {}, **given)


def test_the_figure_is_drawn_and_its_numbers_lie_beside_it(tmp_path) -> None:
    pytest.importorskip("matplotlib", reason="figures need the extra 'plots'")
    drawn = toy.draw(request_to(tmp_path), 5)
    assert [path.name for path in drawn.files] == ["figure5.png", "figure5.svg", "figure5.csv"]
    assert all(path.stat().st_size > 500 for path in drawn.files)
    with (tmp_path / "figure5.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["figures"] for row in rows] == [*toy.ID_IMAGES, toy.OOD_IMAGE]
    assert min(rows, key=lambda row: float(row["lsn"]))["image"] == "OOD"
    assert len(drawn.notes) == 7


def test_a_claim_that_fails_is_an_error_and_nothing_is_drawn(tmp_path, monkeypatch) -> None:
    made = upside_down()
    monkeypatch.setattr(toy, "run", lambda: made)
    with pytest.raises(LsnError, match="Both are right on every ID image"):
        toy.draw(request_to(tmp_path), 5)
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_draws_nothing(tmp_path) -> None:
    assert toy.draw(request_to(tmp_path, dry=True), 5).files == ()
    assert list(tmp_path.iterdir()) == []
