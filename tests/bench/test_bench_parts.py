"""The parts of the runner: results files, places, lines, estimates, progress."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bench_samples import write_suite

from lsncli.bench import runner as rates
from lsncli.bench.extraction import write_class_names
from lsncli.bench.jobs import table_rows
from lsncli.bench.results import Results
from lsncli.bench.runner import Progress
from lsncli.bench.suite_toml import load_suite
from lsncli.bench.suite_workspace import RowWorkspace
from lsncli.bench.tasks import ClassSubset, Loader, TaskSplit
from lsncli.bench.training_jobs import LearningSpec, run_trainings
from lsncli.console import duration
from lsncli.errors import LsnError, UsageError
from lsncli.images.class_names import class_names
from lsncli.prompts.dualcoop import DUAL
from lsncli.prompts.settings import preset
from lsncli.reference.datasets import Dataset
from lsncli.store.format import Split
from lsncli.store.writer import write_split
from lsncli.types import Fingerprint

FINGERPRINT = Fingerprint(
    "m", "", "00" * 32, 4, 8, "bicubic", "squash", (0.0,) * 3, (1.0,) * 3, "fp32", 100.0
)


def sample(name: str, classes: tuple[str, ...], each: int = 3) -> Split:
    labels = np.repeat(np.arange(len(classes)), each).astype(np.int32)
    features = np.arange(1, 4 * len(labels) + 1).reshape(-1, 4).astype(np.float16)
    return Split(name, features, labels, tuple(f"{i}.png" for i in range(len(labels))), classes)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "features.h5"
    write_split(path, sample("learn", ("a", "b", "c")), FINGERPRINT)
    write_split(path, sample("test", ("a", "b", "c"), 2), FINGERPRINT)
    write_split(path, sample("other", ("x", "y")), FINGERPRINT)
    return path


def test_results_come_back_by_key_and_the_last_one_wins(tmp_path: Path) -> None:
    results = Results(tmp_path / "deep" / "r.jsonl")
    assert results.read() == {}
    results.append([{"key": "a", "value": 1}, {"key": "b", "value": 2}])
    results.append([{"key": "a", "value": 3}])
    assert results.read() == {"a": {"key": "a", "value": 3}, "b": {"key": "b", "value": 2}}


@pytest.mark.parametrize("torn", [b'{"key": "c", "va', b"x" * 10_000, b'{"key": "c", "value": 5}'])
def test_a_torn_last_line_is_ignored_and_gives_way(tmp_path: Path, torn: bytes) -> None:
    results = Results(tmp_path / "r.jsonl")
    results.append([{"key": "a"}])
    with results.path.open("ab") as file:
        file.write(torn)
    assert set(results.read()) == {"a"}
    results.append([{"key": "b"}])
    assert [json.loads(line)["key"] for line in results.path.read_text().splitlines()] == ["a", "b"]


def test_a_file_that_is_one_torn_line_starts_anew(tmp_path: Path) -> None:
    results = Results(tmp_path / "r.jsonl")
    results.path.write_bytes(b'{"ke')
    results.append([{"key": "b"}])
    assert results.path.read_text() == '{"key": "b"}\n'


def test_damaged_lines_are_passed_over(tmp_path: Path) -> None:
    results = Results(tmp_path / "r.jsonl")
    results.path.write_text('{"key": "a"}\nnot json\n[1]\n{"no": "key"}\n{"key": "b"}\n')
    assert set(results.read()) == {"a", "b"}


def test_a_part_takes_classes_in_its_own_order_under_its_own_names() -> None:
    part = ClassSubset("learn", ("c", "a"), ("sea", "air")).of(
        sample("learn", ("a", "b", "c")), "learn@train"
    )
    assert part.classes == ("sea", "air")
    assert part.labels.tolist() == [1, 1, 1, 0, 0, 0]
    assert part.keys == ("0.png", "1.png", "2.png", "6.png", "7.png", "8.png")
    assert part.features[3].tolist() == [25, 26, 27, 28]


def test_a_part_without_classes_is_the_whole_set() -> None:
    whole = sample("other", ("x", "y"))
    assert ClassSubset("other").of(whole, "other@Far").features is whole.features


def test_a_class_that_a_set_lacks_is_named(store: Path) -> None:
    place = TaskSplit("p", 0, ClassSubset("learn", ("a", "z")), ClassSubset("test", ("a", "z")), {})
    with pytest.raises(LsnError, match="no class 'z'"):
        Loader(store).load(place)


def test_a_place_has_the_rows_of_its_parts(store: Path) -> None:
    inside, rest = ("c", "a"), ClassSubset("test", ("b",))
    task = Loader(store).load(
        TaskSplit("p", 0, ClassSubset("learn", inside), ClassSubset("test", inside), {"rest": rest})
    )
    assert (task.train.name, task.test.name, task.ood["rest"].name) == (
        "learn@train",
        "test@test",
        "test@rest",
    )
    assert [len(one.labels) for one in (task.train, task.test, task.ood["rest"])] == [6, 4, 2]
    parts = task.rows(1, seed=0)
    assert (len(parts.train), len(parts.held_out)) == (2, 2)


def test_classes_cannot_be_id_and_ood_at_once(store: Path) -> None:
    inside = ClassSubset("test", ("a", "b"))
    for rest in (ClassSubset("test", ("b", "c")), ClassSubset("test")):
        with pytest.raises(LsnError, match="ID and OOD"):
            Loader(store).load(TaskSplit("p", 0, ClassSubset("learn", ("a", "b")), inside, {"rest": rest}))


def test_a_place_without_training_images_has_classes_and_nothing_to_learn_from(store: Path) -> None:
    task = Loader(store).load(TaskSplit("p", 0, None, ClassSubset("test"), {"far": ClassSubset("other")}))
    assert task.train.classes == ("a", "b", "c")
    assert len(task.train.labels) == 0
    with pytest.raises(LsnError, match="no images to learn from"):
        task.rows(None, 0)


def test_rows_are_named_as_users_type_them(tmp_path: Path) -> None:
    suite = load_suite(str(write_suite(tmp_path, "mini")))
    rows = table_rows(suite, suite.table("mine"), rows=["coop+lsn", "mcm"])
    assert [row.name for row in rows] == ["MCM", "CoOp + LSN (ours)"]
    with pytest.raises(UsageError, match="no row 'CoOpp'"):
        table_rows(suite, suite.table("mine"), rows=["CoOpp"])


def test_a_mode_and_a_model_take_the_place_of_the_suites(tmp_path: Path) -> None:
    suite = load_suite(str(write_suite(tmp_path, "mini")))
    lines = {one.name: one for one in table_rows(suite, suite.table("mine"), mode="paper", model="RN50:x")}
    positive = lines["CoOp"].learnings[0].settings
    assert positive is not None
    assert (positive.mode, positive.rate, positive.epochs) == ("paper", 0.002, 2)
    assert lines["elsewhere"].unavailable == ""  # the user's model is of the architecture it lacks
    assert lines["elsewhere"].model == lines["MCM"].model == ""
    other = {one.name: one for one in table_rows(suite, suite.table("mine"), model="ViT-B-32:x")}
    assert other["elsewhere"].unavailable == "There are no weights."


def test_words_that_images_select_need_training_images() -> None:
    rows = {row.name: row for row in table_rows(load_suite("mini"), load_suite("mini").table("later"))}
    assert rows["NegLabel (images)"].fits_rows
    assert not rows["NegLabel (WordNet)"].fits_rows


def test_table_3_has_five_splits_but_for_cifar_50() -> None:
    mini = load_suite("mini")
    (row,) = table_rows(mini, mini.table(3), rows=["MCM"])
    counts = {name: sum(place.id == name for place in row.splits) for name in ("CIFAR10", "CIFAR+50")}
    assert counts == {"CIFAR10": 5, "CIFAR+50": 1}
    assert len(table_rows(mini, mini.table(3), rows=["MCM"], splits=1)[0].splits) == 5
    first = row.splits[0]
    assert set(first.test.classes).isdisjoint(first.ood["4 other classes"].classes)
    with pytest.raises(UsageError, match="--splits"):
        table_rows(mini, mini.table(3), splits=0)


def test_an_unavailable_line_is_measured_when_the_user_supplied_what_it_lacks(tmp_path: Path) -> None:
    paper = load_suite("paper")
    (row,) = table_rows(paper, paper.table(3), rows=["ZOC"])
    row = replace(row, splits=row.splits[:1])
    work = RowWorkspace(tmp_path)
    assert not row.supplied(work)
    path = work.candidates("cifar10-test@rest")
    path.parent.mkdir()
    path.write_text("")
    assert row.supplied(work)


def test_a_row_sees_only_what_was_learned_for_it(tmp_path: Path) -> None:
    (tmp_path / "positive.safetensors").write_text("")
    work = RowWorkspace(tmp_path, files={"negative": tmp_path / "n.safetensors"})
    assert not work.positive.is_file()
    assert work.negative == tmp_path / "n.safetensors"


def test_several_jobs_use_all_gpus_and_one_uses_the_best_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "gpus", lambda name: ["cuda:0", "cuda:1"] if name == "auto" else [])
    monkeypatch.setattr(rates, "pick_device", lambda name: {"auto": "cuda"}.get(name, name))
    assert rates._devices("auto", 4) == ["cuda:0", "cuda:1"]
    assert rates._devices("auto", 1) == ["cuda"]
    assert rates._devices("cuda:1", 4) == ["cuda:1"]
    assert rates._devices("cpu", 4) == ["cpu"]


def test_estimates_are_the_median_of_earlier_jobs(tmp_path: Path) -> None:
    timings = Results(tmp_path / "t.jsonl")
    timings.append([{"label": "a", "units": 10, "seconds": one} for one in (10.0, 20.0, 90.0)])
    known = rates.Rates(timings)
    assert known.estimate("a", 5) == 10.0
    assert known.estimate("b", 5) is None
    assert known.estimate("a", None) is None


def test_progress_tells_what_is_left(tmp_path: Path) -> None:
    notes: list[str] = []
    ticks: list[int] = []

    def progress(step: int, note: str = "") -> None:
        ticks.append(step)
        notes.append(note)

    progress = Progress(
        {"one": ("a", 10), "two": ("a", 20)}, rates.Rates(Results(tmp_path / "t")), progress, True
    )
    progress.start("one")
    progress.finish("one", 10, 30.0)
    progress.start("two")
    assert notes[0] == "one"
    assert notes[-1] == "two; about 60 s left"
    assert sum(ticks) == 1
    assert [duration(one) for one in (12.3, 300, 9000)] == ["12 s", "5 min", "2.5 h"]


def test_the_time_left_includes_what_comes_later(tmp_path: Path) -> None:
    notes: list[str] = []
    progress = Progress(
        {"one": ("a", 10)},
        rates.Rates(Results(tmp_path / "t")),
        lambda step, note="": notes.append(note),
        True,
        [("a", 20), ("b", 1)],
    )
    progress.start("one")
    progress.finish("one", 10, 30.0)
    progress.start("two")
    assert notes[-1] == "two; at least 60 s left"


def test_a_learning_is_called_by_its_preset_and_what_differs() -> None:
    shared = LearningSpec("negative", preset("negative", "fast", specific=False, weight=0.0))
    assert str(shared) == "negative, CoOp, fast, specific=False, weight=0.0"
    assert str(LearningSpec("linear")) == "linear head"
    assert str(LearningSpec("dualcoop", DUAL)) == "dualcoop, CoOp, paper"


def test_what_is_learned_hangs_on_model_rows_settings_and_seed() -> None:
    train = ("checksum", ("a", "b"), ())
    one = LearningSpec("positive", preset("positive", "fast"), 4)
    keys = [
        one.key("mini", "model", train, 0),
        one.key("mini", "other", train, 0),
        one.key("mini", "model", ("else", *train[1:]), 0),
        one.key("mini", "model", ("checksum", ("b", "a"), ()), 0),
        one.key("mini", "model", train, 1),
        replace(one, shots=5).key("mini", "model", train, 0),
        LearningSpec("positive", preset("positive", "best"), 4).key("mini", "model", train, 0),
    ]
    assert len(set(keys)) == len(keys)
    assert one.key("mini", "model", train, 0) == keys[0]


def test_folders_of_a_published_set_get_its_class_names(tmp_path: Path) -> None:
    known = Dataset("s", "S", class_list="tinyimagenet")
    folders = ("n02124075", "n03992509_potters_wheel")
    path = write_class_names(tmp_path / "names" / "s.json", folders, known)
    assert class_names(folders, path) == ("Egyptian cat", "potter's wheel")
    assert write_class_names(tmp_path / "t.json", (*folders, "else"), known) is None
    assert write_class_names(tmp_path / "t.json", folders, replace(known, labelled=False)) is None
    assert write_class_names(tmp_path / "t.json", folders, None) is None


class Doomed:
    """Training whose process is killed over it."""

    def run(self) -> float:
        os.kill(os.getpid(), signal.SIGKILL)
        return 0.0


def test_a_killed_process_is_an_error_in_a_sentence() -> None:
    with (
        pytest.raises(LsnError, match="A process that learned prompts was killed"),
        run_trainings([Doomed(), Doomed()], 2) as finished,  # type: ignore[list-item]
    ):
        list(finished)
