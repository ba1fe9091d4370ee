"""The runner: everything is measured, nothing twice, and one row's failure is its own."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import bench_samples
import pytest
from bench_samples import results, run_suite, write_images, write_suite
from edited_code import added, edited, functions_called, replaced

from lsncli.backbones import loader_of
from lsncli.bench import jobs, measure, training_jobs
from lsncli.errors import LsnError
from lsncli.locks import locked
from lsncli.methods.cache import Cache, digest
from lsncli.methods.source_digest import _node, code_of, reached
from lsncli.scores import SCORES

RESULTS = 5 * 2  # five rows can be measured, on two OOD sets
ROWS = ["MCM", "MSP", "broken", "CoOp", "CoOp + LSN (ours)", "two", "elsewhere"]


@pytest.fixture(scope="module")
def done(tmp_path_factory, tiny_model) -> SimpleNamespace:
    """The suite, run once from images. Tests work on copies."""
    folder = tmp_path_factory.mktemp("bench")
    data, suite = write_images(folder / "data"), write_suite(folder, tiny_model)
    table, plan = run_suite(suite, folder / "work", data)
    return SimpleNamespace(table=table, plan=plan, work=folder / "work", data=data, suite=suite)


@pytest.fixture
def work(done, tmp_path) -> Path:
    return shutil.copytree(done.work, tmp_path / "work")


@pytest.fixture
def no_model(monkeypatch) -> None:
    """What needs the model fails."""

    def load(*args, **kwargs):
        raise AssertionError("the model was loaded")

    for module in ("runner", "training_jobs", "suite_workspace"):
        monkeypatch.setattr(f"lsncli.bench.{module}.same_backbone", load)


def learned(work: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in work.glob("bench/*/*/learned/*")}


def test_every_row_is_measured_on_every_ood_set(done) -> None:
    assert list(done.table.rows) == ROWS
    for name in ("MCM", "MSP", "CoOp", "CoOp + LSN (ours)", "two"):
        for key, cell in done.table.rows[name].items():
            assert cell.mean is not None, (name, key)
            assert 0 <= cell.mean <= 100
            assert (cell.n, cell.of, cell.why_missing) == (1, 1, "")
    assert len(results(done.work)) == RESULTS


def test_a_record_says_where_its_numbers_come_from(done) -> None:
    lines = (done.work / "results" / "noise.jsonl").read_text().splitlines()
    record = next(one for line in lines if (one := json.loads(line))["row"] == "CoOp + LSN (ours)")
    assert (record["suite"], record["table"], record["id"]) == ("noise", "mine", "three classes")
    assert (record["test_set"], record["ood_set"], record["ood"]) == ("in-test", "near", "Near")
    assert (record["n_id"], record["n_ood"], record["split"], record["seed"]) == (9, 4, 0, 0)
    assert set(record["learned"]) == {"positive", "negative"}
    assert record["learned"]["negative"]["settings"]["epochs"] == 2
    assert record["date"].endswith("+00:00")
    assert record["lsn"]
    assert record["seconds"] >= 0
    assert record["fingerprint"] in record["model"]


def test_a_row_that_fails_says_why_in_its_cells_and_stops_no_other(done) -> None:
    cell = done.table.rows["broken"]["Near/fpr95"]
    assert cell.mean is None
    assert "90" in cell.why_missing, cell.why_missing
    assert cell.command.startswith("lsn bench --table mine --suite noise")
    assert "--rows broken" in cell.command


def test_a_row_that_the_suite_cannot_measure_says_so(done) -> None:
    assert done.table.rows["elsewhere"]["Average/auroc"].why_missing == "There are no weights."


def test_a_second_run_computes_nothing(done, work, no_model) -> None:
    before, prompts = results(work), learned(work)
    content = (work / "results" / "noise.jsonl").read_bytes()
    rows = ["MCM", "MSP", "CoOp", "CoOp + LSN", "two"]
    table, plan = run_suite(done.suite, work, done.data, rows=rows)
    assert plan.waiting == ()
    assert (work / "results" / "noise.jsonl").read_bytes() == content
    assert learned(work) == prompts
    assert results(work) == before
    assert table.rows["CoOp"] == done.table.rows["CoOp"]


def test_results_are_there_without_images(done, work, no_model) -> None:
    table, _ = run_suite(done.suite, work, None, rows=["MCM"])
    cells = table.rows["MCM"]
    assert cells["Average/auroc"].mean == done.table.rows["MCM"]["Average/auroc"].mean


def test_a_line_that_a_kill_cut_short_is_measured_again(done, work) -> None:
    file = work / "results" / "noise.jsonl"
    file.write_bytes(file.read_bytes()[:-100])
    run_suite(done.suite, work, done.data)
    assert results(work) == results(done.work)


def test_another_setting_measures_only_what_hangs_on_it(done, work, tmp_path, tiny_model) -> None:
    before, prompts = results(work), learned(work)
    run_suite(write_suite(tmp_path, tiny_model, epochs=3), work, done.data)
    after = results(work)
    new = {key: one for key, one in after.items() if key not in before}
    assert {one["row"] for one in new.values()} == {"CoOp + LSN (ours)"}
    assert len(new) == 2
    assert len(learned(work)) == len(prompts) + 1
    assert prompts.items() <= learned(work).items()


def test_seeds_are_counted_where_something_is_drawn(done, work) -> None:
    table, _ = run_suite(done.suite, work, done.data, seeds=2, rows=["MCM", "CoOp"])
    assert table.rows["CoOp"]["Near/auroc"].n == 2
    assert table.rows["CoOp"]["Near/auroc"].spread is not None
    assert table.rows["MCM"]["Near/auroc"].n == 1


def test_a_missing_set_blocks_only_what_needs_it(tmp_path, tiny_model) -> None:
    data, suite = write_images(tmp_path / "data"), write_suite(tmp_path, tiny_model)
    shutil.rmtree(data / "far")
    table, _ = run_suite(suite, tmp_path / "work", data, rows=["MCM"])
    assert "no features of the set 'far'" in table.rows["MCM"]["Far/fpr95"].why_missing


def test_images_that_changed_are_not_measured_with_old_features(done, work, tmp_path) -> None:
    data = shutil.copytree(done.data, tmp_path / "changed")
    (data / "near" / "0.png").unlink()
    (work / "results" / "noise.jsonl").unlink()
    table, _ = run_suite(done.suite, work, data, rows=["MCM"])
    assert "the features of 'near' were made from 4 images" in table.rows["MCM"]["Near/fpr95"].why_missing


def test_a_dry_run_writes_nothing_and_counts_the_jobs(tmp_path, tiny_model) -> None:
    data, suite = write_images(tmp_path / "data"), write_suite(tmp_path, tiny_model)
    _, plan = run_suite(suite, tmp_path / "work", data, dry=True)
    kinds = [job.kind for job in plan.jobs()]
    assert (kinds.count("extract"), kinds.count("learn"), kinds.count("score")) == (4, 4, 6)
    assert not (tmp_path / "work").exists()


def test_two_runs_at_once_are_refused(done, work) -> None:
    with locked(work / "results" / "noise.jsonl"), pytest.raises(LsnError, match="another process"):
        run_suite(done.suite, work, done.data)


def test_several_processes_learn_what_one_does(done, tmp_path) -> None:
    work = tmp_path / "work"
    for name in done.work.glob("bench/*/*/features.h5"):
        target = work / name.relative_to(done.work)
        target.parent.mkdir(parents=True)
        shutil.copy(name, target)
    run_suite(done.suite, work, None, jobs=2, rows=["MSP", "CoOp", "CoOp + LSN"])
    there = results(done.work)
    for key, record in results(work).items():
        assert record["auroc"] == pytest.approx(there[key]["auroc"], abs=1e-6)
    assert len(results(work)) == 6


def test_samples_are_what_they_say(done) -> None:
    assert len(list(done.data.glob("in-train/*/*.png"))) == 18
    assert bench_samples.load_suite(str(done.suite)).needs(
        bench_samples.load_suite(str(done.suite)).table("mine")
    ) == ("in-train", "in-test", "near", "far")


def still_done(done, work: Path) -> dict[str, bool]:
    """Which rows a dry run finds done."""
    rows = ["MCM", "MSP", "CoOp", "CoOp + LSN", "two"]
    _, plan = run_suite(done.suite, work, rows=rows, dry=True)
    assert {score.row.name for score in plan.scores} == {"MCM", "MSP", "CoOp", "CoOp + LSN (ours)", "two"}
    return {score.row.name: plan.done(score) for score in plan.scores}


def test_results_are_done_until_code_changes_that_they_depend_on(done) -> None:
    assert set(still_done(done, done.work).values()) == {True}
    row = '    "newest": "lsncli.scores.newest:Newest",\n'
    new = {"lsncli.scores": replaced("SCORES = {\n", "SCORES = {\n" + row), "lsncli.scores.newest": "x = 1"}
    with edited(new):
        assert set(still_done(done, done.work).values()) == {True}
    with edited({"lsncli.types": replaced("wide / np.where(norms == 0, 1.0, norms)", "wide")}):
        assert set(still_done(done, done.work).values()) == {False}
    with edited({SCORES["knn"].partition(":")[0]: added("del nothing")}):
        assert [name for name, known in still_done(done, done.work).items() if not known] == ["two"]
    with edited({"lsncli.prompts.learner": added("del nothing")}):
        assert [name for name, known in still_done(done, done.work).items() if not known] == [
            "CoOp",
            "CoOp + LSN (ours)",
        ]


GLUE = {
    ("lsncli.methods.spec", "parse_method"),
    ("lsncli.bench.jobs", "TableRow"),
    ("lsncli.bench.training_jobs", "learn"),
    ("lsncli.bench.training_jobs", "PoolTask"),
    ("lsncli.bench.runner", "_score"),
}
"""The method and the learning are in the key by their texts; the others only call what is in it."""


def test_no_code_makes_a_number_that_is_not_in_its_key(done, tmp_path, monkeypatch) -> None:
    """Learning and scoring again, with every function of lsncli that runs meanwhile written down."""
    (record, *_) = results(done.work).values()
    model = loader_of(record["model"])
    unknown: dict[str, set[tuple[str, str]]] = {}

    def watched(what: str, act, roots_of, without):
        def run(job, *given, **named):
            nodes = set(reached(*roots_of(job), *model, without=without))
            with functions_called({_node(end) for end in (*without, Cache, digest, code_of)}) as called:
                made = act(job, *given, **named)
            unknown.setdefault(what, set()).update(called - nodes)
            return made

        return run

    def roots_of_score(job) -> list:
        return [*jobs.CODE, SCORES[job.method.score]]

    def roots_of_lesson(job) -> list:
        return [*training_jobs.CODE, training_jobs.LEARNERS[job.learning.kind]]

    scored = watched("scored", measure.score_splits, roots_of_score, jobs.IN_THE_KEY)
    learned = watched("learned", training_jobs.learn, roots_of_lesson, training_jobs.IN_THE_KEY)
    monkeypatch.setattr(measure, "score_splits", scored)
    monkeypatch.setattr(training_jobs, "learn", learned)
    for features in done.work.glob("bench/*/*/features.h5"):
        target = tmp_path / features.relative_to(done.work)
        target.parent.mkdir(parents=True)
        shutil.copy(features, target)
    run_suite(done.suite, tmp_path, done.data)
    assert set(unknown) == {"scored", "learned"}
    assert unknown["scored"] | unknown["learned"] <= GLUE
