"""Figures: files, numbers, names, and nothing left behind in matplotlib's settings."""

import pytest

from lsncli.errors import LsnError, Unavailable
from lsncli.report import plots


def test_names_of_files_are_safe_and_different() -> None:
    assert plots.unique_stem("knn:positive,k=10") == "knn-positive-k=10"
    assert plots.unique_stem("../../etc/passwd") == "etc-passwd"
    assert plots.unique_stem("..") == "figure"
    assert plots.unique_stem("lsn a", ["LSN-A"]) == "lsn-a~2"
    assert len(plots.unique_stem("x" * 500)) == 100


def test_labels_hold_no_formulas_and_no_line_breaks() -> None:
    assert plots.label("a $x$\nb") == r"a \$x\$\nb"
    assert plots.label("x" * 50) == "x" * 39 + "…"


def test_missing_matplotlib_names_the_extra(monkeypatch) -> None:
    monkeypatch.setattr(plots, "find_spec", lambda name: None)
    with pytest.raises(Unavailable, match=r"--plots needs matplotlib.*lsncli\[plots\]") as error:
        plots.check_available("--plots")
    assert error.value.exit_code == 5


def test_drawing_leaves_the_settings_alone_and_no_figure_open(tmp_path) -> None:
    matplotlib = pytest.importorskip("matplotlib", reason="figures need the extra 'plots'")
    matplotlib.rcParams["font.size"] = 17
    before = dict(matplotlib.rcParams)
    with plots.drawing():
        assert matplotlib.rcParams["font.size"] == 9
        made = plots.figure(3, 2)
        made.subplots().plot([0, 1], label="$ 日本")
        plots.save(made, tmp_path / "new" / "a.png", tmp_path / "new" / "a.svg")
    assert dict(matplotlib.rcParams) == before
    matplotlib.rcdefaults()
    import matplotlib.pyplot as plt

    assert plt.get_fignums() == []


def test_equal_numbers_give_equal_files(tmp_path) -> None:
    pytest.importorskip("matplotlib", reason="figures need the extra 'plots'")
    for name in "ab":
        with plots.drawing():
            made = plots.figure(3, 2)
            made.subplots().set_title("日本 $5")
            plots.save(made, tmp_path / f"{name}.svg", tmp_path / f"{name}.png")
    for kind in ("svg", "png"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LsnError, match="cannot be written"):
        plots.save_numbers(tmp_path / "file" / "x.csv", ["a"], [])
