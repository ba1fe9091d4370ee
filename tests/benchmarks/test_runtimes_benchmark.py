"""The comparison of runtimes: it runs, judges what it may, and leaves torch's threads to its caller."""

import pytest
import torch

from benchmarks.goals import WIDEST
from benchmarks.speed import runtimes


def test_a_dwarf_goes_through_every_runtime(monkeypatch, capsys) -> None:
    monkeypatch.setattr(runtimes, "record", lambda *_, **__: pytest.fail("the tiny form is not recorded"))
    before = torch.get_num_threads()
    runtimes.main(["--tiny"])
    assert torch.get_num_threads() == before
    text = capsys.readouterr().out
    for name in (runtimes.SHARED, "torch", "fused", "int8"):
        assert f"  {name:<24}" in text
    names = " ".join(line[: WIDEST["what"]].strip() for line in text.splitlines())
    assert "image tower dwarf, auto" in names
    assert "GFLOP/s of a thread:" in text


def test_float32_agrees_with_open_clip_and_int8_nearly() -> None:
    agreement = runtimes.measure("dwarf", 3, runtimes.TINY)["agreement"]
    for name in agreement.keys() - {"int8", "bf16"}:
        assert agreement[name]["difference"] <= 2e-5
    assert agreement["int8"]["cosine"] > 0.99


def test_auto_is_judged_by_the_fastest_runtime_in_float32() -> None:
    def time(seconds: float) -> dict[str, float]:
        return {"wall_s": seconds, "cpu_s": 1.0, "ratio": 1 / seconds, "lowest": 1.0, "highest": 2.0}

    times = {runtimes.SHARED: time(1.0), "torch": time(0.9), "fused": time(0.6), "int8": time(0.2)}
    agreement = {name: {"difference": 1e-6} for name in ("torch", "fused")}
    result = {"auto": "torch", "self_test_s": 3.0, "times": times, "agreement": agreement}
    product = {name: {**time(1.0), "GFLOP/s": 100.0} for name in ("torch", "oneDNN")}
    rows = {row.what: row for row in runtimes.rows_of({"products": product, "A": result})}
    assert rows["image tower A, auto"].measured == pytest.approx(1 / 0.9)
    assert rows["image tower A, auto"].reason.startswith("oneDNN's products are only 1.00 times")
    nearness = rows["image tower A, auto, to the fastest runtime"]
    assert (nearness.measured, nearness.met) == (pytest.approx(2 / 3), False)
    assert rows["image tower A, fp32, difference"].met
