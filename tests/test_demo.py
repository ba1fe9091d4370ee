"""``lsn demo``: the tables that it promises, and real photos in the last one."""

import contextlib
import io
import re
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from cli_runner import exit_code

from lsncli.evaluation import demo

Shown = tuple[int, str, str]
"""Exit code, stdout and stderr."""


def run() -> Shown:
    """The command, once; nothing is left behind."""
    out, err = io.StringIO(), io.StringIO()
    before = set(Path(tempfile.gettempdir()).glob("lsn-demo-*"))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = exit_code("demo")
    assert set(Path(tempfile.gettempdir()).glob("lsn-demo-*")) == before
    return code, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def shown() -> Shown:
    """The whole way with a tenth of the epochs: seconds instead of a minute."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "POSITIVE_SETTINGS", replace(demo.POSITIVE_SETTINGS, epochs=2))
        patch.setattr(demo, "NEGATIVE_SETTINGS", replace(demo.NEGATIVE_SETTINGS, epochs=2))
        return run()


def comparison(out: str) -> tuple[str, dict[str, list[float]]]:
    """The header of the table of methods, and its numbers by OOD split."""
    lines = out.splitlines()
    start = next(i for i, line in enumerate(lines) if "OOD set" in line)
    table = {}
    for line in lines[start:]:
        if match := re.match(r"^ +([a-z][\w-]*) +((-?\d+\.\d *)+)$", line):
            table[match[1]] = [float(number) for number in match[2].split()]
    return " ".join(lines[start - 2 : start + 1]), table


def test_it_ends_well_and_says_what_to_type_next(shown: Shown) -> None:
    code, _, err = shown
    assert code == 0, err
    for heading in ("1. Features", "2. Learn", "3. Which method", "4. Real photos", "Done in"):
        assert heading in err
    assert demo.REDUCED in err
    assert "lsn extract ./photos --model mini" in err


def test_it_compares_mcm_coop_and_lsn_on_every_ood_split(shown: Shown) -> None:
    _, out, _ = shown
    header, table = comparison(out)
    for word in ("MCM", "CoOp", "LSN", "FPR95↓", "AUROC↑", "Δ"):
        assert word in header
    contents = out[: out.index("OOD set")]
    splits = set(re.findall(r"^ +([a-z][\w-]*) +\d+ +\d+", contents, re.MULTILINE))
    assert {"train", "test"} < splits
    assert set(table) == (splits - {"train", "test"}) | {"average"}
    for numbers in table.values():
        # FPR95 and AUROC of MCM; of CoOp + MCM and of LSN each with its change against MCM.
        fpr, auroc, *others = numbers
        assert len(others) == 8
        for f, df, a, da in (others[:4], others[4:]):
            assert f - fpr == pytest.approx(df, abs=0.11)
            assert a - auroc == pytest.approx(da, abs=0.11)
            assert 0 <= f <= 100
            assert 0 <= a <= 100


def test_every_sample_photo_gets_a_verdict(shown: Shown) -> None:
    _, out, _ = shown
    photos = {path.name for path in demo.sample_photos()}
    assert {"china.jpg", "flower.jpg"} <= photos
    for name in photos:
        (line,) = [line for line in out.splitlines() if line.strip().startswith(name)]
        assert re.search(r" (yes|no) *$", line)


def test_it_fits_100_columns(shown: Shown) -> None:
    assert max(map(len, shown[1].splitlines())) <= 100


def test_a_method_that_fails_is_not_left_out_in_silence(tmp_path, monkeypatch) -> None:
    from lsncli.errors import LsnError

    made = demo.prepare_demo(tmp_path)
    monkeypatch.setattr(demo, "METHODS", ("energy", "lsn"))
    with pytest.raises(LsnError, match="lsn: There is no negative-prompts artefact"):
        demo.compare(made)


@pytest.mark.slow
def test_negative_prompts_add_to_positive_ones_on_average() -> None:
    code, out, err = run()
    assert code == 0, err
    table = comparison(out)[1]
    _, mcm, _, _, coop, _, _, _, lsn, _ = table["average"]
    assert lsn > coop
    assert lsn > mcm
