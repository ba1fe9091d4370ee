"""Features that came with a suite, and words for images from a list."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from bench_samples import results, run_suite, write_images, write_suite

from lsncli.backbones import load_backbone
from lsncli.bench.suite_toml import load_suite
from lsncli.errors import LsnError, UsageError
from lsncli.store.reader import list_splits, read_fingerprint
from lsncli.store.verify import verify
from lsncli.store.writer import CREATOR

ZOC = """
[tables.mine.rows."ZOC"]
method = "zoc"
vocabulary = "words.txt"
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory, tiny_model) -> Path:
    """The features that the suite's images have."""
    folder = tmp_path_factory.mktemp("bundle")
    run_suite(write_suite(folder, tiny_model), folder / "work", write_images(folder / "data"), rows=["MCM"])
    (found,) = folder.glob("work/bench/noise/*/features.h5")
    return found


@pytest.fixture
def suite(tmp_path, tiny_model, store) -> Path:
    path = write_suite(tmp_path, tiny_model)
    path.write_text('features = "bundle.h5"\n' + path.read_text() + ZOC)
    shutil.copyfile(store, tmp_path / "bundle.h5")
    (tmp_path / "words.txt").write_text("".join(f"word {number}\n" for number in range(50)))
    return path


def test_without_images_the_features_of_the_suite_are_measured(suite, store, tmp_path) -> None:
    table, _ = run_suite(suite, tmp_path / "work", None, rows=["MCM"])
    assert table.rows["MCM"]["Far/auroc"].mean is not None
    (copied,) = (tmp_path / "work").glob("bench/noise/*/features.h5")
    stored = list_splits(store)
    assert all(info.created_by.endswith(", runtime torch") for info in stored.values())
    written = {name: replace(info, created_by=CREATOR) for name, info in stored.items()}
    assert list_splits(copied) == written
    assert verify(copied) == []


def test_the_dry_run_tells_whose_features_they_are(suite, tmp_path) -> None:
    _, plan = run_suite(suite, tmp_path / "work", None, rows=["MCM"], dry=True)
    jobs = {job.what: (job.label, job.units, job.blocked) for job in plan.jobs() if job.kind == "extract"}
    assert jobs["features of in-test"] == ("extract from the suite's features", 9, "")


def test_other_images_of_the_same_name_are_extracted_instead(suite, tmp_path) -> None:
    data = write_images(tmp_path / "data")
    (data / "near" / "0.png").unlink()
    run_suite(suite, tmp_path / "work", data, rows=["MCM"])
    (made,) = (tmp_path / "work").glob("bench/noise/*/features.h5")
    assert list_splits(made)["near"].rows == 3
    assert list_splits(made)["far"].rows == 5


def test_features_of_a_suite_do_not_count_for_another_model(suite, tmp_path, tiny_model) -> None:
    shutil.copytree(tiny_model.removeprefix("local-dir:"), tmp_path / "copy")
    table, _ = run_suite(suite, tmp_path / "work", None, rows=["MCM"], model=f"local-dir:{tmp_path / 'copy'}")
    assert "no features of the set" in table.rows["MCM"]["Far/auroc"].why_missing


def test_a_store_that_is_not_there_is_an_error(suite, tmp_path) -> None:
    (tmp_path / "bundle.h5").unlink()
    with pytest.raises(LsnError, match=r"bundle\.h5"):
        run_suite(suite, tmp_path / "work", None, rows=["MCM"])


def test_zoc_takes_its_words_from_the_list(suite, tmp_path) -> None:
    table, _ = run_suite(suite, tmp_path / "work", None, rows=["ZOC"])
    first = table.rows["ZOC"]["Near/auroc"].mean
    assert first is not None
    files = list((tmp_path / "work").glob("bench/noise/*/candidates/*/*.jsonl"))
    assert {path.stem for path in files} == {"in-test", "near", "far"}
    lines = [json.loads(line) for line in next(p for p in files if p.stem == "far").read_text().splitlines()]
    assert [len(set(line["candidates"])) for line in lines] == [35] * 5
    records = results(tmp_path / "work")
    assert {one["vocabulary"] for one in records.values()} == {"words.txt"}
    (tmp_path / "words.txt").write_text("".join(f"thing {number}\n" for number in range(50)))
    run_suite(suite, tmp_path / "work", None, rows=["ZOC"])
    assert len(results(tmp_path / "work")) == 2 * len(records), "other words are another result"


def test_a_word_list_that_is_not_there_is_refused(suite, tmp_path) -> None:
    (tmp_path / "words.txt").unlink()
    with pytest.raises(UsageError, match=r"'vocabulary': expected one of .*imagenet1k.* or a file of words"):
        load_suite(str(suite))


def test_the_features_of_the_mini_suite_are_its_models_and_complete() -> None:
    suite = load_suite("mini")
    assert suite.features is not None
    assert verify(suite.features) == []
    there = list_splits(suite.features)
    for name, info in there.items():
        assert (info.rows, len(info.classes)) == (suite.sets[name].images, suite.sets[name].classes), name
        assert info.failures == ()
    for key, table in suite.tables.items():
        if key != "3":
            assert set(suite.needs(table)) <= set(there), key
    assert read_fingerprint(suite.features) == load_backbone("mini", device="cpu").fingerprint
