"""``lsncli.select_method``: the choice, the numbers and the detector of ``lsn select``, from Python."""

import json
import re
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
from cli_runner import exit_code
from selection_samples import known_best, tiny, unlabelled

from lsncli import Detector, select_method
from lsncli.artefacts.detector import load_detector
from lsncli.errors import LsnError, UsageError
from lsncli.interchange.exchange import imported_fingerprint
from lsncli.methods.spec import parse_method
from lsncli.methods.workspace import Workspace
from lsncli.selection import choose
from lsncli.selection import prompts as fold_prompts
from lsncli.selection import select as use
from lsncli.store.writer import write_split

METHODS = ["mcm", "energy", "knn,k=5"]


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    return known_best(tmp_path / "lsn-work")


few = pytest.mark.filterwarnings("ignore:40 held-out images are few")


@few
def test_it_chooses_and_calibrates_as_lsn_select_does(work, capsys) -> None:
    words = [word for name in METHODS for word in ("--method", name)]
    assert exit_code("select", *words, "--work", str(work.folder), "--format", "json") == 0
    shown = capsys.readouterr()
    rows, made = json.loads(shown.out), work.detector.read_bytes()
    work.detector.unlink()

    choice = select_method(work.folder, METHODS)
    assert (choice.method, choice.verdict, choice.default) == ("knn,k=5", "chosen", "mcm")
    assert repr(choice) == "<MethodSelection knn,k=5 of 3 methods: chosen>"
    assert str(choice) in " ".join(shown.err.split())
    assert list(choice.compared.columns) == list(rows[0])
    for found, row in zip(choice.compared.to_dict("records"), rows, strict=True):
        assert found["method"] == row["method"]
        for name in ("near", "mean", "near_sibling", "over_default", "low", "high"):
            assert found[name] == pytest.approx(100 * row[name])
    assert not work.detector.exists()
    detector = choice.calibrate()
    assert isinstance(detector, Detector)
    assert work.detector.read_bytes() == made
    assert detector.threshold == load_detector(work.detector).threshold


@few
def test_the_example_of_the_documentation_runs(work, monkeypatch, capsys) -> None:
    write_split(work.features, unlabelled("holidays", 30, 4), imported_fingerprint("theirs", 24, 20.0))
    monkeypatch.chdir(work.folder.parent)
    page = (Path(__file__).parents[1] / "docs" / "python.md").read_text(encoding="utf-8")
    (block,) = [one for one in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "select_method" in one]
    names: dict[str, object] = {}
    exec(block, names)
    out = capsys.readouterr().out
    assert "knn,k=5 chosen" in out
    assert "above mcm (90% interval for 3 methods together)" in out
    assert "over_default" not in out
    assert isinstance(names["detector"], Detector)
    assert names["detector"].threshold.target_tpr == 0.95


def test_a_rate_is_that_of_the_detector_and_doubts_are_warnings_at_the_callers_line(work) -> None:
    choice = select_method(work.folder, METHODS)
    with pytest.warns(UserWarning, match="40 held-out images are few") as told:
        assert choice.calibrate(0.8).threshold.target_tpr == 0.8
    assert [one.filename for one in told] == [__file__]
    with pytest.warns(UserWarning, match="class"):
        assert choice.calibrate(0.8, per_class=True).stored.class_thresholds is not None


def test_what_could_not_be_compared_has_its_reason(work) -> None:
    choice = select_method(work.folder, [*METHODS, "neglabel"])
    assert set(choice.failed) == {"neglabel"}
    assert "imported" in choice.failed["neglabel"]
    assert sorted(choice.compared["method"]) == sorted(METHODS)
    assert select_method(work.folder, "mcm").method == "mcm"  # a name alone is no list of letters


def test_errors_are_those_of_the_command_line(work, tmp_path) -> None:
    with pytest.raises(LsnError, match="There is no feature store at"):
        select_method(tmp_path / "nothing")
    with pytest.raises(UsageError, match="msp:linear cannot be compared"):
        select_method(work.folder, ["mcm", "msp:linear"])
    with pytest.raises(UsageError, match="the split of the classes"):
        select_method(work.folder, foreign="train")


def test_prompts_that_win_are_learned_when_the_detector_is_made(tmp_path, tiny_backbone, monkeypatch) -> None:
    quick = {kind: replace(each, epochs=1, length=2) for kind, each in fold_prompts.SETTINGS.items()}
    monkeypatch.setattr(fold_prompts, "SETTINGS", quick)
    work = tiny(tmp_path / "lsn-work", tiny_backbone, each=8)

    def best_is_lsn(*given: object, **options: object) -> choose.Choice:
        choice = choose.choose(*given, **options)  # type: ignore[arg-type]
        return replace(choice, method="lsn", verdict="chosen", runner_up="mcm")

    with monkeypatch.context() as patch:
        patch.setattr(use, "learn_for", lambda plan, **options: (plan.leaving_out_prompts(), {}))
        late = select_method(work.folder, ["mcm", "energy", "lsn"], device="cpu")
    assert late.failed == {"lsn": "Its prompts take more than the budget."}
    monkeypatch.setattr(use, "choose", best_is_lsn)
    choice = select_method(work.folder, ["mcm", "lsn"], prompts=True, device="cpu")
    assert not work.negative.exists()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        detector = choice.calibrate()
    assert work.positive.is_file()
    assert work.negative.is_file()
    assert detector.stored.method == "lsn"
    method = parse_method("lsn")
    assert list(fold_prompts.missing_prompts(work, method, "train")) == []
    work.negative.unlink()
    assert [one.kind for _, one in fold_prompts.missing_prompts(work, method, "train")] == ["negative"]
