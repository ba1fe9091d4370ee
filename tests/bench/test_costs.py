"""What a table costs: counts that are known without images, times speeds that are measured here."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from cli_runner import exit_code

from lsncli.backbones import BACKBONES
from lsncli.bench import speeds as speeds_module
from lsncli.bench.costs import (
    cost_rows,
    cost_rows_with_totals,
    estimate_costs,
    format_count,
    remarks,
    total_seconds,
)
from lsncli.bench.jobs import table_rows
from lsncli.bench.measured_table import measure_table
from lsncli.bench.plan import BenchPlan, make_plan
from lsncli.bench.speeds import Speeds
from lsncli.bench.suite_toml import load_suite
from lsncli.bench.suite_workspace import SuiteWorkspace
from lsncli.bench.training_jobs import LearningSpec
from lsncli.console import duration
from lsncli.errors import Unavailable
from lsncli.methods.spec import parse_method
from lsncli.methods.text_recipes import RECIPES, wordnet_pool
from lsncli.prompts.settings import preset

DAY = 86400


class Fixed:
    """A machine that encodes 10 images, and learns or scores by 100 text passes, a second."""

    def images(self, model: str) -> float:
        return 10.0

    def learning(self, model: str, learning: LearningSpec, rows: int, classes: int) -> float:
        return learning.work(rows, classes) / 100 if learning.settings else 60.0

    def scoring(self, model, method, learnings, train, rows, classes) -> float:
        settings = [one.settings for one in learnings if one.settings]
        return rows * classes * sum(one.sets for one in settings if one.learner == "cocoop") / 100


def paper(number: int | str, work: Path, **given: Any) -> BenchPlan:
    suite = load_suite("paper")
    spec = suite.table(number)
    return measure_table(suite, spec, work=work, device="cpu", dry=True, quiet=True, **given)[1]


def fast(number: int | str):
    suite = load_suite("paper")
    return table_rows(suite, suite.table(number), mode="fast")


def units(plan: BenchPlan) -> dict[str, int | None]:
    return {row["what"]: row["units"] for row in cost_rows(estimate_costs(plan, Fixed()))}  # type: ignore[arg-type]


def test_the_work_of_table_1_is_known_in_a_fresh_workspace(tmp_path: Path) -> None:
    found = units(paper(1, tmp_path))
    assert found["by ViT-B-16-quickgelu:openai on cpu"] == 16_000 + 5_000 + 30_000 + 5_640
    assert found["negative, CoCoOp, paper by the model"] == 100 * 128 * 10 * 100 * 3 == 38_400_000
    assert found["positive, CoCoOp, paper by the model"] == 100 * 128 * 10 * 100
    assert found["negative, CoOp, paper by the model"] == 100 * (12_800 // 8) * 100 * 3
    assert found["linear head by the model"] == 12_800
    assert found["mcm by the model"] == 5_000 + 35_640
    assert found["lsn, cocoop, cocoop by the model"] == (5_000 + 35_640) * 100 * (1 + 3)


def test_the_work_of_table_2_is_known_too(tmp_path: Path) -> None:
    found = units(paper(2, tmp_path))
    assert found["negative, CoCoOp, paper by the model"] == 3_840_000_000
    assert found["by ViT-B-16-quickgelu:openai on cpu"] == 160_000 + 50_000 + 35_640


def test_no_cost_is_unknown_where_speeds_are_measured(tmp_path: Path) -> None:
    for number in (1, 2, 3, 4, 5, 7, 8, 9, 10, 11):
        costs = estimate_costs(paper(number, tmp_path), Fixed())  # type: ignore[arg-type]
        assert all(one.seconds is not None for one in costs)
        assert total_seconds(costs) == pytest.approx(sum(row["seconds"] for row in cost_rows(costs)))
        assert all(row["unknown"] == 0 for row in cost_rows(costs))


def test_the_words_of_a_row_are_said_with_their_number_of_texts(tmp_path: Path) -> None:
    plan, speeds = paper("later", tmp_path), Fixed()
    said = remarks(plan, estimate_costs(plan, speeds), fast("later"), speeds, "lsn")  # type: ignore[arg-type]
    (csp,) = [text for text in said if text.startswith("CSP: ")]
    (others,) = [text for text in said if text.startswith("EOE, NegLabel, ")]
    recipes = {name: RECIPES[name] for name in ("neglabel", "csp")}
    count = {name: sum(map(len, each.texts(wordnet_pool(each.left_out)))) for name, each in recipes.items()}
    assert f"the words are {count['csp']:,} texts" in csp
    assert f"the words are {count['neglabel']:,} texts" in others
    assert 65_000 < count["neglabel"] < 75_000 < 380_000 < count["csp"] < 430_000
    short = paper("later", tmp_path, rows=["Energy", "GEN"])
    assert remarks(short, [], fast("later"), speeds, "lsn") == []  # type: ignore[arg-type]


def test_people_get_units_and_the_time_of_every_stage(tmp_path: Path) -> None:
    rows = cost_rows_with_totals(estimate_costs(paper(1, tmp_path), Fixed()))  # type: ignore[arg-type]
    negative = next(row for row in rows if row["what"] == "negative, CoCoOp, paper")
    assert (negative["work"], negative["time"]) == ("38.4 million text passes", "4.4 days")
    stages = {row["what"]: row["time"] for row in rows if row["kind"] == "in all"}
    assert stages["extract"] == duration(5_664)
    assert list(stages) == ["extract", "learn", "score", ""]
    learned = 38.4e6 + 12.8e6 + 8e6 + 48e6
    assert stages["learn"] == duration(learned / 100 + 60)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(99, "99 s"), (600, "10 min"), (7200, "2.0 h"), (2 * DAY, "2.0 days"), (4000.4 * DAY, "4,000.4 days")],
)
def test_times_have_the_unit_that_people_take(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_numbers_are_said_as_people_say_them() -> None:
    numbers = (12_800, 38_400_000, 3_840_000_000)
    assert [format_count(one) for one in numbers] == ["12,800", "38.4 million", "3.8 billion"]


def test_what_takes_days_is_named_with_what_to_do_instead(tmp_path: Path) -> None:
    plan = paper(1, tmp_path)
    speeds: Any = Fixed()
    said = remarks(plan, estimate_costs(plan, speeds), fast(1), speeds, "lsn bench --table 1 --suite paper")
    assert said[0] == (
        "CoCoOp, CoCoOp + LSN (ours): to learn positive, CoCoOp, paper takes 12.8 million text passes, "
        "35.6 h here. --mode fast does not shorten it: CoCoOp learns from one image at a time in every mode. "
        "Fewer `shots` in a suite of your own shorten it in proportion."
    )
    assert said[1] == (
        "CoOp + LSN (ours): to learn negative, CoOp, paper takes 48.0 million text passes, 5.6 days here. "
        "With --mode fast: 3.0 million, 8.3 h."
    )
    assert "CoCoOp + LSN (ours): to learn negative, CoCoOp, paper takes 38.4 million" in said[2]
    assert "4.4 days here" in said[2]
    assert said[3].startswith("Only the other rows (")
    rows = "--rows MCM --rows MSP --rows Vim --rows VOS --rows NPOS --rows CoOp"
    assert said[3].endswith(f"lsn bench --table 1 --suite paper {rows}")


def test_what_is_in_mode_fast_already_is_not_told_to_use_it(tmp_path: Path) -> None:
    plan = paper(2, tmp_path, mode="fast", rows=["CoOp + LSN"])
    speeds: Any = Fixed()
    said = remarks(plan, estimate_costs(plan, speeds), fast(2), speeds, "lsn")
    assert said
    assert not [text for text in said if "--mode fast" in text or "CoCoOp" in text]
    assert "Fewer `shots`" in said[0]


def test_without_a_model_what_is_long_is_named_by_its_passes(tmp_path: Path) -> None:
    plan = paper(2, tmp_path)
    none: Any = SimpleNamespace(
        images=lambda *_: None, learning=lambda *_: None, scoring=lambda *_: None, reasons={"": "no weights"}
    )
    costs = estimate_costs(plan, none)
    assert total_seconds(costs) is None
    said = "\n".join(remarks(plan, costs, fast(2), none, "lsn bench --table 2"))
    assert "takes 3.8 billion text passes." in said
    assert "here" not in said


def test_a_table_that_takes_no_days_needs_no_remark(tmp_path: Path) -> None:
    plan = paper(1, tmp_path, rows=["MCM", "VOS"])
    speeds: Any = Fixed()
    assert remarks(plan, estimate_costs(plan, speeds), fast(1), speeds, "lsn") == []


@pytest.fixture
def quick(monkeypatch) -> None:
    """A probe of a moment: what it measures is not looked at, only that it measures."""
    monkeypatch.setattr(speeds_module, "SECONDS", 0.0)
    monkeypatch.setattr(speeds_module, "CLASSES", 4)
    monkeypatch.setattr(speeds_module, "SCORED", 8)


def test_the_probe_measures_everything_that_tables_ask_for(quick, tmp_path: Path, tiny_model: str) -> None:
    suite_work = SuiteWorkspace(tmp_path, "paper", tiny_model, device="cpu", batch_size=4)
    speeds = Speeds(suite_work, quiet=True)
    assert (speeds.images("") or 0) > 0
    for kind in ("positive", "negative"):
        for learner in ("coop", "cocoop"):
            learning = LearningSpec(kind, preset(kind, "paper", learner), 2)
            one, two = (speeds.learning("", learning, rows, 4) or 0 for rows in (8, 16))
            assert 0 < one < two or learning.work(8, 4) == learning.work(16, 4)
    assert (speeds.learning("", LearningSpec("linear"), 8, 4) or 0) > 0
    cocoop = [LearningSpec("negative", preset("negative", "paper", "cocoop"))]
    names = {row.method for table in load_suite("paper").tables.values() for row in table.rows}
    for name in sorted(names):
        without = speeds.scoring("", parse_method(name), [], 8, 10, 4) or 0
        assert without > 0, name
        assert (speeds.scoring("", parse_method(name), cocoop, 8, 10, 4) or 0) > without
    assert speeds.reasons == {}


def test_each_thing_is_measured_once(quick, tmp_path: Path, tiny_model: str, monkeypatch) -> None:
    speeds = Speeds(SuiteWorkspace(tmp_path, "paper", tiny_model, device="cpu", batch_size=4), quiet=True)
    calls: list[int] = []
    learn = speeds_module.learn
    monkeypatch.setattr(speeds_module, "learn", lambda *a, **k: (calls.append(1), learn(*a, **k))[1])
    learning = LearningSpec("positive", preset("positive", "paper", "coop"), 2)
    first = speeds.learning("", learning, 8, 4)
    done = len(calls)
    assert speeds.learning("", learning, 8, 4) == first
    assert len(calls) == done > 0
    assert not list(tmp_path.iterdir())


def test_missing_weights_are_a_reason_and_counts_are_known(tmp_path: Path, lsn_bench) -> None:
    model = "hf-hub:some/model"
    out, err, code = lsn_bench("--table", "1", "--dry-run", "--work", tmp_path / "w", "--model", model)
    assert code == 0
    assert "38.4 million text passes" in out
    assert f"Measuring what {model} does in a second here" in err
    assert f"No times: {model}: The weights of {model} are not here" in err
    assert "takes 38.4 million text passes" in err
    assert "no features of the sets imagenet-val, inaturalist" in err


def test_a_dry_run_with_a_model_has_times(quick, tmp_path: Path, tiny_model: str, lsn_bench) -> None:
    words = ("--table", "1", "--rows", "MCM", "--rows", "CoCoOp", "--dry-run", "--work", tmp_path / "w")
    out, err, code = lsn_bench(*words, "--model", tiny_model, "--format", "json")
    rows = json.loads(out)
    assert code == 0
    assert all(row["seconds"] > 0 and row["unknown"] == 0 and row["blocked"] == row["jobs"] for row in rows)
    assert {row["unit"] for row in rows} == {"images", "text passes"}
    assert "Estimated from" in err
    assert not (tmp_path / "w").exists()


@pytest.fixture
def lsn_bench(capsys):
    """``lsn bench`` in this process: stdout and stderr on one line each, and the exit code."""

    def run(*words: object) -> tuple[str, str, int]:
        code = exit_code("bench", *words)
        out, err = (" ".join(text.split()) for text in capsys.readouterr())
        return out, err, code

    return run


def test_times_of_earlier_jobs_come_first(tmp_path: Path) -> None:
    suite = load_suite("paper")
    plan = paper(1, tmp_path, rows=["MCM"])
    assert suite.sets == plan.suite_work.sets
    plan.suite_work.timings.append(
        [{"what": "x", "label": "extract by ViT-B-16-quickgelu:openai on cpu", "units": 10, "seconds": 20.0}]
    )
    again = make_plan(plan.suite_work, table_rows(suite, suite.table(1), rows=["MCM"]))
    rows = {row["kind"]: row["seconds"] for row in cost_rows(estimate_costs(again, Fixed()))}  # type: ignore[arg-type]
    assert rows["extract"] == pytest.approx(2.0 * (5_000 + 35_640))


def test_a_model_whose_weights_are_missing_is_measured_with_random_ones(
    quick, tmp_path: Path, tiny_backbone, monkeypatch, capsys
) -> None:
    kind = replace(BACKBONES["open_clip"], untrained="random_weights:untrained")
    monkeypatch.setitem(BACKBONES, "open_clip", kind)
    module = ModuleType("random_weights")
    module.untrained = lambda model, device: tiny_backbone if model == "ViT-B-32:openai" else None
    monkeypatch.setitem(sys.modules, "random_weights", module)

    def no_network(*args: Any, **options: Any) -> None:
        raise Unavailable("The weights are not here.")

    monkeypatch.setattr("lsncli.bench.suite_workspace.load_backbone", no_network)
    speeds = Speeds(SuiteWorkspace(tmp_path, "paper", "ViT-B-32:openai", device="cpu", batch_size=4))
    assert (speeds.images("") or 0) > 0
    assert speeds.reasons == {}
    assert "random weights take as long" in capsys.readouterr().err
    assert speeds.images("hf-hub:some/model") is None
    assert "not here" in speeds.reasons["hf-hub:some/model"]
