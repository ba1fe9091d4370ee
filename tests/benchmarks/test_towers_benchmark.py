"""The comparison of image towers: it runs, judges what it may, and leaves torch's threads to its caller."""

import pytest

from benchmarks.goals import WIDEST
from benchmarks.speed import towers


def test_a_dwarf_goes_through_every_variant(monkeypatch, capsys) -> None:
    monkeypatch.setattr(towers, "record", lambda *_, **__: pytest.fail("only the full form is recorded"))
    towers.main(["--tiny"])
    text = capsys.readouterr().out
    names = " ".join(line[: WIDEST["what"]].strip() for line in text.splitlines())
    for what in (
        "fp32",
        "bf16",
        "fp32, difference",
        towers.OWN_PARALLEL,
        towers.OURS_SHARED,
        towers.PARALLEL,
    ):
        assert f"image tower dwarf, {what}" in names
    assert "GFLOP/s of a thread:" in text


def test_only_a_tower_that_is_known_has_a_goal_in_speed() -> None:
    time = {"wall_s": 1.0, "cpu_s": 1.0, "ratio": 1.5, "lowest": 1.4, "highest": 1.6}

    def figures(fast: bool) -> dict:
        alone = dict.fromkeys((towers.OWN, towers.OURS, towers.HALF), time)
        every = dict.fromkeys((towers.SHARED, towers.OWN_PARALLEL, towers.OURS_SHARED, towers.PARALLEL), time)
        return {"fast": fast, "apart": 1e-6, "one thread": alone, "4 threads": every}

    product = {name: {**time, "GFLOP/s": 100.0} for name in ("torch", "oneDNN")}
    rows = towers.rows_of({"products": product, "A": figures(True), "B": figures(False)}, 4)
    goals = {row.what: row.met for row in rows if row.goal is not None}
    assert goals == {
        "image tower A, fp32": False,
        "image tower A, fp32, difference": True,
        "image tower B, fp32, difference": True,
    }
